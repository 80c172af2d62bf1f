"""Large parts of a call: objects of their own, and memory that is out of band in its pickle.

The client's side is `kinetic_flows/code/pieces.py`. A buffer is a file here, put together of its
pieces as they come. The function's process maps it, so that it is in memory as far as it is looked
at; what the function writes to it is that process's own.
"""

from __future__ import annotations

import hashlib
import io
import mmap
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import IO, Any

from .contract import EXIT_CODE_NOT_RESTORED, NO_ROOM, Fault
from .fetching import Ref, Store, in_parallel, pass_on


def fetch_pieces(
    store: Store, pieces: Sequence[Ref], frame: Mapping[str, Any], directory: str
) -> None:
    """Fetch the pieces of a call: into files of their digests, and into those of buffers.

    Args:
        store: Where they are.
        pieces: The job's pieces.
        frame: The call's frame, which says what they are pieces of.
        directory: Where the files go.

    Raises:
        Fault: A piece cannot be fetched, does not match its digest, or finds no room.
    """
    sizes = {piece["sha256"]: piece["size_bytes"] for piece in pieces}
    places = _places(frame, sizes, directory)
    try:
        in_parallel(partial(_fetch, store, piece, places[piece["sha256"]]) for piece in pieces)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise Fault(EXIT_CODE_NOT_RESTORED, _no_room(sum(sizes.values()), directory)) from error


def _places(
    frame: Mapping[str, Any], sizes: Mapping[str, int], directory: str
) -> dict[str, list[tuple[str, int]]]:
    """Return where each piece is written: files, and positions in them."""
    in_pickle = {part for part in frame["call"] if isinstance(part, str)}
    places = {
        digest: [(os.path.join(directory, digest), 0)] if digest in in_pickle else []
        for digest in sizes
    }
    for digests in set(map(tuple, frame["buffers"])):
        path, position = os.path.join(directory, buffer_name(digests)), 0
        for digest in digests:
            places[digest].append((path, position))
            position += sizes[digest]
    return places


def buffer_name(digests: Sequence[str]) -> str:
    """Return what the file of a buffer is called that is made of some pieces."""
    return "buffer-" + hashlib.sha256("".join(digests).encode()).hexdigest()


def open_buffer(digests: Sequence[str], directory: str) -> mmap.mmap:
    """Return a buffer's memory, which may be written to and changes no file."""
    with open(os.path.join(directory, buffer_name(digests)), "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


class Parts(io.RawIOBase):
    """A pickle in parts, as one file that is read from its beginning to its end.

    Args:
        parts: Bytes, and digests of pieces.
        directory: Where the files of pieces are.
    """

    def __init__(self, parts: Iterable[Any], directory: str) -> None:
        super().__init__()
        self._parts = iter(parts)
        self._directory = directory
        self._part: Any = io.BytesIO()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, target: Any) -> int:
        """Read as much as one part has."""
        while True:
            size: int = self._part.readinto(target)
            if size:
                return size
            self._part.close()
            part = next(self._parts, None)
            if part is None:
                self._part = io.BytesIO()
                return 0
            self._part = io.BytesIO(part) if isinstance(part, bytes) else self._open(part)

    def _open(self, digest: str) -> IO[bytes]:
        return open(os.path.join(self._directory, digest), "rb", buffering=0)


class _Places:
    """Writes what comes to every place that a piece has.

    Args:
        files: Descriptors of the files, by their paths.
        places: The places: files, and positions in them.
    """

    def __init__(self, files: Mapping[str, int], places: Sequence[tuple[str, int]]) -> None:
        self._places = [(files[path], position) for path, position in places]
        self._done = 0

    def write(self, data: bytes, /) -> None:
        for file, position in self._places:
            rest, place = memoryview(data), position + self._done
            while rest:
                written = os.pwrite(file, rest, place)
                rest, place = rest[written:], place + written
        self._done += len(data)


def _fetch(store: Store, piece: Ref, places: Sequence[tuple[str, int]]) -> None:
    files: dict[str, int] = {}
    try:
        for path in {path for path, _ in places}:
            files[path] = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        pass_on(store, piece, _Places(files, places))
    finally:
        for file in files.values():
            os.close(file)


def _no_room(size_bytes: int, directory: str) -> str:
    import shutil

    from .data_work import in_words

    free = shutil.disk_usage(directory).free
    return (
        f"the call's arguments ({in_words(size_bytes)}) do not fit on the disk of the run, "
        f"which has {in_words(free)} left"
    )
