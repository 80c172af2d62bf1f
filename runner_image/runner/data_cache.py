"""Where copies of data are: each in a directory of its own, shared by the runs that want it.

A copy's directory is named by what the copy is of. In it are `lock`, `whole` (a marker: the copy
is there; its time is when it was used last), `files` with the copy under its own name, and, until
it is whole, `draft`. Who uses a copy holds the lock with others, who makes or removes one holds it
alone; a lock ends with its process.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from .contract import NO_ROOM

LOCK, WHOLE, FILES, DRAFT = "lock", "whole", "files", "draft"
SHARED_MODE = 0o555
"""Of directories that several runs read."""

_LOOK_SECONDS = 0.2
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class NoCache(Exception):
    """A directory that cannot be used as one for copies."""


class Copies:
    """Copies of data below one directory.

    Args:
        root: The directory.
        is_kept: Whether copies stay there when nobody uses them any more.
        is_shared: Whether other runs may use them.
    """

    def __init__(self, root: str, *, is_kept: bool, is_shared: bool) -> None:
        self.root = root
        self._is_kept = is_kept
        self._is_shared = is_shared
        self._held: dict[str, int] = {}

    def prepare(self) -> None:
        """Make the directory.

        Raises:
            NoCache: It cannot be.
        """
        try:
            os.makedirs(self.root, 0o700, exist_ok=True)
            owner = os.stat(self.root).st_uid
        except OSError as error:
            raise NoCache(f"{self.root}: {error.strerror}") from error
        # A cache may be an administrator's; where anybody can make a directory, it must be ours.
        if owner != os.geteuid() and not self._is_kept:
            raise NoCache(f"{self.root} belongs to another user")
        if not self._is_kept:
            self._remove_left()

    def bring(
        self, spec: Mapping[str, Any], make: Callable[[str, str], None], wait: Callable[[], None]
    ) -> str:
        """Return the path of a copy, which is made unless it is there.

        Args:
            spec: The job's `DataSpec`.
            make: Makes a copy, given a directory for what it needs meanwhile, which it may find
                as an earlier try has left it, and the path that the copy is to have there.
            wait: Called while another process makes it.

        Raises:
            NoCache: There can be no copies here.
        """
        key = key_of(spec)
        place = os.path.join(self.root, key)
        path = os.path.join(place, FILES, spec["name"])
        while key not in self._held:
            lock, is_alone = _acquired(place, wait)
            try:
                if is_alone and not _is_whole(place):
                    self._make(place, spec, make)
                # Who removes what has not been used for long looks at its time.
                _touch(os.path.join(place, WHOLE))
                fcntl.flock(lock, fcntl.LOCK_SH)
                # Between the two ways of holding it, it was free for a moment.
                if _is_whole(place) and _is_same(lock, os.path.join(place, LOCK)):
                    self._held[key] = os.dup(lock)
            finally:
                os.close(lock)
        return path

    def release(self) -> None:
        """Let go of all copies, and remove those that are not kept."""
        for key, lock in self._held.items():
            if not self._is_kept:
                _remove_if_free(os.path.join(self.root, key), lock)
            os.close(lock)
        self._held = {}
        if not self._is_kept:
            _remove_empty(self.root)

    def _make(self, place: str, spec: Mapping[str, Any], make: Callable[[str, str], None]) -> None:
        draft, files = os.path.join(place, DRAFT), os.path.join(place, FILES)
        remove_tree(files)
        os.makedirs(draft, exist_ok=True)
        made = os.path.join(draft, FILES, spec["name"])
        make(draft, made)
        if self._is_shared:
            _make_read_only(os.path.join(draft, FILES))
        os.rename(os.path.join(draft, FILES), files)
        remove_tree(draft)
        about = {name: spec[name] for name in ("source", "kind", "size_bytes", "files")}
        with open(os.path.join(place, f"{WHOLE}.new"), "w", encoding="utf-8") as file:
            json.dump(about, file)
        if self._is_kept and self._is_shared:
            flush(place)
        os.rename(os.path.join(place, f"{WHOLE}.new"), os.path.join(place, WHOLE))

    def _remove_left(self) -> None:
        """Remove what processes have left that were killed."""
        for name in os.listdir(self.root):
            place = os.path.join(self.root, name)
            try:
                lock = os.open(os.path.join(place, LOCK), os.O_RDWR)
            except OSError:
                continue
            _remove_if_free(place, lock)
            os.close(lock)


def key_of(spec: Mapping[str, Any]) -> str:
    """Return what a copy's directory is called: equal for equal copies."""
    # What a bucket has is named by generations, which are unique in a bucket alone.
    place = spec["place"] if spec["kind"] == "bucket" else None
    said = [spec["kind"], spec["identity"], spec["name"], spec["is_file"], place]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def remove_tree(place: str) -> None:
    """Remove a directory, unless it is not there; with what can only be read."""
    if os.path.islink(place) or not os.path.isdir(place):
        return
    for folder, _, _ in os.walk(place):
        os.chmod(folder, 0o700)
    shutil.rmtree(place)


