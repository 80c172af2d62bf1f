"""Fetching the objects a job names, each checked against its digest before it is used."""

from __future__ import annotations

import hashlib
import io
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import IO, Any, Protocol

from .contract import EXIT_OBJECT_REFUSED, Fault, pieces_of

PARALLEL = 8
IN_MEMORY_BYTES = 32 << 20
"""Uncompressed packs larger than this are kept in a file while they are checked."""

Ref = Mapping[str, Any]
"""An `ObjectRef` of the job: `name`, `sha256` and `size_bytes`."""


class _Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


_GZIP = 16 + zlib.MAX_WBITS


class Store(Protocol):
    """What fetching needs of a store."""

    def open(self, name: str, size_bytes: int) -> IO[bytes]:
        """Open an object for reading."""
        ...


def fetch(store: Store, ref: Ref) -> bytes:
    """Return an object's bytes.

    Raises:
        Fault: It cannot be fetched, or does not match its digest.
    """
    with store.open(ref["name"], ref["size_bytes"]) as source:
        data = source.read(ref["size_bytes"] + 1)
    _check(ref, hashlib.sha256(data).hexdigest(), len(data))
    return data


def fetch_to_file(store: Store, ref: Ref, path: str) -> None:
    """Write an object's bytes to a new file; as `fetch`."""
    with open(path, "xb") as target:
        pass_on(store, ref, target)


def pass_on(store: Store, ref: Ref, target: _Writable) -> None:
    """Write an object's bytes to an open file as they come; as `fetch`.

    The last of them is written when all are known to be right.
    """
    with store.open(ref["name"], ref["size_bytes"]) as source:
        _copy_checked(ref, pieces_of(source), target)


def fetch_pack(store: Store, ref: Ref, path: str) -> IO[bytes]:
    """Return the uncompressed content of a code pack, open at its start.

    Args:
        store: Where it is.
        ref: Its name, and the digest and size of its uncompressed content.
        path: A file to use when it is too large for memory.

    Raises:
        Fault: It cannot be fetched or uncompressed, or does not match its digest.
    """
    large = ref["size_bytes"] > IN_MEMORY_BYTES
    target: IO[bytes] = open(path, "x+b") if large else io.BytesIO()  # noqa: SIM115 - returned
    with store.open(ref["name"], ref["size_bytes"]) as source:
        try:
            _copy_checked(ref, _uncompressed(source), target)
        except zlib.error as error:
            raise _refused(ref, f"it cannot be uncompressed ({error})") from error
    target.seek(0)
    return target


def in_parallel(jobs: Iterable[Callable[[], None]]) -> None:
    """Run some jobs in a few threads; raise the first error that one of them raised."""
    waiting = list(jobs)
    errors: list[BaseException] = []

    def work() -> None:
        while waiting and not errors:
            try:
                job = waiting.pop()
            except IndexError:
                return
            try:
                job()
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(min(PARALLEL, len(waiting)) - 1)]
    for thread in threads:
        thread.start()
    work()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _copy_checked(ref: Ref, pieces: Iterable[bytes], target: _Writable) -> None:
    digest, size, held = hashlib.sha256(), 0, b""
    for piece in pieces:
        size += len(piece)
        if size > ref["size_bytes"]:
            break
        digest.update(piece)
        target.write(held)
        held = piece
    _check(ref, digest.hexdigest(), size)
    target.write(held)


def _uncompressed(source: IO[bytes]) -> Iterator[bytes]:
    """Yield the content of a gzip stream in pieces of bounded size, whatever it expands to."""
    expander = zlib.decompressobj(_GZIP)
    for piece in pieces_of(source):
        while piece:
            yield expander.decompress(piece, IN_MEMORY_BYTES // 8)
            piece = expander.unconsumed_tail
    yield expander.flush()


def _check(ref: Ref, found: str, size_bytes: int) -> None:
    if size_bytes != ref["size_bytes"]:
        raise _refused(ref, f"its size is not {ref['size_bytes']} bytes")
    if found != ref["sha256"]:
        raise _refused(ref, f"its SHA-256 is {found}, not {ref['sha256']}")


def _refused(ref: Ref, why: str) -> Fault:
    return Fault(EXIT_OBJECT_REFUSED, f"the object {ref['name']} is refused: {why}")
