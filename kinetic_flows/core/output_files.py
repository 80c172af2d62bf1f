"""The files that runs have written: what they are, and where they are read from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class OutputFile:
    """A file that a run has written to its directory of outputs.

    Attributes:
        name: Its path below that directory, with `/` between the parts.
        size_bytes: Its size.
        updated: When it was written last.
        version: What tells this version of it from others: a generation, or a moment and a size.
        checksum: What Cloud Storage says of its content; empty where nobody has said it.
    """

    name: str
    size_bytes: int
    updated: datetime
    version: str = field(default="", repr=False)
    checksum: str = field(default="", repr=False)


class OutputSource(Protocol):
    """Where the files of one directory of outputs are read."""

    def check(self) -> None:
        """Raise `KineticError` where it is certain that nothing can be written there."""
        ...

    def list(self) -> Iterator[OutputFile]:
        """Yield every file, in the order of their names; none where there is no directory."""
        ...

    def read(self, file: OutputFile, start: int) -> Iterator[bytes]:
        """Yield a file's content from a position on, in pieces of bounded size.

        Raises:
            ObjectNotFoundError: It is gone, or another version has taken its place.
            StoreError: It cannot be read.
        """
        ...

    def checksum(self, file: OutputFile) -> str:
        """Return the checksum of a file, as `checksum_of` makes it of a copy.

        Raises:
            ObjectNotFoundError: It is gone.
            StoreError: It cannot be read.
        """
        ...

    def checksum_of(self, path: Path) -> str:
        """Return the checksum of a copy."""
        ...
