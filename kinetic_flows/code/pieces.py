"""Large parts of a pickled call: objects of their own, made of the memory that has them already.

Nothing is copied. A part is cut into pieces of bounded size, each is hashed where it is, and sent
from there. What is sent has to be what was hashed, and an array can be changed meanwhile: that is
noticed by a checksum, which costs little beside the digest.
"""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.job_parts import ObjectRef, Sha256
from kinetic_flows.core.object_names import piece_object

PIECE_LIMIT_BYTES = 32 << 20
"""What is larger is several pieces, which are hashed, sent and fetched at the same time."""

UPLOADERS = 8
HASHERS = 4
_CHUNK_BYTES = 1 << 20

EMPTY = memoryview(b"")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A large part of a pickled call, or some of one.

    Attributes:
        sha256: Its digest.
        size_bytes: Its size.
        checksum: Its CRC-32.
        data: The memory that has it; empty once the store has it.
    """

    sha256: Sha256
    size_bytes: int
    checksum: int = 0
    data: memoryview = field(default=EMPTY, repr=False, compare=False)

    def ref(self, owner: str) -> ObjectRef:
        """Return the object that it is in the store.

        Args:
            owner: Whose piece it is: a run, the flow run above several, or a job for a worker.
        """
        return ObjectRef(
            name=piece_object(owner, self.sha256), sha256=self.sha256, size_bytes=self.size_bytes
        )


def cut(content: Any) -> tuple[Piece, ...]:
    """Return what bytes, or anything else that is one block of memory, are as pieces."""
    view = memoryview(content).cast("B")
    parts = [
        view[start : start + PIECE_LIMIT_BYTES]
        for start in range(0, view.nbytes, PIECE_LIMIT_BYTES)
    ]
    return tuple(in_threads(_piece, parts, threads=HASHERS) if len(parts) > 1 else [_piece(view)])


def upload_pieces(
    pieces: Sequence[Piece],
    store: ArtifactStore,
    owner: str,
    tell: Callable[[str], None] = lambda _text: None,
) -> None:
    """Put pieces into the store that it does not have, from the memory that they are in.

    Args:
        pieces: The pieces.
        store: Where to.
        owner: Whose they are.
        tell: Told in a few words how far this is.

    Raises:
        UsageError: A piece is not any more what it was when the call was pickled.
        StoreError: The store refused one.
    """
    total, lock, sent = sum(piece.size_bytes for piece in pieces), threading.Lock(), [0]

    def upload(piece: Piece) -> None:
        name = piece_object(owner, piece.sha256)
        is_new = store.put_if_absent(name, piece.data)
        # What was there before is what was pickled, whatever became of it since.
        if is_new and _is_changed(piece):
            store.delete(name)
            raise _changed(total)
        with lock:
            sent[0] += piece.size_bytes
            tell(f"sending arguments: {size_in_units(sent[0])} of {size_in_units(total)}")

    in_threads(upload, pieces, threads=UPLOADERS)


def _piece(view: memoryview) -> Piece:
    digest, checksum = hashlib.sha256(), 0
    # In one pass over memory, so that both are of the same bytes as far as that can be.
    for start in range(0, view.nbytes, _CHUNK_BYTES):
        chunk = view[start : start + _CHUNK_BYTES]
        digest.update(chunk)
        checksum = zlib.crc32(chunk, checksum)
    return Piece(
        sha256=Sha256(digest.hexdigest()), size_bytes=view.nbytes, checksum=checksum, data=view
    )


def _is_changed(piece: Piece) -> bool:
    """Whether memory that may be written to is not what it was when it was hashed."""
    return not isinstance(piece.data.obj, bytes) and zlib.crc32(piece.data) != piece.checksum


def _changed(total: int) -> UsageError:
    return UsageError(
        "an argument was changed while it was sent: it is not any more what was pickled "
        f"({size_in_units(total)} in all)",
        value=None,
        hint="let nothing write to it until the run is launched, or pass a copy",
    )
