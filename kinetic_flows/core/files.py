"""Files and directories that only their owner can read, whatever the umask.

What is kept under `KINETIC_HOME` holds people's code, arguments and values, and the keys by
which results are known to be genuine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700

OWN_DIRECTORIES = frozenset(
    {"bootstraps", "cache", "clients", "environments", "history", "images", "keys", "locks"}
    | {"prefect", "runs", "scratch", "store", "trees", "uv", "wheels"}
)
"""What this library makes in `KINETIC_HOME`."""

UNTOUCHED = frozenset({"environments", "outputs"})
"""Directories that are closed and whose content is left as it is.

uv links the files of environments to those of its own cache; outputs are the user's files.
"""

_TIGHTENED = ".private"


def private_directory(path: Path) -> Path:
    """Make a directory and the parents it lacks, open to their owner only; return it."""
    missing = [path]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for directory in reversed(missing):
        with suppress(FileExistsError):
            directory.mkdir(mode=PRIVATE_DIRECTORY)
    if not path.is_dir():
        # Something else has the name: said as `mkdir` says it.
        path.mkdir()
    return path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a private file so that a reader sees all of it or none."""
    with _draft_of(path) as file:
        file.write(data)


def copy_atomically(source: Path, target: Path) -> None:
    """Make a private copy of a file so that a reader of it sees all of it or none."""
    with source.open("rb") as original, _draft_of(target) as copy:
        shutil.copyfileobj(original, copy)


@contextmanager
def _draft_of(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that gets its name when it is complete, and is gone if it never is."""
    private_directory(path.parent)
    # mkstemp makes files of mode 0600.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def open_private(path: Path) -> int:
    """Open a private file for reading and writing, making it if need be; return its descriptor.

    Raises:
        OSError: It cannot be opened.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)


def tighten_home(home: Path) -> None:
    """Close what earlier versions left open in a home; done once for each.

    What Prefect kept of calls goes: it held the keys of runs that failed, pickled. All of it is
    made again when it is asked for.

    A directory that holds other things than ours, too, is not closed itself: only what is ours in
    it is.

    Args:
        home: `KINETIC_HOME`.
    """
    mark = home / _TIGHTENED
    if not home.is_dir() or mark.exists():
        return
    names = {entry.name for entry in home.iterdir()}
    if names <= OWN_DIRECTORIES:
        _close(home)
    results = home / "store" / "results"
    if _is_open(results):
        shutil.rmtree(results, ignore_errors=True)
    for name in names & OWN_DIRECTORIES:
        close_to_others(home / name)
    with suppress(OSError):
        os.close(open_private(mark))


def _is_open(directory: Path) -> bool:
    """Whether a directory is of an earlier version, which left the rights of others."""
    return directory.is_dir() and bool(directory.stat().st_mode & ~PRIVATE_DIRECTORY & 0o777)


def close_to_others(directory: Path) -> None:
    """Close a directory and all that is in it; nothing happens when there is none."""
    for folder, folders, files in os.walk(directory):
        _close(Path(folder))
        if Path(folder).name in UNTOUCHED:
            folders.clear()
            continue
        for name in files:
            _close(Path(folder, name))


def _close(path: Path) -> None:
    """Take every right but its owner's from a file or directory; nothing for what is not ours."""
    with suppress(OSError):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode & PRIVATE_DIRECTORY)