def flush(place: str) -> None:
    """Have a directory's file system on its disk: what says that a copy is whole comes after it.

    Files whose content a loss of power has taken would stay under their names.
    """
    import ctypes

    # https://man7.org/linux/man-pages/man2/syncfs.2.html; macOS has none.
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        os.sync()
        return
    handle = os.open(place, os.O_RDONLY)
    try:
        if syncfs(handle):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), place)
    finally:
        os.close(handle)


def _acquired(place: str, wait: Callable[[], None]) -> tuple[int, bool]:
    """Return a copy's lock, held, and whether it is held alone: where the copy is not whole."""
    while True:
        try:
            lock, may_write = _open_lock(place)
        except FileNotFoundError:
            # Its directory was removed before the lock was in it.
            wait()
            continue
        try:
            while True:
                is_alone = not _is_whole(place)
                if is_alone and not may_write:
                    raise NoCache(f"{place} cannot be written to")
                if _try_lock(lock, fcntl.LOCK_EX if is_alone else fcntl.LOCK_SH):
                    break
                wait()
                time.sleep(_LOOK_SECONDS)
            if _is_same(lock, os.path.join(place, LOCK)):
                return lock, is_alone
        except BaseException:
            os.close(lock)
            raise
        # It was removed while it was waited for.
        os.close(lock)


def _open_lock(place: str) -> tuple[int, bool]:
    """Open a copy's lock; return it, and whether there may be written."""
    path = os.path.join(place, LOCK)
    try:
        # Others may use what is here, whom the administrator of a cache lets in.
        os.makedirs(place, 0o755, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644), True
    except OSError as error:
        if error.errno in NO_ROOM or isinstance(error, FileNotFoundError):
            raise
        try:
            return os.open(path, os.O_RDONLY), False
        except OSError:
            raise NoCache(f"{error.filename}: {error.strerror}") from error


def _try_lock(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise NoCache(f"its file system has no locks ({error.strerror})") from error
        raise
    return True


def _is_same(lock: int, path: str) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(lock), os.stat(path))
    except FileNotFoundError:
        return False


def _is_whole(place: str) -> bool:
    return os.path.exists(os.path.join(place, WHOLE))


def _touch(path: str) -> None:
    try:
        os.utime(path)
    except OSError:
        # Of another user, or in a file system that can only be read.
        return


def _remove_if_free(place: str, lock: int) -> None:
    """Remove a copy that nobody else uses; what cannot be removed is left to the next run."""
    if not _try_lock(lock, fcntl.LOCK_EX) or not _is_same(lock, os.path.join(place, LOCK)):
        return
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(place, WHOLE))
    with suppress(OSError):
        # Out of the way of who makes it anew.
        gone = os.path.join(os.path.dirname(place), f"gone-{os.urandom(8).hex()}")
        os.rename(place, gone)
        # The lock last, by which the rest is found if this is interrupted.
        for part in (FILES, DRAFT, ""):
            remove_tree(os.path.join(gone, part))


def _remove_empty(place: str) -> None:
    try:
        os.rmdir(place)
    except OSError:
        return


def _make_read_only(place: str) -> None:
    for folder, _, _ in os.walk(place, topdown=False):
        if folder != place:
            os.chmod(folder, SHARED_MODE)
