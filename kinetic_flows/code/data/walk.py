"""Walking local data: what is there, in one order, with no more in memory than a directory's names.

A directory's entries come sorted by the bytes of their names, each directory's content in its
place. Symbolic links to somewhere inside of the data stay links; others are followed, as the run
does not have what they lead to. What cannot be data (sockets, pipes, devices, links that lead
nowhere) is left out and told of, and so is what looks like a secret.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from kinetic_flows.code.data.patterns import Patterns
from kinetic_flows.code.secret_files import is_secret_by_name
from kinetic_flows.core.data import Data

SHOWN = 5
"""How many paths are told of, of many."""


class Found(NamedTuple):
    """Something that a walk came upon.

    Attributes:
        path: Relative to the source, with `/`; of a source that is one file, its name.
        kind: What it is; a directory is told of when it is empty.
        size_bytes: Size of a file.
        version: Changes when a file does: its mtime and ctime in nanoseconds, and its inode.
        is_executable: Whether a file may be executed by its owner.
        link: What a link says.
    """

    path: str
    kind: Literal["file", "link", "directory"]
    size_bytes: int = 0
    version: tuple[int, int, int] = (0, 0, 0)
    is_executable: bool = False
    link: str = ""


class Noted:
    """Paths of one sort, the first few by name; may be added to from any thread."""

    def __init__(self) -> None:
        self.count = 0
        self.paths: list[str] = []
        self._lock = threading.Lock()

    def add(self, path: str) -> None:
        """Note a path."""
        with self._lock:
            self.count += 1
            if len(self.paths) < SHOWN:
                self.paths.append(path)


@dataclass(kw_only=True)
class Remarks:
    """What there is to say of a walk."""

    special: Noted = field(default_factory=Noted)
    dangling: Noted = field(default_factory=Noted)
    secret: Noted = field(default_factory=Noted)
    unreadable: Noted = field(default_factory=Noted)


class _Level(NamedTuple):
    """A directory that a walk is in.

    Attributes:
        directory: Its path, with a slash at its end; empty for the root.
        names: Those of its entries that are still to be looked at, sorted.
        above: Which directories it is in, itself included.
        keeps_links: Whether links may stay links in it.
        is_empty: Whether there is nothing in it.
    """

    directory: bytes
    names: Iterator[bytes]
    above: tuple[tuple[int, int], ...]
    keeps_links: bool
    is_empty: bool


class Walk:
    """A walk of a file or directory; iterating over it once walks it once.

    Args:
        data: What to walk.
    """

    def __init__(self, data: Data) -> None:
        self.remarks = Remarks()
        self.patterns = Patterns(data.include, data.exclude)
        self.root = os.path.realpath(os.fsencode(data.source))
        self.is_file = os.path.isfile(self.root)
        self._name = data.name
        # A link may lead to what is not meant.
        self._keeps_links = self.patterns.take_all

    def place(self, path: str) -> bytes:
        """Return where a file is that the walk came upon."""
        return self.root if self.is_file else self.root + b"/" + _bytes(path)

    def __iter__(self) -> Iterator[Found]:
        try:
            status = os.stat(self.root)
        except OSError:
            self.remarks.unreadable.add(self._name)
            return
        if self.is_file:
            yield _file(self._name, status)
            return
        above = (_identity(status),)
        levels = [self._level(b"", above, keeps=self._keeps_links)]
        while levels:
            level = levels[-1]
            for name in level.names:
                found = self._look_at(level.directory + name, level)
                if isinstance(found, _Level):
                    levels.append(found)
                    break
                if found is not None:
                    yield found
            else:
                levels.pop()
                if level.is_empty and level.directory and self.patterns.take_all:
                    yield Found(_text(level.directory[:-1]), "directory")

    def _level(
        self, directory: bytes, above: tuple[tuple[int, int], ...], *, keeps: bool
    ) -> _Level:
        """List a directory.

        Args:
            directory: Its path, with a slash at its end; empty for the root.
            above: Which directories it is in, itself included.
            keeps: Whether links may stay links here.
        """
        try:
            names = sorted(os.listdir(self.root + b"/" + directory))
        except OSError:
            self.remarks.unreadable.add(_text(directory) or ".")
            return _Level(directory, iter(()), above, keeps, False)
        return _Level(directory, iter(names), above, keeps, not names)

    def _look_at(self, path: bytes, level: _Level) -> Found | _Level | None:
        """Return what is at a path, a directory as what is in it; None for what is left out."""
        place, shown = self.root + b"/" + path, _text(path)
        try:
            status = os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            return None  # gone since
        except OSError:
            self.remarks.unreadable.add(shown)
            return None
        is_link = stat.S_ISLNK(status.st_mode)
        if is_link:
            try:
                link = self._link(path, place) if level.keeps_links else None
                status = os.stat(place)
            except OSError:
                self.remarks.dangling.add(shown)
                return None
            if link is not None:
                return Found(shown, "link", link=link)
        if stat.S_ISDIR(status.st_mode):
            return self._enter(path, level, _identity(status), is_link=is_link)
        if not self.patterns.take(shown) or self._is_secret(shown, is_directory=False):
            return None
        if stat.S_ISREG(status.st_mode):
            return _file(shown, status)
        self.remarks.special.add(shown)
        return None

    def _enter(
        self, path: bytes, level: _Level, identity: tuple[int, int], *, is_link: bool
    ) -> _Level | None:
        shown = _text(path)
        if identity in level.above:
            self.remarks.dangling.add(shown)
            return None
        if self.patterns.leave_out(shown) or self._is_secret(shown, is_directory=True):
            return None
        above, keeps = (*level.above, identity), level.keeps_links and not is_link
        return self._level(path + b"/", above, keeps=keeps)

    def _is_secret(self, path: str, *, is_directory: bool) -> bool:
        if not is_secret_by_name(path, is_directory=is_directory) or self.patterns.name(path):
            return False
        self.remarks.secret.add(f"{path}/" if is_directory else path)
        return True

    def _link(self, path: bytes, place: bytes) -> str | None:
        """Return what a link says, relative, if it leads to something inside of the data."""
        real = os.path.realpath(place)
        if not real.startswith(self.root + b"/") or not os.path.exists(real):
            return None
        said, directory = os.readlink(place), os.path.dirname(path)
        lexical = os.path.normpath(os.path.join(b"/", directory, said))
        goes_up = os.path.normpath(os.path.join(directory, said)).startswith(b"..")
        if os.path.isabs(said) or goes_up or os.path.realpath(self.root + lexical) != real:
            here = os.path.realpath(os.path.dirname(place))
            said = os.path.relpath(real, here)
        return _text(said)


def _file(path: str, status: os.stat_result) -> Found:
    return Found(
        path,
        "file",
        status.st_size,
        (status.st_mtime_ns, status.st_ctime_ns, status.st_ino),
        bool(status.st_mode & stat.S_IXUSR),
    )


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
