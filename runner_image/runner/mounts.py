"""Directories at other paths, for this process and those it starts alone: a mount namespace.

Linux gives one to root, and to everybody where users may have user namespaces of their own (see
user_namespaces(7) and mount_namespaces(7)). What nobody may make is a directory in `/`, or in
another that is somebody else's: there an empty file system is mounted with all that was in it, and
with the directory besides.

Beside being imported it is a program, by which it is found out whether all of this is allowed here:

    python mounts.py '[{"path": "/data", "source": "/srv/c4", "read_only": true}]' [COMMAND ...]
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

_NEW_NAMESPACE, _NEW_USER = 0x00020000, 0x10000000
_BIND, _REC, _PRIVATE, _REMOUNT, _READ_ONLY = 4096, 16384, 1 << 18, 32, 1
_DETACH = 2
_KEPT = {
    # What a mount has of these, a user namespace may not take away: statvfs(3) and mount(2).
    **{flag: flag for flag in (2, 4, 8, 1024, 2048)},
    4096: 1 << 21,
}
_SET_DUMPABLE, _CAPABILITY_VERSION = 4, 0x20080522


class Mount(NamedTuple):
    """A directory that is to be at another path, too.

    Attributes:
        path: The absolute path.
        source: The directory.
        read_only: Whether it cannot be written to there.
    """

    path: str
    source: str
    read_only: bool


def read_mounts(found: Iterable[Any]) -> list[Mount]:
    """Return mounts that were written as mappings."""
    return [Mount(each["path"], each["source"], each["read_only"]) for each in found]


def enter(mounts: Sequence[Mount]) -> None:
    """Have this process see mounts from now on; it may have one thread only.

    Args:
        mounts: What is to be where.

    Raises:
        OSError: That is not allowed here, or a source is not there.
    """
    here = os.getcwd()
    is_user = _unshare()
    _mount("", "/", _REC | _PRIVATE)
    stage = tempfile.mkdtemp(prefix="kinetic-mounts-")
    try:
        _mount("tmpfs", stage, 0, "tmpfs")
        _arrange(mounts, stage)
    finally:
        # Nothing that is mounted there is ever removed: a directory that is not empty stays.
        _libc().umount2(os.fsencode(stage), _DETACH)
        with suppress(OSError):
            os.rmdir(stage)
    os.chdir(here)
    if is_user:
        _drop_capabilities()


def _arrange(mounts: Sequence[Mount], stage: str) -> None:
    """Mount everything, by way of a directory that nobody else sees."""
    # Sources are found before anything can hide them.
    for number, mount in enumerate(mounts):
        place = os.path.join(stage, str(number))
        os.mkdir(place)
        _mount(mount.source, place, _BIND | _REC)
    added = _Added(os.path.join(stage, "root"))
    for mount in mounts:
        added.directory(mount.path)
    added.close()
    for number, mount in enumerate(mounts):
        _mount(os.path.join(stage, str(number)), mount.path, _BIND | _REC)
        if mount.read_only:
            for place in _mounted_below(mount.path):
                _make_read_only(place)


class _Added:
    """Directories that are added where this user may not make any."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._ours: list[str] = []
        self._devices: set[int] = set()

    def directory(self, path: str) -> None:
        """See to it that there is a directory at a path."""
        if os.path.isdir(path):
            return
        existing = os.path.dirname(path)
        while not os.path.isdir(existing):
            existing = os.path.dirname(existing)
        if os.stat(existing).st_dev not in self._devices:
            self._cover(existing)
            self._ours.append(existing)
            self._devices.add(os.stat(existing).st_dev)
        os.makedirs(path)

    def _cover(self, directory: str) -> None:
        """Mount an empty file system over a directory, with all that is in it."""
        new = self._root if directory == "/" else f"{self._root}-{len(self._ours)}"
        os.mkdir(new)
        _mount("tmpfs", new, 0, "tmpfs", "mode=0755")
        with os.scandir(directory) as entries:
            for entry in entries:
                # What goes meanwhile, or cannot be reached by this user, is not missed.
                with suppress(FileNotFoundError, PermissionError):
                    _repeat(entry, os.path.join(new, entry.name))
        if directory == "/":
            _change_root(new)
        else:
            _mount(new, directory, _BIND | _REC)

    def close(self) -> None:
        """Let nobody write where nobody could; what was written would be lost with the process."""
        for directory in self._ours:
            _make_read_only(directory)


def _repeat(entry: os.DirEntry[str], place: str) -> None:
    """Have an entry of a directory at another place."""
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), place)
        return
    if entry.is_dir():
        os.mkdir(place)
    else:
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o600))
    _mount(entry.path, place, _BIND | _REC)


def _change_root(new: str) -> None:
    """Make a directory the root; the old one is not to be seen any more."""
    libc = _libc()
    os.chdir(new)
    if getattr(libc, "pivot_root", None) and not libc.pivot_root(b".", b"."):
        _check(libc.umount2(b".", _DETACH), "umount", "/")
    else:
        # In a root that is no mount itself, as in a chroot.
        os.chroot(new)
    os.chdir("/")


def _mounted_below(path: str) -> list[str]:
    """Return where something is mounted in a directory, itself included; see proc_pid_mountinfo(5).

    What is mounted in a directory came along with it, and is made read-only each by itself.
    """
    root = os.path.realpath(path)
    with open("/proc/self/mountinfo", "rb") as file:
        written = [os.fsdecode(line.split()[4]) for line in file]
    places = [re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), each) for each in written]
    return [path, *(place for place in places if place.startswith(f"{root}/"))]


def _make_read_only(path: str) -> None:
    flags = os.statvfs(path).f_flag
    kept = sum(theirs for flag, theirs in _KEPT.items() if flags & flag)
    _mount("", path, _BIND | _REMOUNT | _READ_ONLY | kept)


def _unshare() -> bool:
    """Get a mount namespace; return whether a user namespace had to come with it."""
    libc, user, group = _libc(), os.getuid(), os.getgid()
    if not os.geteuid() and not libc.unshare(_NEW_NAMESPACE):
        return False
    _check(libc.unshare(_NEW_NAMESPACE | _NEW_USER), "unshare", "")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{user} {user} 1"),
        ("gid_map", f"{group} {group} 1"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    return True


def _drop_capabilities() -> None:
    """Be no more than before: in a namespace of its own a process may do everything."""
    libc = _libc()
    if os.getuid():
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
        libc.capset(header, (ctypes.c_uint32 * 6)())
    libc.prctl(_SET_DUMPABLE, 1, 0, 0, 0)


def _mount(source: str, target: str, flags: int, kind: str = "", data: str = "") -> None:
    texts = [os.fsencode(text) or None for text in (source, target, kind)]
    done = _libc().mount(*texts, ctypes.c_ulong(flags), os.fsencode(data) or None)
    # Of what is bound it is the source that may not be there.
    _check(done, "mount", source if flags & _BIND and not flags & _REMOUNT else target)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(done: int, what: str, path: str) -> None:
    if done:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}", path or None)


def main(arguments: Sequence[str]) -> int:
    """Try mounts in this process, and start a command in it where one is given."""
    try:
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, "mount namespaces are Linux's")
        enter(read_mounts(json.loads(arguments[0])))
    except OSError as error:
        print(f"{error.strerror}{f' ({error.filename})' if error.filename else ''}")
        return 1
    if arguments[1:]:
        os.execvp(arguments[1], list(arguments[1:]))  # noqa: S606 - it is a command as it is
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
