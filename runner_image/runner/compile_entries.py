"""Compiled programs as objects of the store: signed, since they are code that a run loads.

The client's side is `kinetic_flows/core/compile_cache.py`. An entry is a line with its magic, one
with the HMAC-SHA256 of everything behind it, one with its header, and then what JAX has written.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from itertools import chain
from typing import IO, Any

from .compile_files import opened
from .contract import pieces_of

ENTRY_MAGIC = b"kinetic-compiled-1\n"

KEY_VARIABLE = "KINETIC_COMPILE_CACHE_KEY"
BLOCK_VARIABLE = "KINETIC_COMPILE_CACHE_BLOCK"
"""Prefect's Secret block that has the key, for runs that a Prefect worker starts."""

HEAD_BYTES = 16 << 10
"""What stands before JAX's part is never longer."""


class EntryRefused(Exception):
    """What an object has is no entry of this place that was signed with this key."""


def head_of(
    path: str,
    key: str,
    *,
    name: str,
    prefix_and_host: str,
    size_bytes: int,
    compile_seconds: float | None,
    made_at: float,
) -> bytes:
    """Return what precedes the body in an entry.

    Args:
        path: The body: the file that JAX has written.
        key: What entries are signed with, in hexadecimal.
        name: Name of the file in JAX's directory.
        prefix_and_host: What names of its host's entries begin with.
        size_bytes: Size of the file.
        compile_seconds: How long its compilation took; None where that is not known.
        made_at: When, in seconds since 1970.
    """
    header = {
        "name": name,
        "prefix_and_host": prefix_and_host,
        "size_bytes": size_bytes,
        "compile_seconds": compile_seconds,
        "made_at": made_at,
    }
    line = json.dumps(header, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    signature = hmac.new(bytes.fromhex(key), line, hashlib.sha256)
    with opened(path) as file:
        for piece in pieces_of(file):
            signature.update(piece)
    return ENTRY_MAGIC + signature.hexdigest().encode() + b"\n" + line


def receive(
    pieces: Iterable[bytes], target: IO[bytes], key: str, *, name: str, prefix_and_host: str
) -> dict[str, Any]:
    """Write the body of an entry as it comes, and return its header.

    What was written is not to be used where this raises.

    Args:
        pieces: The object's content.
        target: Where the body goes.
        key: What entries are signed with, in hexadecimal.
        name: Name of the file in JAX's directory that it is to be.
        prefix_and_host: What names of its host's entries begin with.

    Raises:
        EntryRefused: It is not what this key has signed for this place.
    """
    coming = iter(pieces)
    head = b""
    for piece in coming:
        head += piece
        if head.count(b"\n") >= 3 or len(head) > HEAD_BYTES:
            break
    magic, signed, line, *_ = head[:HEAD_BYTES].split(b"\n", 3) + [b""] * 2
    if magic + b"\n" != ENTRY_MAGIC or not line:
        raise EntryRefused
    signature = hmac.new(bytes.fromhex(key), line + b"\n", hashlib.sha256)
    size_bytes = 0
    # Not copied: it may be large.
    begins = len(magic) + len(signed) + len(line) + 3
    rest: Iterable[Any] = chain([memoryview(head)[begins:]], coming)
    for piece in rest:
        signature.update(piece)
        target.write(piece)
        size_bytes += len(piece)
    if not hmac.compare_digest(signature.hexdigest().encode(), signed):
        raise EntryRefused
    header: dict[str, Any] = json.loads(line)
    told = (header["name"], header["prefix_and_host"], header["size_bytes"])
    if told != (name, prefix_and_host, size_bytes):
        raise EntryRefused
    return header
