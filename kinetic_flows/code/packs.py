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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from kinetic_flows.code.manifest import Entry
from kinetic_flows.code.resting import Version, open_regular

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


def member_of(entry: Entry) -> Member:
    """Return what a pack holds of a manifest's entry."""
    return Member(entry.path, entry.mode, entry.size_bytes, entry.link, entry.is_directory)


class FileRead(NamedTuple):
    """What came of reading a file.

    Attributes:
        path: Relative to the root.
        sha256: Digest of what was read.
        is_complete: Whether there was as much to read as there should be.
        before: Its status when it was opened; None when it could not be, or was a copy.
        after: Its status when it had been read.
        read_at_ns: The time just before it was opened, in nanoseconds since the epoch.
    """

    path: str
    sha256: str
    is_complete: bool
    before: os.stat_result | None = None
    after: os.stat_result | None = None
    read_at_ns: int = 0


class Contents:
    """Where the bytes of files come from: the project, or versions taken of what did not rest.

    Args:
        root: The package root.
        versions: What stands for some files, by their paths.
    """

    def __init__(self, root: Path, versions: Mapping[str, Version] | None = None) -> None:
        self._root = root
        self._versions = dict(versions or {})

    def add(self, versions: Mapping[str, Version]) -> None:
        """Let versions stand for more files."""
        self._versions.update(versions)

    def has_version(self, path: str) -> bool:
        """Whether a version stands for a file."""
        return path in self._versions

    def open(self, path: str) -> BinaryIO | None:
        """Open a file; None when it is gone, or no file any more."""
        version = self._versions.get(path)
        if version and isinstance(version.content, bytes):
            return io.BytesIO(version.content)
        handle = open_regular(str(version.content) if version else f"{self._root}/{path}")
        return None if handle is None else io.FileIO(handle)


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


def pack_inputs(members: Iterable[Member], digests: Mapping[str, str]) -> str:
    """Return a digest of what a pack is made of: its entries with their content's digests."""
    identities = (
        f"{member.path}\0{member.mode:o}\0{member.link}\0{member.is_directory:d}\0"
        f"{digests.get(member.path, '')}"
        for member in members
    )
    text = "\0".join((str(PACK_FORMAT), *identities))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def archive(
    contents: Contents, members: Sequence[Member], on_file: Callable[[FileRead], None]
) -> Iterator[bytes]:
    """Yield the tar archive of some members, in pieces.

    Every piece depends on names, modes, links and content alone: owners are 0, times the epoch.
    A file that has become shorter is filled up with zeros: the caller is told, and drops it.

    Args:
        contents: Where the files' bytes are.
        members: What goes in, in order.
        on_file: Told of each file what came of reading it.
    """
    for member in members:
        yield _header(member)
        if member.is_file:
            yield from _content(contents, member, on_file)
            yield b"\0" * (-member.size_bytes % _BLOCK)
    yield b"\0" * (2 * _BLOCK)


def _content(
    contents: Contents, member: Member, on_file: Callable[[FileRead], None]
) -> Iterator[bytes]:
    read_at_ns = time.time_ns()
    digest, left = hashlib.sha256(), member.size_bytes
    before = after = None
    file = contents.open(member.path)
    if file:
        with file:
            is_copy = contents.has_version(member.path)
            before = None if is_copy else os.fstat(file.fileno())
            while left > 0 and (piece := _read(file, min(left, _READ_BYTES))):
                left -= len(piece)
                digest.update(piece)
                yield piece
            after = None if is_copy else os.fstat(file.fileno())
    for start in range(0, left, _READ_BYTES):
        yield b"\0" * min(_READ_BYTES, left - start)
    is_complete = file is not None and left == 0
    on_file(FileRead(member.path, digest.hexdigest(), is_complete, before, after, read_at_ns))


def _read(file: BinaryIO, size_bytes: int) -> bytes:
    try:
        return file.read(size_bytes)
    except OSError:
        return b""  # it has become unreadable


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
