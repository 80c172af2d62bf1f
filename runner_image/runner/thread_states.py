"""What the kernel knows of a process and its threads, read from outside: `proc(5)`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

STATES = {
    "R": "running",
    "S": "waiting",
    "D": "waiting in the kernel, where no signal reaches it",
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
    "Z": "ended",
}


class ThreadTime(NamedTuple):
    """A thread at one moment.

    Attributes:
        state: The kernel's letter for what it does.
        seconds: Processor time that it has used.
    """

    state: str
    seconds: float


def read_threads(process: int, root: str = "/proc") -> dict[int, ThreadTime]:
    """Return the threads of a process by their native ids; none where the kernel does not tell."""
    found = {}
    for name in _names(os.path.join(root, str(process), "task")):
        fields = _fields(os.path.join(root, str(process), "task", name, "stat"))
        if fields:
            found[int(name)] = ThreadTime(fields[0], _seconds(fields[11:13]))
    return found


def tree_seconds(process: int, root: str = "/proc") -> float | None:
    """Return the processor time of a process and all that it has started; None where unknown."""
    times = [
        _seconds(fields[11:15])
        for each in [process, *descendants(process, root)]
        if (fields := _fields(os.path.join(root, str(each), "stat")))
    ]
    return sum(times) if times else None


def _seconds(ticks: Sequence[str]) -> float:
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def signals(process: int, thread: int, root: str = "/proc") -> dict[str, int]:
    """Return the sets of signals of a thread, by the names that the kernel has for them."""
    try:
        with open(os.path.join(root, str(process), "task", str(thread), "status")) as file:
            lines = [line.split(":", 1) for line in file if line.startswith(("Sig", "Shd"))]
    except OSError:
        return {}
    return {name: int(value, 16) for name, value in lines if name != "SigQ"}


def command_line(process: int, root: str = "/proc") -> list[str]:
    """Return a process's command and arguments; none where it is over."""
    try:
        with open(os.path.join(root, str(process), "cmdline"), "rb") as file:
            data = file.read()
    except OSError:
        return []
    return [os.fsdecode(part) for part in data.rstrip(b"\0").split(b"\0")]


def descendants(process: int, root: str = "/proc") -> list[int]:
    """Return the processes that a process has started, and those that they have, in order."""
    parents = {int(each): _parent(each, root) for each in _names(root) if each.isdigit()}
    found, front = [], {process}
    while front:
        front = {each for each, parent in parents.items() if parent in front}
        found += sorted(front)
    return found


def _parent(process: str, root: str) -> int:
    fields = _fields(os.path.join(root, process, "stat"))
    return int(fields[1]) if fields else 0


def _fields(path: str) -> list[str]:
    """Return the fields of a `stat` file after the command's name, which may hold anything."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
