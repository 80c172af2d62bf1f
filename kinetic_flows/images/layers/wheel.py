"""Reading a wheel's file without believing it.

A zip file says everything twice, in its directory and before each file, and different programs
believe different halves. A wheel whose halves differ is refused, as is one that holds other things
than files and directories, or more than it says.
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import NoReturn, Self

from kinetic_flows.core.files import printable, size_in_units
from kinetic_flows.images.layers.paths import wrong_name
from kinetic_flows.images.layers.refused import refused

MOST_FILES = 300_000
LARGEST_BYTES = 32 << 30
"""A limit on all that is in a wheel; the largest of CUDA hold some 2 GB."""
ALWAYS_ALLOWED_BYTES = 64 << 20
LARGEST_RATIO = 100
"""How many times its own size a wheel may hold, beyond what is always allowed."""
LARGEST_METADATA_BYTES = 64 << 20

UNREADABLE = (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError, OSError)
"""What `zipfile` raises over a file that makes no sense."""

PIECE_BYTES = 1 << 20
INFLATED_BYTES = 4 << 20

_LOCAL = struct.Struct("<4x2x2H4x3L2H")
_LOCAL_MARK = b"PK\x03\x04"
_ENCRYPTED, _EFFORT, _SIZES_FOLLOW, _UTF8 = 0x1, 0x6, 0x8, 0x800
_KNOWN_FLAGS = _EFFORT | _SIZES_FOLLOW | _UTF8
"""Flags of a plain entry, of which one tells how hard the compressor tried."""
_IN_ZIP64 = 0xFFFFFFFF
_ZIP64 = 1


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file in a wheel.

    Attributes:
        path: Its path in the wheel.
        size_bytes: Size of its content.
        crc: CRC-32 of its content.
        executable: Whether it is a program.
        deflated: Whether it is compressed.
        begin: Where its data begins in the wheel's file.
        length: How long its data is there.
    """

    path: str
    size_bytes: int
    crc: int
    executable: bool
    deflated: bool
    begin: int
    length: int


class Wheel:
    """An open wheel, whose structure was found to be sound.

    Args:
        path: Its file.
        filename: The name it has for people, which says what it is.

    Raises:
        WheelRefused: It is damaged, or made to be read differently by different programs.
    """

    def __init__(self, path: Path, filename: str) -> None:
        self.filename = filename
        self._file = path.open("rb")
        try:
            self.entries = self._read_entries()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def refuse(self, why: str, value: object = None) -> NoReturn:
        """Raise the error about this wheel."""
        raise refused(self.filename, why, value=value)

    def _read_entries(self) -> dict[str, Entry]:
        try:
            with zipfile.ZipFile(self._file) as archive:
                found, end = archive.infolist(), archive.start_dir
        except UNREADABLE as bad:
            self.refuse(f"it is not a sound zip file ({bad or type(bad).__name__})")
        self._check_amount(found)
        entries: dict[str, Entry] = {}
        position = 0
        for info in sorted(found, key=lambda info: info.header_offset):
            self._check_kind(info)
            begin = self._data_begin(info, position)
            position = begin + info.compress_size
            if position > end:
                self.refuse(f"{printable(info.filename)} reaches beyond its end")
            if not info.is_dir():
                if info.filename in entries:
                    self.refuse(f"it has {printable(info.filename)} twice", info.filename)
                entries[info.filename] = _entry(info, begin)
        return entries

    def _check_amount(self, found: Sequence[zipfile.ZipInfo]) -> None:
        if len(found) > MOST_FILES:
            self.refuse(f"it has {len(found)} files, of which {MOST_FILES} are allowed")
        own, held = os.fstat(self._file.fileno()).st_size, sum(info.file_size for info in found)
        if held > LARGEST_BYTES or held > ALWAYS_ALLOWED_BYTES + LARGEST_RATIO * own:
            units = size_in_units(own), size_in_units(held)
            self.refuse(f"its {units[0]} would become {units[1]}", held)

    def _check_kind(self, info: zipfile.ZipInfo) -> None:
        path, shown = info.filename, printable(info.orig_filename)
        if path != info.orig_filename:
            self.refuse(f"{shown} has two names", info.orig_filename)
        if wrong := wrong_name(path.removesuffix("/")):
            self.refuse(wrong, path)
        if not path.isascii() and not info.flag_bits & _UTF8:
            self.refuse(f"the name {shown} is not marked as UTF-8", path)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG) and not (info.is_dir() and kind == stat.S_IFDIR):
            self.refuse(f"{shown} is {_kind_in_words(kind)}", path)
        if info.flag_bits & _ENCRYPTED:
            self.refuse(f"{shown} is encrypted", path)
        plain = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if not plain or info.flag_bits & ~_KNOWN_FLAGS:
            self.refuse(f"{shown} is compressed in a way that wheels are not", path)
        if info.is_dir() and info.file_size:
            self.refuse(f"{shown} is a directory with content", path)
        if not _says_one_size(info):
            self.refuse(f"{shown} says two sizes", path)

    def _data_begin(self, info: zipfile.ZipInfo, position: int) -> int:
        """Return where an entry's data begins; what stands before it has to say the same."""
        shown = printable(info.filename)
        if info.header_offset < 0:
            self.refuse(f"its beginning is missing, with {shown}", info.filename)
        if info.header_offset < position:
            self.refuse(f"{shown} overlaps with another file", info.filename)
        if position == 0 and info.header_offset:
            self.refuse("something stands before its first file", info.filename)
        start = self.read(info.header_offset, _LOCAL.size)
        if len(start) < _LOCAL.size or not start.startswith(_LOCAL_MARK):
            self.refuse(f"{shown} is not where its directory says", info.filename)
        flags, method, crc, short, size, name_length, extra_length = _LOCAL.unpack(start)
        begin = info.header_offset + _LOCAL.size + int(name_length)
        name, extra = self.read(begin - name_length, name_length), self.read(begin, extra_length)
        same = (
            name == info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437"),
            (flags ^ info.flag_bits) & ~_EFFORT == 0,
            method == info.compress_type,
            _sizes_agree(info, flags, (crc, size, short), extra),
        )
        if not all(same):
            self.refuse(f"it says two things of {shown}", info.filename)
        return begin + int(extra_length)

    def read(self, begin: int, length: int) -> bytes:
        """Read from the wheel's file; several threads may."""
        return os.pread(self._file.fileno(), length, begin)

    def digest(self) -> str:
        """Return the SHA-256 of the wheel's file in hexadecimal digits."""
        digest, begin = sha256(), 0
        while data := self.read(begin, PIECE_BYTES):
            digest.update(data)
            begin += len(data)
        return digest.hexdigest()

    def pieces(self, entry: Entry) -> Iterator[tuple[bytes, bytes]]:
        """Yield a file's data as the wheel has it, each piece with the content that it holds.

        Raises:
            WheelRefused: Its content has another size or checksum than the wheel says.
        """
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        begin, end = entry.begin, entry.begin + entry.length
        crc, held = 0, 0
        while begin < end:
            raw = self.read(begin, min(PIECE_BYTES, end - begin))
            if not raw:
                self.refuse(f"{printable(entry.path)} ends too early", entry.path)
            begin += len(raw)
            for plain in self._inflated(inflater, raw, entry) if entry.deflated else (raw,):
                held += len(plain)
                if held > entry.size_bytes:
                    self.refuse(f"{printable(entry.path)} holds more than it says", entry.path)
                crc = zlib.crc32(plain, crc)
                yield raw, plain
                raw = b""
        if entry.deflated and not inflater.eof:
            self.refuse(f"{printable(entry.path)} ends too early", entry.path)
        if held != entry.size_bytes:
            self.refuse(f"{printable(entry.path)} has not the size that it says", entry.path)
        if crc != entry.crc:
            self.refuse(f"{printable(entry.path)} has not the checksum that it says", entry.path)

    def _inflated(self, inflater: zlib._Decompress, raw: bytes, entry: Entry) -> Iterator[bytes]:
        """Yield what a piece of data inflates to, little by little: it may be a great deal."""
        plain = b""
        while raw or len(plain) == INFLATED_BYTES:
            try:
                plain = inflater.decompress(raw, INFLATED_BYTES)
            except zlib.error as error:
                self.refuse(f"{printable(entry.path)} is damaged ({error})", entry.path)
            raw = inflater.unconsumed_tail
            yield plain
        if inflater.unused_data:
            self.refuse(f"something stands behind {printable(entry.path)}", entry.path)

    def metadata(self, path: str) -> bytes:
        """Return the content of a file that tells of the wheel.

        Raises:
            WheelRefused: There is no such file, or it is too large to be one; and as `pieces`.
        """
        entry = self.entries.get(path)
        if entry is None:
            self.refuse(f"it has no {printable(path)}", path)
        if entry.size_bytes > LARGEST_METADATA_BYTES:
            self.refuse(f"{printable(path)} is {size_in_units(entry.size_bytes)}", path)
        return b"".join(plain for _, plain in self.pieces(entry))


