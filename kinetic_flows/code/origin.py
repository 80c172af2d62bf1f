"""Where a call comes from: the commit of its code, who makes it, on which machine, from which file.

The commit and the branch are read from git's own files, which takes a millisecond and no git;
whether the code differs from the commit only `git status` knows, which is asked in a thread while
the call is prepared. Nothing about git can make a call fail or wait.
"""

from __future__ import annotations

import getpass
import os
import re
import subprocess
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from socket import gethostname

from kinetic_flows.code.root import PackageRoot
from kinetic_flows.core.version import VERSION

GIT_SECONDS = 10.0
"""How long git may look for changes, in a thread that nobody waits for."""

LAST_WAIT_SECONDS = 0.1
"""How long a call waits for git when all else is ready; then nobody knows about changes."""

_STATUS = ("git", "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--", ".")
_COMMIT = re.compile("[0-9a-f]{40}([0-9a-f]{24})?")
_BRANCHES = "refs/heads/"
_POINTERS = 5


@dataclass(frozen=True, kw_only=True)
class Commit:
    """Which commit a directory is at.

    Attributes:
        id: The commit; empty when unknown, as before the first one.
        branch: The branch; empty when none is checked out.
        is_dirty: Whether files that git tracks in the directory differ from the commit; None when
            git did not say.
    """

    id: str = ""
    branch: str = ""
    is_dirty: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a call comes from.

    Attributes:
        user: Who makes it, as this machine knows them.
        host: This machine.
        client: The version of kinetic-flows.
        entry: The file that defines the function or was started, from the package root; empty in
            a notebook or an interactive session.
        commit: The commit of the code; None outside of a repository.
    """

    user: str
    host: str
    client: str
    entry: str = ""
    commit: Commit | None = None


class OriginReader:
    """Finds out where a call comes from, beside what else the call waits for.

    Args:
        root: What ships.
    """

    def __init__(self, root: PackageRoot) -> None:
        self._root = root
        self._commit = read_commit(root.path)
        self._is_told = threading.Event()
        if self._commit is not None:
            threading.Thread(target=self._ask_git, name="git-status", daemon=True).start()

    def origin(self) -> Origin:
        """Return where the call comes from, as far as that is known by now."""
        if self._commit is not None:
            self._is_told.wait(LAST_WAIT_SECONDS)
        return replace(caller(), entry=_entry(self._root), commit=self._commit)

    def _ask_git(self) -> None:
        told = ask_git(self._root.path)
        if told is not None and self._commit is not None:
            self._commit = replace(
                self._commit,
                id=told.id or self._commit.id,
                branch=told.branch or self._commit.branch,
                is_dirty=told.is_dirty,
            )
        self._is_told.set()


def caller() -> Origin:
    """Return who calls from where, without the code."""
    return Origin(user=_user(), host=gethostname(), client=VERSION)


def read_commit(directory: Path) -> Commit | None:
    """Return the commit and branch that git's files tell; None outside of a repository.

    Files of the layout in gitrepository-layout(5): worktrees and submodules have a `.git` file
    that points to theirs, and share references with the repository that `commondir` names.
    """
    try:
        found = _git_directory(directory)
        return None if found is None else _commit_of(found)
    except (OSError, ValueError):
        return None


def ask_git(directory: Path, seconds: float = GIT_SECONDS) -> Commit | None:
    """Return what `git status` says of a directory; None when it cannot be asked."""
    # Variables that name another repository are for git's own hooks.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            _STATUS,
            cwd=directory,
            env={**environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode(errors="replace").splitlines()
    headers = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
    commit, branch = headers.get("branch.oid", ""), headers.get("branch.head", "")
    return Commit(
        id=commit if _COMMIT.fullmatch(commit) else "",
        branch="" if branch == "(detached)" else branch,
        is_dirty=any(not line.startswith("#") for line in lines),
    )


def _git_directory(directory: Path) -> Path | None:
    """Return the git directory of the working tree that a directory is in."""
    for each in (directory, *directory.parents):
        found = each / ".git"
        if (found / "HEAD").is_file():
            return found
        if found.is_file():
            told = found.read_text().removeprefix("gitdir:").strip()
            return each / told
    return None


def _commit_of(git: Path) -> Commit:
    shared = git / "commondir"
    common = git / shared.read_text().strip() if shared.is_file() else git
    name = ""
    text = (git / "HEAD").read_text().strip()
    for _ in range(_POINTERS):
        if not text.startswith("ref:"):
            break
        name = text.removeprefix("ref:").strip()
        text = _reference(name, (git, common))
    branch = name.removeprefix(_BRANCHES) if name.startswith(_BRANCHES) else ""
    # Where references are in a table (reftable), HEAD's is this, and only git can tell.
    branch = "" if branch == ".invalid" else branch
    return Commit(id=text if _COMMIT.fullmatch(text) else "", branch=branch)


def _reference(name: str, places: tuple[Path, ...]) -> str:
    """Return what a reference says: loose, else packed; empty when there is none."""
    for place in places:
        if (place / name).is_file():
            return (place / name).read_text().strip()
    packed = places[-1] / "packed-refs"
    if packed.is_file():
        for line in packed.read_text().splitlines():
            if line.endswith(f" {name}"):
                return line.partition(" ")[0]
    return ""


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user id without an entry, as in containers
        return str(os.getuid()) if hasattr(os, "getuid") else ""


def _entry(root: PackageRoot) -> str:
    entry = root.entry_file
    if entry is None:
        return ""
    return (
        entry.relative_to(root.path).as_posix() if entry.is_relative_to(root.path) else entry.name
    )
