"""Compiles sources of Python that it is sent, for as long as it is sent any.

It is run by an interpreter of any minor version, as a program of its own, so it has nothing but the
standard library. Its bytecode is checked against no source when it is imported (PEP 552): layers
do not change, and their files all have one time.

What it is sent, and what it answers, are messages of parts: their number, and each one's length and
bytes. First it says which Python it is; then, to a message of names and sources in turn, it answers
the bytecode of each, empty for one that does not compile.
"""

from __future__ import annotations

import importlib.util
import marshal
import struct
import sys
from typing import IO

UNCHECKED = (1).to_bytes(4, "little")
NUMBER = struct.Struct("<Q")


def receive(stream: IO[bytes]) -> list[bytes]:
    """Read a message; nothing where there are no more.

    Raises:
        EOFError: It ends in the middle of one.
    """
    number = stream.read(NUMBER.size)
    if not number:
        return []
    return [_exactly(stream, _number(stream)) for _ in range(NUMBER.unpack(number)[0])]


def _number(stream: IO[bytes]) -> int:
    found: int = NUMBER.unpack(_exactly(stream, NUMBER.size))[0]
    return found


def _exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError("a message ended in its middle")
    return data


def send(stream: IO[bytes], parts: list[bytes]) -> None:
    """Write a message."""
    stream.write(NUMBER.pack(len(parts)))
    for part in parts:
        stream.write(NUMBER.pack(len(part)))
        stream.write(part)
    stream.flush()


def bytecode(source: bytes, name: str) -> bytes:
    """Return the content of a .pyc file; nothing for a source that does not compile."""
    try:
        data = marshal.dumps(compile(source, name, "exec", dont_inherit=True, optimize=0))
    except (SyntaxError, ValueError, RecursionError, OverflowError, MemoryError):
        return b""
    return importlib.util.MAGIC_NUMBER + UNCHECKED + importlib.util.source_hash(source) + data


def main() -> None:
    """Answer until nothing more comes."""
    received, sent = sys.stdin.buffer, sys.stdout.buffer
    major, minor, *_ = sys.version_info
    is_final = sys.version_info.releaselevel == "final"
    version = f"{major}.{minor}" if is_final else f"{major}.{minor} (no release)"
    send(sent, [f"{sys.implementation.name} {version}".encode()])
    while parts := receive(received):
        pairs = zip(parts[::2], parts[1::2], strict=True)
        send(sent, [bytecode(source, name.decode()) for name, source in pairs])


if __name__ == "__main__":
    main()
