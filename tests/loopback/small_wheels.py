"""Wheels of a few bytes for whatever they stand in for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kinetic_flows.core.wheel_file import WheelFile
from odd_wheels import OddWheel


def make_wheel(
    directory: Path,
    name: str,
    version: str,
    files: Mapping[str, str | bytes] | None = None,
    *,
    tag: str = "py3-none-any",
    requires: tuple[str, ...] = (),
) -> WheelFile:
    """Make a wheel in a directory; equal contents give equal wheels.

    Args:
        directory: Where it is written.
        name: The package's name.
        version: Its version.
        files: Its contents by their path; none for a package of metadata alone.
        tag: What it is for.
        requires: Its `Requires-Dist` lines.
    """
    wheel = OddWheel(name=name, version=version, files=files or {}, tag=tag, requires=requires)
    return wheel.write(directory)[0]
