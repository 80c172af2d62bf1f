"""Directories that are plainly no project: homes, their well-known folders, the system's own.

A script or a notebook that is started there does not mean to ship all that lies beside it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from kinetic_flows.code.ignore import IGNORE_FILE

_PARENTS_OF_HOMES = frozenset({"/home", "/Users", "/var/home", "/export/home"})
_WINDOWS_HOMES = re.compile(r"/mnt/[a-z]/Users")
"""Where Windows keeps them, seen from its subsystem for Linux."""
_DRIVES = re.compile(r"/mnt/[a-z]|/media/[^/]+(/[^/]+)?|/Volumes/[^/]+")

_SYSTEM_PLACES = """
/ /bin /boot /dev /dev/shm /etc /home /lib /lib64 /media /mnt /opt /private /private/tmp /proc
/root /run /sbin /srv /sys /tmp /usr /usr/bin /usr/lib /usr/local /usr/local/bin /usr/local/lib
/usr/share /usr/src /var /var/lib /var/log /var/tmp /Applications /Library /System /Users
/Volumes /content /databricks/driver
"""
_SYSTEM = frozenset(_SYSTEM_PLACES.split())
"""The last two are where notebooks of Colab and Databricks start, beside mounted drives."""

_FOLDERS_OF_A_HOME = frozenset(
    {
        "Applications",
        "Desktop",
        "Documents",
        "Downloads",
        "Dropbox",
        "Google Drive",
        "Library",
        "Movies",
        "Music",
        "OneDrive",
        "Pictures",
        "Public",
        "Templates",
        "Videos",
        "snap",
    }
)
_XDG_FOLDER = re.compile(r'^\s*XDG_[A-Z]+_DIR="\$HOME/(.+?)/?"\s*$', re.MULTILINE)


def why_no_project(folder: Path) -> str | None:
    """Say what a directory is that is no project to ship; None for all others.

    Args:
        folder: A directory, without links in its path.
    """
    if is_home(folder):
        return "a home directory"
    if is_home(folder.parent) and folder.name in _folders_of(folder.parent):
        return f"the folder {folder.name} of a home directory"
    if lies_hidden_in_home(folder):
        return "in a hidden directory of a home"
    is_wide = str(folder) in _SYSTEM or _DRIVES.fullmatch(str(folder))
    if is_wide or folder in _temporary() or any(home.is_relative_to(folder) for home in _homes()):
        return "a directory of the system"
    return None


def ends_projects(folder: Path) -> bool:
    """Whether a directory is no project whatever marker is in it, for what lies deeper."""
    is_deep = lies_hidden_in_home(folder) and not is_dot_entry_of_home(folder)
    return not is_deep and why_no_project(folder) is not None


def project_directories(start: Path, home_directory: Path) -> Iterator[Path]:
    """Yield the directories whose files may be of a project, from one upwards.

    The search ends after the directory that holds `.git`, and at directories that are plainly no
    project.

    Args:
        start: Where the search begins, without links in its path.
        home_directory: Where it ends.
    """
    for directory in (start, *start.parents):
        at_end = directory == home_directory or ends_projects(directory)
        # A file right in a home, in /tmp or at the root counts only for code that is there too.
        if at_end and directory != start:
            return
        yield directory
        if at_end or (directory / ".git").exists():
            return


def is_claimed(folder: Path) -> bool:
    """Whether this user put a `.kineticignore` there, and so has thought of what ships."""
    try:
        found = (folder / IGNORE_FILE).stat()
    except OSError:
        return False
    return found.st_uid == os.getuid() and folder != Path(folder.anchor)


def is_home(folder: Path) -> bool:
    """Whether a directory, without links in its path, is a user's home."""
    parent = str(folder.parent)
    if folder in _homes() or parent in _PARENTS_OF_HOMES or str(folder) == "/root":
        return True
    return bool(_WINDOWS_HOMES.fullmatch(parent)) or folder == _home_of_owner(folder)


def is_dot_entry_of_home(path: Path) -> bool:
    """Whether a path is that of a hidden file or directory directly in a home."""
    return path.name.startswith(".") and is_home(path.parent)


def lies_hidden_in_home(path: Path) -> bool:
    """Whether a path is in a hidden directory of a home, or is one."""
    return any(is_dot_entry_of_home(folder) for folder in (path, *path.parents))


def is_kinetic_home(folder: str) -> bool:
    """Whether a directory is, or was, a `KINETIC_HOME`, by what calls leave in it."""
    server = (f"{folder}/prefect/prefect.db", f"{folder}/prefect/server.json")
    calls = (f"{folder}/scratch/.lock", f"{folder}/cache/code")
    return any(all(os.path.lexists(path) for path in signs) for signs in (server, calls))


def _folders_of(home: Path) -> frozenset[str]:
    """Return the names of a home's well-known folders, in the language of its owner, too.

    See https://www.freedesktop.org/wiki/Software/xdg-user-dirs/.
    """
    try:
        text = (home / ".config" / "user-dirs.dirs").read_text("utf-8", errors="replace")
    except OSError:
        return _FOLDERS_OF_A_HOME
    return _FOLDERS_OF_A_HOME.union(_XDG_FOLDER.findall(text))


def _homes() -> frozenset[Path]:
    """Return this user's homes: the one in force, and the one on record."""
    named = {_on_record(os.getuid())}
    with contextlib.suppress(RuntimeError):  # a user whom the system does not know
        named.add(Path.home())
    return frozenset(path for home in named if home for path in (home, home.resolve()))


def _home_of_owner(folder: Path) -> Path | None:
    try:
        return _on_record(folder.stat().st_uid)
    except OSError:
        return None


@cache
def _on_record(user: int) -> Path | None:
    try:
        return Path(pwd.getpwuid(user).pw_dir)
    except KeyError:
        return None


def _temporary() -> tuple[Path, ...]:
    place = Path(tempfile.gettempdir())
    return place, place.resolve()
