"""Digesting files in the order of a walk, several at a time."""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event, Lock
from typing import NamedTuple

from kinetic_flows.code.data.format import PART_BYTES
from kinetic_flows.code.data.known import KnownFiles
from kinetic_flows.code.data.listening import Listener
from kinetic_flows.code.data.walk import Found, Walk
from kinetic_flows.code.resting import open_regular
from kinetic_flows.code.secret_files import holds_secret, may_hold_secret
from kinetic_flows.core.interruption import pause

THREADS = 4
BATCH_FILES = 256
BATCH_BYTES = 16 << 20
"""A batch is done by one thread; only so many of them are there at a time."""
TRIES = 3
"""How often a file is read that becomes shorter meanwhile."""

LOOK_SECONDS = 0.2
"""How often it is looked whether the work is interrupted while a large file is read."""

_READ_BYTES = 1 << 20


class Digested(NamedTuple):
    """A file, link or empty directory, and what is in it.

    Attributes:
        found: What it is; a file's size is that of what was read.
        digests: SHA-256 of a file's content, or of each of its parts; none for others.
        is_secret: Whether a file holds a secret.
        read_at_ns: The time just before it was opened; None when it was not read, or is gone.
    """

    found: Found
    digests: tuple[str, ...] = ()
    is_secret: bool = False
    read_at_ns: int | None = None


class Digests:
    """Digests what a walk comes upon.

    Args:
        walk: The walk.
        known: What is known from before, and takes what is found out.
        listener: Told how far it is.
    """

    def __init__(self, walk: Walk, known: KnownFiles, listener: Listener) -> None:
        self._walk = walk
        self._known = known
        self._listener = listener
        self._counting = Lock()
        self._files = self._size_bytes = 0
        self._stop = Event()

    def __iter__(self) -> Iterator[Digested]:
        """Yield everything in the walk's order; files that cannot be read are noted, and left out.

        Raises:
            KeyboardInterrupt: The work was interrupted.
        """
        pending: deque[Future[list[Digested | None]]] = deque()
        with ThreadPoolExecutor(THREADS) as pool:
            try:
                for batch in self._batches():
                    pending.append(pool.submit(self._digest, batch))
                    if len(pending) > 2 * THREADS:
                        yield from self._taken(pending.popleft())
                while pending:
                    yield from self._taken(pending.popleft())
            finally:
                self._stop.set()
                for future in pending:
                    future.cancel()

    def _batches(self) -> Iterator[list[Digested]]:
        """Yield what the walk comes upon, so much at a time that one thread has little to read."""
        walk = iter(self._walk)
        while some := list(itertools.islice(walk, BATCH_FILES)):
            known = self._known.find(some)
            batch: list[Digested] = []
            to_read = 0
            for found in some:
                batch.append(Digested(found, *known.get(found.path, ())))
                to_read += 0 if batch[-1].digests else found.size_bytes
                if to_read >= BATCH_BYTES:
                    yield batch
                    batch, to_read = [], 0
            yield batch

    def _taken(self, future: Future[list[Digested | None]]) -> Iterator[Digested]:
        while not wait([future], LOOK_SECONDS).done:
            pause(0)
        pause(0)
        for item in future.result():
            if item is None:
                continue
            self._count(
                item.found.kind == "file", item.found.size_bytes if item.read_at_ns is None else 0
            )
            if item.read_at_ns is not None:
                self._known.remember(
                    item.found,
                    item.digests,
                    is_secret=item.is_secret,
                    read_at_ns=item.read_at_ns,
                )
            if item.is_secret and not self._walk.patterns.name(item.found.path):
                self._walk.remarks.secret.add(item.found.path)
            else:
                yield item

    def _count(self, files: int, size_bytes: int) -> None:
        """Count what was looked at, and tell of it."""
        with self._counting:
            self._files += files
            self._size_bytes += size_bytes
            files, size_bytes = self._files, self._size_bytes
        self._listener.read(files, size_bytes)

    def _digest(self, batch: list[Digested]) -> list[Digested | None]:
        """Digest those files of a batch that are not known; None for what is left out."""
        return [
            self._read(item.found) if item.found.kind == "file" and not item.digests else item
            for item in batch
        ]

    def _read(self, found: Found) -> Digested | None:
        place = os.fsdecode(self._walk.place(found.path))
        for _ in range(TRIES):
            if self._stop.is_set():
                raise KeyboardInterrupt
            read_at_ns = time.time_ns()
            handle = open_regular(place)
            if handle is None:
                if os.path.lexists(place):
                    self._walk.remarks.unreadable.add(found.path)
                return None
            try:
                digested = self._read_open(handle, found, read_at_ns)
            except OSError:
                self._walk.remarks.unreadable.add(found.path)
                return None
            finally:
                os.close(handle)
            if digested:
                return digested
        self._walk.remarks.unreadable.add(found.path)
        return None

    def _read_open(self, handle: int, found: Found, read_at_ns: int) -> Digested | None:
        """Digest an open file; None where it became shorter while it was read."""
        status = os.fstat(handle)
        found = found._replace(
            size_bytes=status.st_size,
            version=(status.st_mtime_ns, status.st_ctime_ns, status.st_ino),
        )
        is_large, looked_into = found.size_bytes > PART_BYTES, b""
        digests, digest, offset = [], hashlib.sha256(), 0
        while offset < found.size_bytes:
            limit = min(found.size_bytes, (offset // PART_BYTES + 1) * PART_BYTES)
            piece = os.read(handle, min(_READ_BYTES, limit - offset))
            if not piece or self._stop.is_set():
                return None
            digest.update(piece)
            self._count(0, len(piece))
            looked_into = looked_into or piece
            offset += len(piece)
            if is_large and offset == limit:
                digests.append(digest.hexdigest())
                digest = hashlib.sha256()
        is_secret = may_hold_secret(found.path, found.size_bytes) and holds_secret(looked_into)
        done = tuple(digests) if is_large else (digest.hexdigest(),)
        return Digested(found, done, is_secret, read_at_ns)
