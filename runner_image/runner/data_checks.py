"""The checks that files of data have to pass: a digest as their source tells it."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any, Protocol

from .contract import EXIT_OBJECT_REFUSED, EXIT_RUNTIME_UNFIT, Fault


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...


class Refused(Fault):
    """Something is not what it must be."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(EXIT_OBJECT_REFUSED, f"{name} is refused: {why}")


class Check:
    """A check of one file, whose content it is given in order.

    Args:
        name: What the file is called, for people.
        size_bytes: Its size; None for any.
        digest: `sha256:`, `crc32:` or `crc32c:` and hexadecimal digits, or `git:` and those of
            the SHA-1 of a git blob; empty for any.
    """

    def __init__(self, name: str, size_bytes: int | None, digest: str) -> None:
        self.name = name
        self._size_bytes = size_bytes
        self._kind, _, self._expected = digest.partition(":")
        self._hash = _begun(self._kind, size_bytes or 0)
        self._seen = 0

    def update(self, data: bytes | memoryview) -> None:
        """Take further content."""
        self._seen += len(data)
        if self._size_bytes is not None and self._seen > self._size_bytes:
            raise self._refused(f"it is larger than the {self._size_bytes} bytes it must have")
        self._hash.update(data)

    def finish(self) -> None:
        """Raise `Refused` unless the content was what it must be."""
        if self._size_bytes is not None and self._seen != self._size_bytes:
            raise self._refused(f"it has {self._seen} bytes, not {self._size_bytes}")
        found = _hexadecimal(self._hash)
        if self._kind and found != self._expected:
            raise self._refused(f"its {_TITLES[self._kind]} is {found}, not {self._expected}")

    def _refused(self, why: str) -> Refused:
        return Refused(self.name, why)


_TITLES = {
    "sha256": "SHA-256",
    "git": "SHA-1 as a git blob",
    "crc32c": "CRC32C",
    "crc32": "CRC32",
}


class _Crc32:
    """As zlib has it: for what only a killed process can have damaged."""

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | memoryview) -> None:
        """Take content."""
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        """Return it."""
        return f"{self._value:08x}"


class _Nothing:
    """Checks nothing."""

    def update(self, data: bytes | memoryview) -> None:
        """Take content."""

    def hexdigest(self) -> str:
        """Return nothing."""
        return ""


def _begun(kind: str, size_bytes: int) -> _Hash:
    if kind == "sha256":
        return hashlib.sha256()
    if kind == "git":
        # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
        return hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    if kind == "crc32c":
        return _crc32c()
    return _Crc32() if kind == "crc32" else _Nothing()


def _crc32c() -> _Hash:
    try:
        import google_crc32c
    except ImportError as error:
        message = f"the image lacks google-crc32c, which comes with google-cloud-storage: {error}"
        raise Fault(EXIT_RUNTIME_UNFIT, message) from error
    checksum: _Hash = google_crc32c.Checksum()
    return checksum


def _hexadecimal(hashed: Any) -> str:
    found = hashed.hexdigest()
    return found.decode() if isinstance(found, bytes) else str(found)
