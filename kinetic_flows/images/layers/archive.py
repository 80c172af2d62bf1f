"""A layer's bytes: a tar archive that is the same wherever it is written, in gzip.

What a wheel holds is compressed already, by the algorithm of gzip; and a gzip file may be made of
many members (RFC 1952, 2.2). So the compressed data of a wheel's file is taken as it is, in a
member of its own whose beginning, with the header of the archive, ends on the border of a byte
without ending the data (RFC 1951, 3.2.4).
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from kinetic_flows.images.layers.digests import Digest
from kinetic_flows.images.layers.model import LayerBlob

EPOCH_SECONDS = 315_532_800
"""1980-01-01, the earliest time that a zip file can tell; some tools refuse earlier ones."""

BLOCK_BYTES = 512
FILE_MODE, PROGRAM_MODE = 0o644, 0o755

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LEVEL = 6
_RAW = -15
_HEADERS = (1, zlib.DEFLATED, -12, 5)
"""How headers alone are compressed: a small window, which is made thirty times faster."""

_LARGEST_IN_HEADER = 0o77777777777


class LayerWriter:
    """Writes a layer, in the order in which it is given files.

    Used as a context manager, it leaves no file behind unless it was closed.

    Args:
        target: The file that gets the compressed bytes; it is there once all of them are.
    """

    def __init__(self, target: Path) -> None:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".")
        self._target, self._draft = target, Path(name)
        self._file = os.fdopen(handle, "wb")
        self._diff_id, self._digest = Digest(), Digest()
        self._size_bytes = 0
        self._directories: set[str] = set()
        self._pending = bytearray()
        self._compressor: zlib._Compress | None = None
        self._crc, self._member_bytes = 0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()
        self._diff_id.abandon()
        self._digest.abandon()
        self._draft.unlink(missing_ok=True)

    def add_file(self, path: str, data: bytes, *, executable: bool = False) -> None:
        """Add a file.

        Args:
            path: Its path in the image, relative to the root.
            data: Its content.
            executable: Whether it is a program.
        """
        self.add_stream(path, len(data), (data,), executable=executable)

    def add_stream(
        self, path: str, size_bytes: int, pieces: Iterable[bytes], *, executable: bool = False
    ) -> None:
        """Add a file in pieces; as `add_file`.

        Args:
            path: Its path in the image, relative to the root.
            size_bytes: Size of its content.
            pieces: Its content, which has that size.
            executable: Whether it is a program.
        """
        self._add_header(path, size_bytes, executable=executable)
        for data in pieces:
            self._compress(data)
        self._pad(size_bytes)

    def add_deflated(
        self,
        path: str,
        size_bytes: int,
        pieces: Iterable[tuple[bytes, bytes]],
        *,
        executable: bool = False,
    ) -> None:
        """Add a file whose content is compressed already.

        Args:
            path: Its path in the image, relative to the root.
            size_bytes: Size of its content.
            pieces: Pieces of one complete stream of raw deflate data, each with what it inflates
                to: whoever gives them has seen to it that the stream ends with the last piece.
            executable: Whether it is a program.
        """
        self._add_header(path, size_bytes, executable=executable)
        if self._compressor is None:
            self._open_member(zlib.compressobj(*_HEADERS))
        self._feed()
        assert self._compressor is not None
        self._write(self._compressor.flush(zlib.Z_SYNC_FLUSH))
        for raw, plain in pieces:
            self._write(raw)
            self._account(plain)
        self._close_member()
        self._pad(size_bytes)

    def add_link(self, path: str, to: str) -> None:
        """Add a symbolic link.

        Args:
            path: Its path in the image, relative to the root.
            to: What it says.
        """
        self._add_parents(path)
        self._pending += header(path, link=to)

    def close(self) -> LayerBlob:
        """Write the end, and give the file its name."""
        self._compress(bytes(2 * BLOCK_BYTES))
        assert self._compressor is not None
        self._write(self._compressor.flush(zlib.Z_FINISH))
        self._close_member()
        self._file.close()
        digest, diff_id = self._digest.finish(), self._diff_id.finish()
        self._draft.replace(self._target)
        return LayerBlob(
            digest=f"sha256:{digest}", diff_id=f"sha256:{diff_id}", size_bytes=self._size_bytes
        )

    def _add_header(self, path: str, size_bytes: int, *, executable: bool) -> None:
        self._add_parents(path)
        mode = PROGRAM_MODE if executable else FILE_MODE
        self._pending += header(path, size_bytes=size_bytes, mode=mode)

    def _add_parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if not parent or parent in self._directories:
            return
        self._add_parents(parent)
        self._directories.add(parent)
        self._pending += header(f"{parent}/", mode=PROGRAM_MODE)

    def _pad(self, size_bytes: int) -> None:
        self._pending += bytes(-size_bytes % BLOCK_BYTES)

    def _compress(self, data: bytes) -> None:
        """Write data in a member whose compressor is ours to the end."""
        if self._compressor is None:
            self._open_member(zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW))
        self._pending += data
        self._feed()

    def _open_member(self, compressor: zlib._Compress) -> None:
        self._compressor = compressor
        self._write(_GZIP_HEADER)

    def _feed(self) -> None:
        assert self._compressor is not None
        data = bytes(self._pending)
        self._pending.clear()
        self._account(data)
        self._write(self._compressor.compress(data))

    def _account(self, plain: bytes) -> None:
        self._crc = zlib.crc32(plain, self._crc)
        self._member_bytes += len(plain)
        self._diff_id.update(plain)

    def _close_member(self) -> None:
        self._write(struct.pack("<LL", self._crc, self._member_bytes & 0xFFFFFFFF))
        self._compressor, self._crc, self._member_bytes = None, 0, 0

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self._size_bytes += len(data)


def header(path: str, *, size_bytes: int = 0, mode: int = 0o777, link: str = "") -> bytes:
    """Return what a tar archive says of a file, directory or link before its content.

    It is written here, because `tarfile` writes some fields in another way in other versions of
    Python. The format is that of POSIX.1-2001 (pax), with a further header only for what the
    plain one has no room for.

    Args:
        path: Its path; a directory's ends in `/`.
        size_bytes: Size of its content.
        mode: Its rights.
        link: What a symbolic link says; empty for none.
    """
    kind = b"2" if link else b"5" if path.endswith("/") else b"0"
    records = {}
    place = _place(path)
    if place is None:
        records["path"], place = path, (b"", _shortened(path))
    linked = link.encode()
    if not link.isascii() or len(linked) > 100:
        records["linkpath"], linked = link, _shortened(link)
    if size_bytes > _LARGEST_IN_HEADER:
        records["size"], size_bytes = str(size_bytes), 0
    plain = _plain_header(place, size_bytes, mode, kind, linked)
    if not records:
        return plain
    extended = b"".join(_record(name, value) for name, value in sorted(records.items()))
    padding = bytes(-len(extended) % BLOCK_BYTES)
    before = _plain_header((b"", b"././@PaxHeader"), len(extended), FILE_MODE, b"x", b"")
    return before + extended + padding + plain


def _place(path: str) -> tuple[bytes, bytes] | None:
    """Split a path in two as a header has room for it; None where it has none."""
    name = path.encode()
    if not path.isascii():
        return None
    if len(name) <= 100:
        return b"", name
    cut = name.find(b"/", len(name) - 101)
    if 0 < cut <= 155 and name[cut + 1 :]:
        return name[:cut], name[cut + 1 :]
    return None


def _shortened(text: str) -> bytes:
    return text.encode("ascii", "replace")[:100]


def _record(name: str, value: str) -> bytes:
    """Return a line of an extended header, which begins with its own length."""
    rest = f" {name}={value}\n".encode()
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _plain_header(
    place: tuple[bytes, bytes], size_bytes: int, mode: int, kind: bytes, link: bytes
) -> bytes:
    prefix, name = place
    number = b"%07o\0"
    packed = struct.pack(
        "100s8s8s8s12s12s8ss100s6s2s32s32s8s8s155s12x",
        name,
        number % mode,
        number % 0,
        number % 0,
        b"%011o\0" % size_bytes,
        b"%011o\0" % EPOCH_SECONDS,
        b" " * 8,
        kind,
        link,
        b"ustar\0",
        b"00",
        b"",
        b"",
        number % 0,
        number % 0,
        prefix,
    )
    return packed[:148] + b"%06o\0 " % sum(packed) + packed[156:]
