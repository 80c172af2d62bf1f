"""Reading files that are being written: each as it was at one moment.

A file that reads the same twice was that at the moment between. Who rewrites a file empties it
first, though, and writes it piece by piece, so a small file is looked at several times: until it
has been at rest for a while, or else for what it is most of the time.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.machinery
import os
import stat
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

SMALL_BYTES = 1 << 20
"""Up to this size a file is looked at whole and several times."""
QUIET_SECONDS = 0.05
"""A file that was not written for so long is taken to be finished."""
PAUSE_SECONDS = 0.01
PATIENCE_SECONDS = 0.2
PATIENCE_FOR_SOURCE_SECONDS = 2.0
"""How long source that is no valid Python may take to become it."""
PATIENCE_WITH_LARGE_SECONDS = 5.0
"""How long a large file may take to be written anew; one that only grows does not come here."""
LOOKS = 4
"""How often a file that does not rest is looked at, whatever the time."""
ATTEMPTS_AT_LARGE = 3

_READ_BYTES = 1 << 20
_SOURCE_SUFFIXES = tuple(importlib.machinery.SOURCE_SUFFIXES)
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, kw_only=True)
class Version:
    """What a file was at one moment.

    Attributes:
        content: Its bytes, or the copy that holds them.
        size_bytes: How many they are.
        sha256: Their digest.
        is_mixed: Whether the file never read the same twice, so that states may be mixed.
    """

    content: bytes | Path
    size_bytes: int
    sha256: str
    is_mixed: bool = False


def settle(
    root: Path, paths: Iterable[str], new_copy: Callable[[], Path]
) -> dict[str, Version | None]:
    """Read files that would not rest.

    Args:
        root: The package root.
        paths: The files, relative to it.
        new_copy: Names a file that is not there yet, for the copy of a large one.

    Returns:
        What each file was; None for one that is gone.
    """
    watches = {path: _Watch(f"{root}/{path}", new_copy) for path in paths}
    waiting = list(watches.values())
    while True:
        waiting = [watch for watch in waiting if not watch.look()]
        if not waiting:
            return {path: watch.best() for path, watch in watches.items()}
        time.sleep(PAUSE_SECONDS)


def is_recent(mtime_ns: int, ctime_ns: int, now_ns: int) -> bool:
    """Whether a file was changed so short a time ago that it may not be finished."""
    age_ns = now_ns - max(mtime_ns, ctime_ns)
    return 0 <= age_ns < QUIET_SECONDS * 1e9


def is_finished(path: str, content: bytes) -> bool:
    """Whether a file does not look as if the rest of it were still to be written.

    Source that is being written is empty first, and then no valid Python as a rule.
    """
    if not path.endswith(_SOURCE_SUFFIXES):
        return True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the person's own source
            ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return bool(content) or path.endswith("/__init__.py")


def version_of(found: os.stat_result) -> tuple[int, int, int, int]:
    """Return what changes when a file does."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def open_regular(path: str) -> int | None:
    """Open a file for reading; None when there is none, or no regular one, to be read."""
    try:
        handle = os.open(path, _FLAGS)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    return None


def digest_of(handle: int, size_bytes: int, copy_to: Path | None = None) -> str | None:
    """Digest the first bytes of an open file; None when it has fewer.

    Args:
        handle: The file.
        size_bytes: How many bytes.
        copy_to: Where to copy them; None for nowhere.
    """
    digest, offset = hashlib.sha256(), 0
    with contextlib.ExitStack() as stack:
        copy = stack.enter_context(copy_to.open("wb")) if copy_to else None
        while offset < size_bytes:
            piece = os.pread(handle, min(_READ_BYTES, size_bytes - offset), offset)
            if not piece:
                return None
            offset += len(piece)
            digest.update(piece)
            if copy:
                copy.write(piece)
    return digest.hexdigest()


