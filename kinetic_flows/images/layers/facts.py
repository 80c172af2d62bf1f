"""What a wheel says of itself."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.metadata import parse_email
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from kinetic_flows.core.files import printable
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.layers.wheel import Wheel


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a package needs.

    Attributes:
        requires: Its `Requires-Dist` lines.
        requires_python: Its `Requires-Python`; empty for any.
    """

    requires: tuple[str, ...]
    requires_python: str


def read_requirements(wheel: Wheel, info: str, file: WheelFile) -> Requirements:
    """Read a wheel's METADATA, which has to be of this package.

    Args:
        wheel: The open wheel.
        info: Path of its metadata in it.
        file: What it is said to be.

    Raises:
        WheelRefused: It is of another package, or has none.
    """
    path = f"{info}/METADATA"
    said, _ = parse_email(wheel.metadata(path))
    name, version = said.get("name", ""), said.get("version", "")
    if not is_of(file, name, version):
        wheel.refuse(f"its METADATA is of {printable(f'{name} {version}')}, not of {file}", path)
    return Requirements(
        requires=tuple(said.get("requires_dist", ())),
        requires_python=said.get("requires_python", ""),
    )


def is_of(file: WheelFile, name: str, version: str) -> bool:
    """Whether a name and a version, however they are written, are those of a package."""
    try:
        is_same = Version(version) == Version(file.version)
    except InvalidVersion:
        return False
    return is_same and canonicalize_name(name) == canonicalize_name(file.name)
