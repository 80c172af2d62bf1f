"""Files and directories that only their owner can read, whatever the umask; locks on them.

What is kept under `KINETIC_HOME` holds people's code, arguments and values, and the keys by
which results are known to be genuine.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from kinetic_flows.core.interruption import is_interruptible, pause

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
LOCK_LOOK_SECONDS = 0.01

OWN_DIRECTORIES = frozenset(
    {"bootstraps", "cache", "clients", "data", "environments", "history", "images", "keys"}
    | {"layers", "locks", "prefect", "runs", "scratch", "store", "trees", "uv", "wheels"}
)
"""What this library makes in `KINETIC_HOME`."""

UNTOUCHED = frozenset({"data", "environments", "outputs"})
"""Directories that are closed and whose content is left as it is.

uv links the files of environments to those of its own cache; copies of data can only be read, and
can be a million; outputs are the user's files.
"""

_HELD = "held"
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


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock, which the kernel releases when its holder dies; wait for it if need be.

    Not filelock, which asks every 50 ms (25 ms to take over a lock that is released, the kernel
    needs 0.1 ms) and takes 0.35 ms for a free one (0.01 ms).

    Args:
        path: The file that is locked; made, with its directory, when it does not exist.
    """
    private_directory(path.parent)
    with os.fdopen(open_private(path), "r+b") as lock:
        if is_interruptible():
            _lock_unless_interrupted(lock)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _lock_unless_interrupted(lock: IO[bytes]) -> None:
    """Lock a file in a thread, which no signal gets out of a wait for the kernel."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pause(LOCK_LOOK_SECONDS)
        else:
            return


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock on a file; False where there is no such file."""
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


@contextmanager
def scratch_directory(home: Path) -> Iterator[Path]:
    """Yield an empty directory that is gone afterwards.

    Those of processes that were killed are removed on the way: a living process holds a lock on
    its own.

    Args:
        home: `KINETIC_HOME`, where the directory is made.
    """
    parent = home / "scratch"
    with ExitStack() as holding:
        # No other process may take a directory that was made a moment ago, and is not held yet, for
        # abandoned.
        with exclusive_lock(parent / ".lock"):
            _remove_abandoned(parent)
            made = Path(tempfile.mkdtemp(dir=parent))
            holding.enter_context(exclusive_lock(made / _HELD))
            holding.callback(shutil.rmtree, made, ignore_errors=True)
        work = made / "work"
        work.mkdir(mode=PRIVATE_DIRECTORY)
        yield work


def _remove_abandoned(parent: Path) -> None:
    for directory in parent.iterdir():
        if directory.is_dir() and not is_locked(directory / _HELD):
            shutil.rmtree(directory, ignore_errors=True)


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


def printable(path: str) -> str:
    """Write a file name so that it fits on a line, whatever its bytes are."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else ascii(text)[1:-1]


def listed(paths: Sequence[str], *, limit: int) -> str:
    """Write the first few of many paths, and how many more there are."""
    shown = ", ".join(printable(path) for path in paths[:limit])
    more = len(paths) - limit
    return f"{shown} and {more} more" if more > 0 else shown


def size_in_units(size_bytes: int) -> str:
    """Write a size for people: `205 bytes`, `1.5 MB`."""
    from humanize import naturalsize

    return naturalsize(size_bytes).replace("Byte", "byte")
