"""An artifact store in a directory of this machine.

An object is a file that appears under its name in one step: it is written elsewhere in the
store first and then linked to its name, so a reader, or a client killed half-way, never leaves
or sees a part of one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from kinetic_flows.core.artifact_store import Content, ObjectInfo, StoredObject
from kinetic_flows.core.errors import ObjectNotFoundError, StoreError
from kinetic_flows.core.files import exclusive_lock, private_directory

INCOMING = ".incoming"
LOCK = ".lock"
LEFTOVER_AGE_SECONDS = 24 * 3600
MAPPED_FROM_BYTES = 1 << 20

_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


class LocalStore:
    """Objects as files under one directory, readable by their owner only.

    An object's generation is the digest of its content.

    Args:
        root: The directory; made when the first object is written.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._swept = False

    @property
    def uri(self) -> str:
        """The directory as a `file:///…` URI (RFC 8089), special characters quoted."""
        return self._root.as_uri()

    def check(self) -> None:
        """Find nothing: the directory is made when it is needed."""

    def get(self, name: str) -> StoredObject:
        """Return an object.

        Raises:
            ObjectNotFoundError: There is none of this name.
            StoreError: The name is malformed or the file cannot be read.
        """
        with _store_errors(name), _found(name):
            data = self._path(name).read_bytes()
        return StoredObject(data=data, generation=_generation(data))

    def read(self, name: str) -> memoryview:
        """Return an object's content in memory of its own, which may be written to.

        What is large is mapped, so that it is in memory as far as it is looked at, and once.

        Raises:
            ObjectNotFoundError: There is none of this name.
            StoreError: The name is malformed or the file cannot be read.
        """
        with _store_errors(name), _found(name), self._path(name).open("rb") as file:
            if os.fstat(file.fileno()).st_size < MAPPED_FROM_BYTES:
                return memoryview(bytearray(file.read()))
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))

    def put_if_absent(self, name: str, data: Content) -> bool:
        """Write an object, from memory or from a file, unless the name is taken.

        Returns:
            True when this call wrote it, False when it was already there.

        Raises:
            StoreError: The name is malformed or the file cannot be written.
        """
        target = self._path(name)
        with _store_errors(name):
            if target.exists():
                return False
            with self._incoming(data) as written:
                private_directory(target.parent)
                return self._claim(written, target)

    def replace_if_unchanged(self, name: str, data: bytes, generation: str | None) -> str | None:
        """Write an object if its generation is still the one given (None: if there is none).

        Returns:
            The new generation, or None when another client was faster.

        Raises:
            StoreError: The name is malformed or the file cannot be written.
        """
        if generation is None:
            return _generation(data) if self.put_if_absent(name, data) else None
        target = self._path(name)
        with _store_errors(name), self._incoming(data) as written, self._locked():
            if not target.is_file() or _generation(target.read_bytes()) != generation:
                return None
            written.replace(target)
        return _generation(data)

    def missing(self, names: Iterable[str]) -> set[str]:
        """Return those names that the store does not have."""
        return {name for name in names if not self._path(name).is_file()}

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with the prefix, in name order."""
        folder = prefix.rpartition("/")[0]
        start = self._path(folder) if folder else self._root
        found = sorted(name for name in self._names_under(start) if name.startswith(prefix))
        for name in found:
            with contextlib.suppress(FileNotFoundError):
                info = self._path(name).stat()
                updated = datetime.fromtimestamp(info.st_mtime, UTC)
                yield ObjectInfo(name=name, size_bytes=info.st_size, updated=updated)

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens when there is none."""
        with _store_errors(name), self._locked(), contextlib.suppress(FileNotFoundError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        malformed = any(part in ("", ".", "..") for part in parts) or "\0" in name
        if malformed or parts[0] in (INCOMING, LOCK):
            raise StoreError(
                f"object name {name!r} is malformed",
                value=name,
                hint="use relative names such as packs/abc: no '..', no empty part",
            )
        return self._root.joinpath(*parts)

    def _names_under(self, start: Path) -> Iterator[str]:
        for folder, folders, files in os.walk(start):
            if Path(folder) == self._root:
                folders[:] = [item for item in folders if item != INCOMING]
                files = [item for item in files if item != LOCK]
            for file in files:
                yield (Path(folder) / file).relative_to(self._root).as_posix()

    @contextlib.contextmanager
    def _incoming(self, data: Content) -> Iterator[Path]:
        """Write data to a file of the store that has no name yet, removed afterwards."""
        folder = self._root / INCOMING
        private_directory(folder)
        self._sweep(folder)
        handle, name = tempfile.mkstemp(dir=folder)
        path = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
                else:
                    file.write(data)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _claim(self, written: Path, target: Path) -> bool:
        """Give a written file its name, unless the name is taken."""
        try:
            os.link(written, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
        else:
            return True
        with self._locked():
            if target.exists():
                return False
            written.replace(target)
            return True

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        """Hold the lock that makes compare-and-swap one step among this store's clients."""
        return exclusive_lock(self._root / LOCK)

    def _sweep(self, folder: Path) -> None:
        """Remove, once per process, what clients killed long ago left behind."""
        if self._swept:
            return
        self._swept = True
        oldest = time.time() - LEFTOVER_AGE_SECONDS
        for leftover in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()


def _generation(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def _found(name: str) -> Iterator[None]:
    """Say of an object that it is not there."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise ObjectNotFoundError(
            f"the store has no object {name!r}",
            value=name,
            hint="it was deleted, or never written; submit again to write it",
        ) from error


@contextlib.contextmanager
def _store_errors(name: str) -> Iterator[None]:
    """Translate what the file system says about an object."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"object {name!r} cannot be read or written: {error.strerror}",
            value=name,
            hint="check the permissions and the free space of the store's directory",
        ) from error
