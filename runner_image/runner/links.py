"""Links and directories that runs make outside of their own, and that go with the last of them.

Of each path it is noted in a file what was made there. Who uses it holds another file's lock with
others; who can have that alone knows that nobody else does. A lock ends with its process, so that
what a process has left that was killed is found, and removed.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

USERS, GUARD, MADE = "users", "guard", "made.json"

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class Taken(Exception):
    """A path that something else is at."""


class Held(NamedTuple):
    """A path as long as this run uses it.

    Attributes:
        notes: Where it is noted what was made.
        users: The lock that is held, an open file.
    """

    notes: str
    users: int

    def release(self) -> None:
        """Let go of the path; the last one removes what was made."""
        with _guarded(self.notes):
            if _try_alone(self.users):
                _remove(self.notes)
            os.close(self.users)


def have_directory(path: str, _source: str, notes: str) -> Held:
    """Have a directory to mount something on, unless it is there or may not be made.

    Args:
        path: The directory.
        notes: Where it is noted who uses what.

    Raises:
        Taken: Something else is there.
    """
    with _using(path, notes) as (place, users):
        if not os.path.isdir(path):
            if os.path.lexists(path):
                raise Taken("something is there that is no directory")
            # Where none may be made, the process makes it for itself alone.
            try:
                _make_directories(place, path, {})
            except OSError as error:
                if error.errno not in _FORBIDDEN:
                    raise
        return Held(place, users)


def have_link(path: str, source: str, notes: str) -> Held:
    """Have a link to a directory.

    Args:
        path: Where the link is to be.
        source: The directory.
        notes: Where it is noted who uses what.

    Raises:
        Taken: Something else is there, another run's link for one.
        OSError: None may be made there.
    """
    with _using(path, notes) as (place, users):
        if os.path.islink(path) and os.readlink(path) == source:
            return Held(place, users)
        if target := _read(place).get("target"):
            raise Taken(f"another run that has not ended has {target} there")
        if os.path.lexists(path):
            raise Taken("something is there already")
        _make_directories(place, os.path.dirname(path), {"link": path, "target": source})
        os.symlink(source, path)
        return Held(place, users)


@contextmanager
def _using(path: str, notes: str) -> Iterator[tuple[str, int]]:
    """Hold a path's lock with others; what nobody uses any more is removed before."""
    place = os.path.join(notes, hashlib.sha256(os.fsencode(path)).hexdigest()[:32])
    os.makedirs(place, 0o700, exist_ok=True)
    with _guarded(place):
        users = os.open(os.path.join(place, USERS), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _try_alone(users):
                _remove(place)
            # Nobody else has it alone meanwhile: for that the guard is held.
            fcntl.flock(users, fcntl.LOCK_SH)
            yield place, users
        except BaseException:
            if _try_alone(users):
                _remove(place)
            os.close(users)
            raise


@contextmanager
def _guarded(place: str) -> Iterator[None]:
    """Be the only one who looks at a path, or changes something there."""
    guard = os.open(os.path.join(place, GUARD), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield
    finally:
        os.close(guard)


def _try_alone(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _make_directories(place: str, directory: str, link: Mapping[str, Any]) -> None:
    """Make a directory and those it is in, having noted first what will have to be removed."""
    missing: list[str] = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    _write(place, {**link, "directories": missing})
    for each in reversed(missing):
        os.mkdir(each)


def _remove(place: str) -> None:
    """Remove what was made: a link that is as it was made, and directories that are empty."""
    made = _read(place)
    link = made.get("link")
    with suppress(OSError):
        if link and os.readlink(link) == made["target"]:
            os.unlink(link)
    for directory in made.get("directories") or ():
        with suppress(OSError):
            os.rmdir(directory)
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(place, MADE))


def _read(place: str) -> dict[str, Any]:
    try:
        with open(os.path.join(place, MADE), encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        return {}
    return found


def _write(place: str, made: Mapping[str, Any]) -> None:
    path = os.path.join(place, MADE)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(made, file)
    os.rename(f"{path}.new", path)
