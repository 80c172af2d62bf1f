"""The directory in which JAX keeps compiled programs: what is in it, and whether that is whole.

JAX writes a file for each program, under its key and since 0.4.32 with `-cache` at its end, and
does not write it aside first (`jax/_src/lru_cache.py`): a process that is killed leaves half of
one. Where JAX is told how large the directory may be, each has a file `-atime` beside it. XLA
keeps what it has tried out on a GPU in a directory of its own below it.
"""

from __future__ import annotations

import os
import re
import stat
import time
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from .contract import pieces_of

OF_GPU = "xla_gpu_per_fusion_autotune_cache_dir"
"""Its name is that of the XLA flag that JAX sets (`jax/_src/compiler.py`)."""

CACHE_SUFFIX, ATIME_SUFFIX = "-cache", "-atime"
TIME_BYTES = 4
"""How many bytes of a program, uncompressed, say in how many seconds it was compiled."""

SETTLED_SECONDS = 30.0
"""A file whose format does not show whether it is whole is, when it was not touched for so long."""

_NAME = re.compile(rf"(?:{OF_GPU}/)?[\w=+,@()-][\w.=+,@()-]*", re.ASCII)
_UNFINISHED = ("_temp_",)
"""What the names of files begin with that JAX before 0.4.32 still writes."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZLIB_FIRST = 0x78
_ZSTD_ID_BYTES, _ZSTD_SIZE_BYTES = (0, 1, 2, 4), (0, 2, 4, 8)


class Kept(NamedTuple):
    """A file in the directory.

    Attributes:
        name: Its name there.
        path: Where it is.
        size_bytes: Its size.
        changed_at: When it was written to last, in seconds since 1970.
        was_read: Whether it was read since it was brought here.
    """

    name: str
    path: str
    size_bytes: int
    changed_at: float
    was_read: bool


def is_name(name: str) -> bool:
    """Whether a file may have such a name in the directory."""
    return bool(_NAME.fullmatch(name)) and not name.endswith(ATIME_SUFFIX)


def kept_files(directory: str) -> list[Kept]:
    """Return the programs in the directory, the largest first; what is gone again is left out."""
    found = []
    for below in ("", OF_GPU):
        for entry in _scanned(os.path.join(directory, below).rstrip("/")):
            name = f"{below}/{entry.name}" if below else entry.name
            if not is_name(name) or entry.name.startswith(_UNFINISHED):
                continue
            try:
                told = entry.stat(follow_symlinks=False)
                is_file = entry.is_file(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if is_file:
                read = told.st_atime > 0
                found.append(Kept(name, entry.path, told.st_size, told.st_mtime, read))
    return sorted(found, key=lambda kept: -kept.size_bytes)


def opened(path: str) -> IO[bytes]:
    """Open a file that the function's process may have made, and may have made anything of.

    Raises:
        OSError: It cannot be read, or is no file, such as a pipe or a link.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    file = os.fdopen(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{path} is no file")
    return file


def put_in(directory: str, name: str, written: str) -> bool:
    """Give a file that was written aside its name; return whether JAX had none of that name.

    Its time of access is set so that being read shows: most file systems note that only for files
    that were written to since, or a day ago (`relatime` in mount(8)).
    """
    path = os.path.join(directory, name)
    if name.startswith(OF_GPU):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    elif name.endswith(CACHE_SUFFIX):
        # JAX reads these before it makes room, and has none for what it has not written.
        with open(path.removesuffix(CACHE_SUFFIX) + ATIME_SUFFIX, "wb") as file:
            file.write(time.time_ns().to_bytes(8, "little"))
    os.utime(written, (0, time.time()))
    try:
        os.link(written, path)
    except FileExistsError:
        return False
    finally:
        os.unlink(written)
    return True


def notes_reads(directory: str) -> bool:
    """Whether the file system notes when files are read."""
    path = os.path.join(directory, ".read")
    with open(path, "wb") as file:
        file.write(b".")
    os.utime(path, (0, time.time()))
    with open(path, "rb") as file:
        file.read()
    noted = os.stat(path).st_atime > 0
    os.unlink(path)
    return noted


def is_whole(kept: Kept, *, is_over: bool) -> bool:
    """Whether a file has all of its content.

    Args:
        kept: The file.
        is_over: Whether nobody writes any more.
    """
    with opened(kept.path) as file:
        first = file.read(len(_ZSTD_MAGIC))
        file.seek(0)
        if len(first) < len(_ZSTD_MAGIC):
            # JAX would not write it anew, and compile it each time.
            return False
        if first == _ZSTD_MAGIC:
            return _is_zstd_frame(file, kept.size_bytes)
        if first[:1] == bytes([_ZLIB_FIRST]):
            return _is_zlib_stream(file)
    return is_over or time.time() - kept.changed_at > SETTLED_SECONDS


def compile_seconds_of(path: str) -> float | None:
    """Return how long a program was compiled, as JAX notes it in whole seconds; None: unknown."""
    with opened(path) as file:
        first = file.read(1 << 16)
    if first.startswith(_ZSTD_MAGIC):
        expanded = _zstd_beginning(first)
    elif first[:1] == bytes([_ZLIB_FIRST]):
        try:
            expanded = zlib.decompressobj().decompress(first, TIME_BYTES)
        except zlib.error:
            return None
    else:
        return None
    if len(expanded) < TIME_BYTES:
        return None
    return float(int.from_bytes(expanded[:TIME_BYTES], "big"))


def _zstd_beginning(first: bytes) -> bytes:
    try:
        import compression.zstd as zstd  # type: ignore[import-not-found]  # since Python 3.14
    except ImportError:
        return b""
    try:
        return bytes(zstd.ZstdDecompressor().decompress(first, TIME_BYTES))
    except zstd.ZstdError:
        return b""


def _is_zlib_stream(file: IO[bytes]) -> bool:
    expander = zlib.decompressobj()
    try:
        for piece in pieces_of(file):
            while piece and not expander.eof:
                expander.decompress(piece, 4 << 20)
                piece = expander.unconsumed_tail
    except zlib.error:
        return False
    return expander.eof


def _is_zstd_frame(file: IO[bytes], size_bytes: int) -> bool:
    """Whether a file has a frame with all of its blocks; RFC 8878, section 3.1.1."""
    described = file.read(len(_ZSTD_MAGIC) + 1)
    if len(described) <= len(_ZSTD_MAGIC):
        return False
    flags = described[-1]
    is_single = bool(flags >> 5 & 1)
    size_field = _ZSTD_SIZE_BYTES[flags >> 6] or int(is_single)
    position = len(described) + int(not is_single) + _ZSTD_ID_BYTES[flags & 3] + size_field
    while True:
        file.seek(position)
        header = file.read(3)
        if len(header) < 3:
            return False
        block = int.from_bytes(header, "little")
        is_repeated = block >> 1 & 3 == 1
        position += 3 + (1 if is_repeated else block >> 3)
        if block & 1:
            break
    return size_bytes == position + (4 if flags >> 2 & 1 else 0)


def _scanned(directory: str) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a directory; nothing of what a link names, or where there is none."""
    try:
        if stat.S_ISDIR(os.lstat(directory).st_mode):
            yield from os.scandir(directory)
    except FileNotFoundError:
        return