@dataclass(kw_only=True)
class _Seen:
    """A content that a file had, how often, and when last."""

    content: bytes
    times: int = 0
    last: int = 0


@dataclass
class _Watch:
    """What was seen of one file so far.

    Args:
        path: The file.
        new_copy: Names a file for a copy.
    """

    path: str
    new_copy: Callable[[], Path]
    began: float = field(default_factory=time.monotonic)
    looks: int = 0
    seen: dict[str, _Seen] = field(default_factory=dict)
    unsteady: bytes | None = None
    large: Version | None = None
    before: tuple[tuple[int, int, int, int], str] | None = None

    def look(self) -> bool:
        """Read the file once more, and return whether that was enough."""
        self.looks += 1
        handle = open_regular(self.path)
        if handle is None:
            self.before = None
            return self._is_out_of_patience(PATIENCE_SECONDS)
        try:
            found = os.fstat(handle)
            if found.st_size > SMALL_BYTES:
                if _is_recent(found) and not self._is_out_of_patience(PATIENCE_WITH_LARGE_SECONDS):
                    return False
                return self._look_at_large(handle, found.st_size)
            return self._look_at_small(handle)
        except OSError:
            return self._is_out_of_patience(PATIENCE_SECONDS)
        finally:
            os.close(handle)

    def best(self) -> Version | None:
        """Return what the file is taken to be."""
        if self.large:
            return self.large
        found = list(self.seen.values())
        whole = [seen for seen in found if not _is_begun(seen, found)]
        valid = [seen for seen in whole if is_finished(self.path, seen.content)] or whole
        if valid:
            chosen = max(valid, key=lambda seen: (seen.times, seen.last))
            return _version(chosen.content)
        return None if self.unsteady is None else _version(self.unsteady, is_mixed=True)

    def _look_at_small(self, handle: int) -> bool:
        content = os.pread(handle, 2 * SMALL_BYTES, 0)
        if os.pread(handle, 2 * SMALL_BYTES, 0) != content:
            self.unsteady, self.before = content, None
            return self._is_out_of_patience(PATIENCE_SECONDS)
        sha256 = hashlib.sha256(content).hexdigest()
        seen = self.seen.setdefault(sha256, _Seen(content=content))
        seen.times, seen.last = seen.times + 1, self.looks
        found = os.fstat(handle)
        now = (version_of(found), sha256)
        is_at_rest = now == self.before and not _is_recent(found)
        self.before = now
        if not is_finished(self.path, content):
            return self._is_out_of_patience(PATIENCE_FOR_SOURCE_SECONDS)
        return is_at_rest or self._is_out_of_patience(PATIENCE_SECONDS)

    def _look_at_large(self, handle: int, size_bytes: int) -> bool:
        copy = self.new_copy()
        sha256 = digest_of(handle, size_bytes, copy)
        if sha256 is None:
            copy.unlink(missing_ok=True)
            return self._is_out_of_patience(PATIENCE_WITH_LARGE_SECONDS)
        is_mixed = digest_of(handle, size_bytes) != sha256
        self.large = Version(content=copy, size_bytes=size_bytes, sha256=sha256, is_mixed=is_mixed)
        return not is_mixed or self.looks >= ATTEMPTS_AT_LARGE

    def _is_out_of_patience(self, seconds: float) -> bool:
        return self.looks >= LOOKS and time.monotonic() - self.began > seconds


def _is_recent(found: os.stat_result) -> bool:
    return is_recent(found.st_mtime_ns, found.st_ctime_ns, time.time_ns())


def _is_begun(seen: _Seen, others: list[_Seen]) -> bool:
    """Whether a content is the beginning of another that was seen, and so not finished."""
    size = len(seen.content)
    return any(
        len(other.content) > size and other.content.startswith(seen.content) for other in others
    )


def _version(content: bytes, *, is_mixed: bool = False) -> Version:
    return Version(
        content=content,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        is_mixed=is_mixed,
    )
