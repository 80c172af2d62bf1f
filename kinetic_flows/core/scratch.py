"""Directories for work in progress, which do not pile up when a process is killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kinetic_flows.core.files import PRIVATE_DIRECTORY, open_private, private_directory

_HELD = "held"


@contextmanager
def scratch_directory(home: Path) -> Iterator[Path]:
    """Yield an empty directory that is gone afterwards.

    Those of processes that were killed are removed on the way: whoever works in one holds a
    lock on it, which the kernel releases when its holder dies.

    Args:
        home: `KINETIC_HOME`, where the directory is made.
    """
    parent = home / "scratch"
    private_directory(parent)
    # Nobody may take a directory that was made a moment ago, and is not held yet, for abandoned.
    with os.fdopen(open_private(parent / ".lock"), "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _remove_abandoned(parent)
        made = Path(tempfile.mkdtemp(dir=parent))
        held = os.fdopen(open_private(made / _HELD), "r+b")
        fcntl.flock(held, fcntl.LOCK_EX)
    with held:
        try:
            work = made / "work"
            work.mkdir(mode=PRIVATE_DIRECTORY)
            yield work
        finally:
            shutil.rmtree(made, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for directory in parent.iterdir():
        if directory.is_dir() and not _is_held(directory):
            shutil.rmtree(directory, ignore_errors=True)


def _is_held(directory: Path) -> bool:
    try:
        with (directory / _HELD).open("r+") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
