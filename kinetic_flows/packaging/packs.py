"""Packs: deterministic archives of a few megabytes, so that one change touches one of them.

Entries are placed by the hash of their path: all of them make one bucket, and a bucket that is
too full is split by the next bit of the hash. So an entry that comes, goes or grows moves
others only when its own bucket splits or merges. A large file is a bucket of its own.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

PACK_LIMIT_BYTES = 2_000_000
"""How full a bucket gets before it is split, and from what size on a file is alone."""
PACK_FORMAT = 1
"""Raised when the same entries would make another archive."""

_BLOCK = 512
_READ_BYTES = 1 << 18
_HASH_BITS = 64


class Member(NamedTuple):
    """What a pack holds of one entry.

    Attributes:
        path: Relative to the root.
        mode: Permission bits.
        size_bytes: Size of a file; 0 for links and directories.
        link: What a link says; None for all else.
        is_directory: Whether it is a directory.
    """

    path: str
    mode: int
    size_bytes: int
    link: str | None = None
    is_directory: bool = False

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.link is None and not self.is_directory


class FileRead(NamedTuple):
    """A file that was read whole, and did not change meanwhile.

    Attributes:
        path: Relative to the root.
        sha256: Digest of its content.
        found: Its status when it had been read.
        read_at_ns: The time just before it was opened, in nanoseconds since the epoch.
    """

    path: str
    sha256: str
    found: os.stat_result
    read_at_ns: int


class ChangedWhileRead(Exception):
    """A file is no longer what it was when the project was walked; carries its path."""


def plan_packs(members: Iterable[Member]) -> list[list[Member]]:
    """Distribute members over packs; the same members give the same packs in any order."""
    packs: list[list[Member]] = []
    small: list[tuple[int, Member]] = []
    for member in sorted(members):
        if member.size_bytes > PACK_LIMIT_BYTES:
            packs.append([member])
        else:
            small.append((_path_hash(member.path), member))
    if small:
        packs.extend(_split(small, 0))
    return packs


def pack_inputs(identities: Iterable[str]) -> str:
    """Return a digest of what a pack is made of: its entries with their content's digests."""
    text = "\0".join((str(PACK_FORMAT), *identities))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def archive(
    root: Path, members: Sequence[Member], on_file: Callable[[FileRead], None] | None = None
) -> Iterator[bytes]:
    """Yield the tar archive of some members, in pieces.

    Every piece depends on names, modes, links and content alone: owners are 0, times the epoch.

    Args:
        root: The package root.
        members: What goes in, in order.
        on_file: Called after each file; None when nobody needs the files' own digests.

    Raises:
        ChangedWhileRead: A file has not the size it had, or changed while it was read.
    """
    for member in members:
        yield _header(member)
        if member.is_file:
            yield from _content(root, member, on_file)
            yield b"\0" * (-member.size_bytes % _BLOCK)
    yield b"\0" * (2 * _BLOCK)


def _content(
    root: Path, member: Member, on_file: Callable[[FileRead], None] | None
) -> Iterator[bytes]:
    """Yield a file's bytes, making sure that they are those of one moment."""
    read_at_ns = time.time_ns()
    digest = hashlib.sha256() if on_file else None
    try:
        handle = os.open(f"{root}/{member.path}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ChangedWhileRead(member.path) from error
    with io.FileIO(handle) as file:
        before = os.fstat(handle)
        left = member.size_bytes
        while left > 0:
            piece = file.read(min(left, _READ_BYTES))
            if not piece:
                raise ChangedWhileRead(member.path)
            left -= len(piece)
            if digest:
                digest.update(piece)
            yield piece
        after = os.fstat(handle)
    if _version(before) != _version(after) or after.st_size != member.size_bytes:
        raise ChangedWhileRead(member.path)
    if on_file and digest:
        on_file(FileRead(member.path, digest.hexdigest(), after, read_at_ns))


def _version(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.path)
    info.mode = member.mode
    if member.link is not None:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, member.link, 0o777
    elif member.is_directory:
        info.type = tarfile.DIRTYPE
    else:
        info.size = member.size_bytes
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _path_hash(path: str) -> int:
    digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[: _HASH_BITS // 8])


def _split(placed: list[tuple[int, Member]], bit: int) -> list[list[Member]]:
    """Return the buckets of some members whose hashes agree in their first bits."""
    if not placed:
        return []
    if bit == _HASH_BITS or sum(map(_archived_bytes, placed)) <= PACK_LIMIT_BYTES:
        return [[member for _, member in placed]]
    mask = 1 << (_HASH_BITS - 1 - bit)
    low = [item for item in placed if not item[0] & mask]
    high = [item for item in placed if item[0] & mask]
    return [*_split(low, bit + 1), *_split(high, bit + 1)]


def _archived_bytes(placed: tuple[int, Member]) -> int:
    size = placed[1].size_bytes
    return _BLOCK + size + -size % _BLOCK
