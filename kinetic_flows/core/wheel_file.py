"""A wheel of a lock: the one file of a package that a target takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from kinetic_flows.core.job_parts import Sha256


@dataclass(frozen=True, kw_only=True)
class WheelFile:
    """One wheel, by its content.

    Attributes:
        name: The package's canonical name.
        version: Its version.
        filename: The wheel's file name.
        sha256: Digest of the wheel.
        size_bytes: Its size; 0 when it is not known.
        url: Where it can be downloaded by anybody, without credentials; empty for a wheel that
            ships, which the project's store has.
    """

    name: str
    version: str
    filename: str
    sha256: Sha256
    size_bytes: int
    url: str = ""

    @property
    def is_for_any_python(self) -> bool:
        """Whether every minor version of Python 3 takes it: its name ends in `py3-none-…`."""
        python, abi = self.filename.removesuffix(".whl").split("-")[-3:-1]
        return abi == "none" and "py3" in python.split(".")

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


class WheelSource(Protocol):
    """Where wheels come from when a layer has to be made of them."""

    def fetch(self, wheel: WheelFile) -> Path:
        """Return a wheel's file, checked against its digest; several threads may ask at once.

        Raises:
            KineticError: It cannot be had, or is something else than was locked.
        """
        ...
