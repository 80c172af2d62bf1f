"""Output directories of this machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from kinetic_flows.core.errors import ObjectNotFoundError, StoreError, UsageError
from kinetic_flows.core.output_files import OutputFile

PIECE_BYTES = 1 << 20


class DirectoryOutputs:
    """The files of a directory.

    Args:
        root: The directory, which need not be there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    def check(self) -> None:
        """Ask whether the directory is there, or can be made.

        Raises:
            UsageError: It cannot be written to.
        """
        nearest = self._root
        while not nearest.exists() and nearest != nearest.parent:
            nearest = nearest.parent
        if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
            why = "cannot be written to" if nearest.is_dir() else "is no directory"
            raise UsageError(
                f"outputs cannot go to {self._root}: {nearest} {why}",
                value=str(self._root),
                hint="give a directory that can be made and written to",
            )

    def list(self) -> Iterator[OutputFile]:
        """Yield every file, in the order of their names."""
        yield from sorted(self._files(), key=lambda file: file.name)

    def read(self, file: OutputFile, start: int) -> Iterator[bytes]:
        """Yield a file's content from a position on.

        Raises:
            ObjectNotFoundError: It is gone, or was changed.
            StoreError: It cannot be read.
        """
        path = self._root / file.name
        with _errors(path), path.open("rb") as source:
            if _version(os.fstat(source.fileno())) != file.version:
                raise ObjectNotFoundError(f"{path} has changed", value=str(path))
            source.seek(start)
            while piece := source.read(PIECE_BYTES):
                yield piece

    def checksum(self, file: OutputFile) -> str:
        """Return the SHA-256 of a file."""
        path = self._root / file.name
        with _errors(path):
            return self.checksum_of(path)

    def checksum_of(self, path: Path) -> str:
        """Return the SHA-256 of a copy."""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _files(self) -> Iterator[OutputFile]:
        for folder, _, names in os.walk(self._root):
            for name in names:
                path = Path(folder) / name
                try:
                    info = path.stat()
                except OSError:  # gone meanwhile, or a link to nowhere
                    continue
                if path.is_file():
                    yield OutputFile(
                        name=path.relative_to(self._root).as_posix(),
                        size_bytes=info.st_size,
                        updated=datetime.fromtimestamp(info.st_mtime, UTC),
                        version=_version(info),
                    )


def _version(info: os.stat_result) -> str:
    return f"{info.st_mtime_ns:x}-{info.st_size:x}"


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Translate what the file system says about a file."""
    try:
        yield
    except FileNotFoundError as error:
        raise ObjectNotFoundError(f"{path} is gone", value=str(path)) from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read: {error.strerror}",
            value=str(path),
            hint="the run's function has written it; check who may read it",
        ) from error
