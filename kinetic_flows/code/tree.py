"""Walking a project: what of it ships, before any file is read for its digest."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kinetic_flows.code.ignore import IgnoreRules, Verdict
from kinetic_flows.code.modules import is_environment
from kinetic_flows.code.secret_files import (
    SECRET_CONTENT_LIMIT_BYTES,
    holds_secret,
    is_secret_by_name,
    lies_in_secret,
    may_hold_secret,
)
from kinetic_flows.code.wide_places import is_home, is_kinetic_home
from kinetic_flows.core.files import listed

PERMISSION_BITS = 0o777
"""What of a mode ships: never setuid, setgid or the sticky bit."""


LISTED = 20
"""How many paths a warning names; it is one warning, and each path in it may matter."""


VANISHED = "not shipped, because they were gone before they could be read: {}"
MIXED = "shipped as they were read, although they never stopped changing: {}"


class FoundFile(NamedTuple):
    """A regular file as a walk saw it; its `stat` names the version that was seen."""

    path: str
    mode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class FoundLink(NamedTuple):
    """A link that stays a link, and where it leads."""

    path: str
    target: str


@dataclass(kw_only=True)
class Tree:
    """What a walk found; filled while it walks, and handed on when it is done.

    Attributes:
        files: Regular files, and what links to files outside the root lead to.
        directories: Directories and their modes.
        links: Links to what is inside the root.
        secrets: Paths left out because they look like secrets.
        broken: Links left out because they lead nowhere.
        dangling: Links left out because what they lead to does not ship.
        cycles: Links left out because they lead to a directory that they are in.
        unreadable: What this user may not read.
        special: Sockets, pipes and devices.
        homes: Directories that some `KINETIC_HOME` names or named.
        vanished: What was there when the walk began and could not be read any more.
        mixed: Files that never read the same twice.
    """

    files: list[FoundFile] = field(default_factory=list)
    directories: dict[str, int] = field(default_factory=dict)
    links: list[FoundLink] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    cycles: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    special: list[str] = field(default_factory=list)
    homes: list[str] = field(default_factory=list)
    vanished: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)

    def warnings(self) -> tuple[str, ...]:
        """Say, in a sentence each, what was left out that a run may miss."""
        bring_back = "to ship one, name it in .kineticignore with a leading !"
        sentences = (
            (self.secrets, f"not shipped, because they look like secrets: {{}}; {bring_back}"),
            (self.broken, "not shipped, because these links lead nowhere: {}"),
            (self.dangling, "not shipped, because these links lead to what does not ship: {}"),
            (self.cycles, "not shipped, because these links lead back to where they are: {}"),
            (self.unreadable, "not shipped, because you may not read them: {}"),
            (self.special, "not shipped, because they are sockets, pipes or devices: {}"),
            (self.homes, "not shipped, because kinetic keeps its own files there: {}"),
            (self.vanished, VANISHED),
            (self.mixed, MIXED),
        )
        return tuple(
            text.format(listed(sorted(paths), limit=LISTED)) for paths, text in sentences if paths
        )


@dataclass(frozen=True, kw_only=True)
class _Folder:
    """A directory to look into: its path in the tree and the directories it is in.

    Attributes:
        path: Relative to the root; empty for the root.
        identities: The directories it is in, and itself.
        named_only: Whether it is a store of secrets, of which what the rules name ships.
        named: Whether it is a store of secrets that the rules name as a whole.
    """

    path: str
    identities: frozenset[tuple[int, int]]
    named_only: bool = False
    named: bool = False

    def child(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name


def walk_tree(
    root: Path,
    rules: IgnoreRules,
    *,
    is_known_harmless: Callable[[FoundFile], bool],
    never: Path | None = None,
    only: Sequence[str] | None = None,
) -> Tree:
    """Find what ships.

    Args:
        root: The package root, with no link in its path.
        rules: What ships and what does not.
        is_known_harmless: Whether this version of a file was looked into before and holds
            no secret.
        never: A directory that never ships, wherever it is; None for none.
        only: The files that may ship; None for all that there are.
    """
    walk = _Walk(root, rules, is_known_harmless, never)
    return walk.run() if only is None else walk.pick(only)


class _Walk:
    def __init__(
        self,
        root: Path,
        rules: IgnoreRules,
        is_known_harmless: Callable[[FoundFile], bool],
        never: Path | None,
    ) -> None:
        self.root = str(root)
        self.rules = rules
        self.is_known_harmless = is_known_harmless
        self.never = _identity(never) if never else None
        self.tree = Tree()
        self.pending_links: list[str] = []
        self.homes: dict[str, bool] = {}

    def run(self) -> Tree:
        identity = _identity(Path(self.root))
        folders = [_Folder(path="", identities=frozenset({identity} if identity else ()))]
        while folders:
            folders.extend(self._look_into(folders.pop()))
        self._settle_links()
        return self.tree

    def pick(self, paths: Sequence[str]) -> Tree:
        """Look at some files and at nothing else."""
        for path in paths:
            with contextlib.suppress(OSError):
                if is_secret_by_name(path) and not self.rules.brings_back(path):
                    self.tree.secrets.append(path)
                else:
                    self._add_file(path, os.stat(self._full(path)))  # noqa: PTH116 - any bytes
        return self.tree

    def _look_into(self, folder: _Folder) -> Iterator[_Folder]:
        try:
            with os.scandir(os.path.join(self.root, folder.path)) as scan:  # noqa: PTH118
                entries = sorted(scan, key=lambda entry: entry.name)
        except PermissionError:
            self.tree.unreadable.append(folder.path or ".")
            self.tree.directories.pop(folder.path, None)
            return
        except OSError:  # gone, or no directory any more
            self.tree.directories.pop(folder.path, None)
            return
        for entry in entries:
            # What goes away, or becomes something else, while it is looked at is not there.
            with contextlib.suppress(OSError):
                yield from self._look_at(folder, entry)

    def _look_at(self, folder: _Folder, entry: os.DirEntry[str]) -> Iterator[_Folder]:
        path = folder.child(entry.name)
        if entry.is_symlink():
            yield from self._look_at_link(folder, path)
        elif entry.is_dir(follow_symlinks=False):
            if self._enters(folder, path):
                yield self._enter(folder, path, entry.stat(follow_symlinks=False))
        elif self._ships(folder, path):
            self._add_file(path, entry.stat(follow_symlinks=False), is_named=folder.named)

    def _look_at_link(self, folder: _Folder, path: str) -> Iterator[_Folder]:
        full = self._full(path)
        try:
            found = os.stat(full)  # noqa: PTH116 - names may hold any bytes
            real = os.path.realpath(full)
        except OSError:
            if self._ships(folder, path):
                self.tree.broken.append(path)
            return
        is_directory = stat.S_ISDIR(found.st_mode)
        if not (self._enters(folder, path) if is_directory else self._ships(folder, path)):
            return
        if self._is_inside(real):
            self.pending_links.append(path)
        elif lies_in_secret(real, is_directory=is_directory) and not self._is_named(folder, path):
            self.tree.secrets.append(path)
        elif not is_directory:
            self._add_file(path, found, is_named=folder.named)
        elif (found.st_dev, found.st_ino) in folder.identities or self._leads_above(full):
            self.tree.cycles.append(path)
        else:
            yield self._enter(folder, path, found)

    def _enter(self, folder: _Folder, path: str, found: os.stat_result) -> _Folder:
        self.tree.directories[path] = found.st_mode & PERMISSION_BITS | 0o700
        identity = (found.st_dev, found.st_ino)
        is_store = is_secret_by_name(path, is_directory=True)
        is_named = is_store and self.rules.brings_back(path, is_directory=True)
        return _Folder(
            path=path,
            identities=folder.identities | {identity},
            named_only=not is_named and (is_store or folder.named_only),
            named=is_named or folder.named,
        )

    def _enters(self, folder: _Folder, path: str) -> bool:
        """Whether a directory ships."""
        if self.never and _identity(Path(self._full(path))) == self.never:
            return False
        if self._is_virtual_environment(path):
            return self.rules.brings_back(path, is_directory=True)
        if is_kinetic_home(self._full(path)):
            self.tree.homes.append(path)
            return False
        return self._accept(folder, path, is_directory=True)

    def _ships(self, folder: _Folder, path: str) -> bool:
        return self._accept(folder, path)

    def _accept(self, folder: _Folder, path: str, *, is_directory: bool = False) -> bool:
        verdict = self.rules.judge(path, is_directory=is_directory)
        if folder.named:
            return verdict is not Verdict.EXCLUDE
        leads_to_named = is_directory and self.rules.names_below(path)
        if folder.named_only or self._is_hidden_in_home(folder, path):
            return leads_to_named or self.rules.brings_back(path, is_directory=is_directory)
        if verdict is Verdict.SECRET and not leads_to_named:
            self.tree.secrets.append(path)
        return verdict is Verdict.SHIP or (verdict is Verdict.SECRET and leads_to_named)

    def _is_named(self, folder: _Folder, path: str) -> bool:
        return folder.named or self.rules.brings_back(path)

    def _is_hidden_in_home(self, folder: _Folder, path: str) -> bool:
        if not path.rpartition("/")[2].startswith("."):
            return False
        if folder.path not in self.homes:
            self.homes[folder.path] = is_home(Path(self._full(folder.path)).resolve())
        return self.homes[folder.path]

    def _is_virtual_environment(self, path: str) -> bool:
        return self.rules.default_excludes and is_environment(self._full(path))

    def _add_file(self, path: str, found: os.stat_result, *, is_named: bool = False) -> None:
        if not stat.S_ISREG(found.st_mode):
            self.tree.special.append(path)
            return
        file = FoundFile(
            path=path,
            mode=found.st_mode & PERMISSION_BITS | 0o400,
            size_bytes=found.st_size,
            mtime_ns=found.st_mtime_ns,
            ctime_ns=found.st_ctime_ns,
            inode=found.st_ino,
        )
        if not os.access(self._full(path), os.R_OK):
            self.tree.unreadable.append(path)
        elif not is_named and self._is_secret(file):
            self.tree.secrets.append(path)
        else:
            self.tree.files.append(file)

    def _is_secret(self, file: FoundFile) -> bool:
        if not may_hold_secret(file.path, file.size_bytes) or self.is_known_harmless(file):
            return False
        if self.rules.brings_back(file.path):
            return False
        try:
            with open(self._full(file.path), "rb") as opened:  # noqa: PTH123 - any bytes
                return holds_secret(opened.read(SECRET_CONTENT_LIMIT_BYTES))
        except OSError:
            return False  # the upload, which reads it, says that it cannot be read

    def _settle_links(self) -> None:
        """Keep the links whose targets ship, now that everything that ships is known."""
        shipped = {file.path for file in self.tree.files} | set(self.tree.directories) | {"."}
        named = shipped.union(self.pending_links)
        for path in self.pending_links:
            try:
                # It looks whether there is a link, and then reads it: in between, one may go.
                real = os.path.relpath(os.path.realpath(self._full(path)), self.root)
                if real not in shipped:
                    self.tree.dangling.append(path)
                    continue
                self.tree.links.append(FoundLink(path, self._link_text(path, real, named)))
            except OSError:  # gone, or no link any more
                self.tree.vanished.append(path)

    def _link_text(self, path: str, real: str, named: set[str]) -> str:
        """Return what a link says: a relative path that leads to the same place elsewhere."""
        text = os.readlink(self._full(path))  # noqa: PTH115 - Path would rewrite it
        parent = os.path.dirname(path)  # noqa: PTH120 - names may hold any bytes
        said = os.path.normpath(os.path.join(parent, text))  # noqa: PTH118
        leads_there = (
            said in named
            and _climbs_first(text)
            and os.path.realpath(self._full(said)) == os.path.realpath(self._full(real))
        )
        return text if leads_there else os.path.relpath(real, parent or ".")

    def _is_inside(self, real: str) -> bool:
        return real == self.root or real.startswith(self.root.rstrip("/") + "/")

    def _leads_above(self, full: str) -> bool:
        """Whether a link leads to a directory that the root is in."""
        return self.root.startswith(os.path.realpath(full).rstrip("/") + "/")

    def _full(self, path: str) -> str:
        return f"{self.root}/{path}"


def _climbs_first(text: str) -> bool:
    """Whether a path is relative and has no `..` after a name, which a link could bend."""
    parts = text.split("/")
    names = [index for index, part in enumerate(parts) if part not in ("", ".", "..")]
    return not text.startswith("/") and ".." not in parts[min(names, default=len(parts)) :]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