def _entry(info: zipfile.ZipInfo, begin: int) -> Entry:
    return Entry(
        path=info.filename,
        size_bytes=info.file_size,
        crc=info.CRC,
        executable=bool(info.external_attr >> 16 & 0o111),
        deflated=info.compress_type == zipfile.ZIP_DEFLATED,
        begin=begin,
        length=info.compress_size,
    )


def _says_one_size(info: zipfile.ZipInfo) -> bool:
    """Whether an entry that is not compressed is as long as its content."""
    stored = info.compress_type == zipfile.ZIP_STORED
    return not stored or info.compress_size == info.file_size


def _sizes_agree(
    info: zipfile.ZipInfo, flags: int, said: tuple[int, int, int], extra: bytes
) -> bool:
    """Whether what stands before a file says of its content what the directory says.

    See APPNOTE.TXT 4.3.7, 4.4.4 and 4.5.3: https://pkware.cachefly.net/webdocs/casestudies/
    """
    crc, size, short = said
    large = _zip64_sizes(extra)
    if large is None:
        return False
    wide = iter(large)
    size, short = (next(wide, told) if told == _IN_ZIP64 else told for told in (size, short))
    follows = bool(flags & _SIZES_FOLLOW)
    pairs = ((crc, info.CRC), (size, info.file_size), (short, info.compress_size))
    return all(told == known or (follows and told in (0, _IN_ZIP64)) for told, known in pairs)


def _zip64_sizes(extra: bytes) -> list[int] | None:
    """Return the sizes of an extra field for large files; None for fields that are unsound."""
    found: list[int] = []
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if length > len(extra) - 4:
            return None
        if kind == _ZIP64:
            if found or length % 8:
                return None
            found = list(struct.unpack(f"<{length // 8}Q", extra[4 : 4 + length]))
        extra = extra[4 + length :]
    return found


def _kind_in_words(kind: int) -> str:
    words = {
        stat.S_IFLNK: "a link",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFDIR: "a directory with the name of a file",
    }
    return words.get(kind, "neither a file nor a directory")
