"""What every thread of a host's function does at this moment, seen from outside its process.

`faulthandler` in the process writes it (`stack_signal.py`), so that it can be had while native code
hangs; where the image has py-spy, and the kernel lets it look, it tells of native code, too.
"""

from __future__ import annotations

import json
import linecache
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .asking import NoAnswer, Refused, ask_worker, read_control
from .door import Door
from .dumped_stacks import Dumped, Frame, parse_dump
from .outcome import read_outcome
from .shown_paths import ShownPaths
from .stack_signal import NotWritten, dump_of
from .thread_states import STATES, ThreadTime, command_line, read_threads
from .worker import TASK_FILE

LIMIT_SECONDS = 10.0
"""How long the function's process may take to tell what it does."""

NAMES_SECONDS = 1.0
"""How long it may take to tell what its threads are called; Python code does that."""

MEASURED_SECONDS = 0.2
"""For how long the use of processors is looked at, at least."""

KEEPS_LOCK = (
    "no Python code can run in this process: a thread in native code keeps Python's lock (GIL)"
)
_PHASES = {
    "load_call": "the function has not been called yet: its call is being unpickled",
    "leave_value": "the function has returned, and its value is being stored",
    "leave_exception": "the function has raised an exception, which is being stored",
}
_AROUND_THREADS = frozenset({"_bootstrap", "_bootstrap_inner", "run"})


class NoStacks(Exception):
    """The stacks cannot be had; the text says why."""


class Thread(NamedTuple):
    """A thread.

    Attributes:
        name: What it is called.
        is_main: Whether it is the one that calls the function.
        state: What the kernel says that it does; empty where that is unknown.
        cpu_percent: How much of a processor it used while it was looked at; None where unknown.
        frames: The functions that it is in, the outermost first.
    """

    name: str
    is_main: bool
    state: str
    cpu_percent: float | None
    frames: tuple[Frame, ...]


class Stacks(NamedTuple):
    """What a process does.

    Attributes:
        host: The host's number.
        at: When it was looked at, in seconds since 1970.
        process: The process's id, where it runs.
        how: What has told: `faulthandler` or `py-spy`.
        notes: What is to be said about it.
        threads: Its threads, that which calls the function first; the runner's own are left out.
    """

    host: int
    at: float
    process: int
    how: str
    notes: tuple[str, ...]
    threads: tuple[Thread, ...]

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        threads = [
            {**thread._asdict(), "frames": [frame._asdict() for frame in thread.frames]}
            for thread in self.threads
        ]
        return {**self._asdict(), "notes": list(self.notes), "threads": threads}


def main(door: Door, _arguments: Sequence[str]) -> int:
    """Print what a host's function does, or why that cannot be told; the `stacks` command."""
    try:
        print(json.dumps(take(door).document()))
    except NoStacks as error:
        print(json.dumps({"host": door.host, "error": str(error)}))
    return 0


def take(door: Door, *, limit_seconds: float = LIMIT_SECONDS) -> Stacks:
    """Return what every thread of a host's function does now.

    Args:
        door: Where the host's processes are.
        limit_seconds: How long its process may take to tell.

    Raises:
        NoStacks: The function's process is over, or tells nothing.
    """
    if command_line(door.worker) and door.directory not in command_line(door.worker):
        raise NoStacks("the function's process is over")
    control = read_control(door.directory)
    if control is None:
        raise NoStacks("the function's process has just been started, or is over")
    names, notes = _names(door)
    begun, before = time.monotonic(), read_threads(door.worker)
    try:
        dumped = parse_dump(dump_of(door.worker, door.directory, control, limit_seconds))
    except (NotWritten, OSError) as error:
        raise NoStacks(f"the function's process does not tell: {_why(error, before)}") from error
    time.sleep(max(MEASURED_SECONDS - (time.monotonic() - begun), 0.0))
    passed, after = time.monotonic() - begun, read_threads(door.worker)
    kernel = _Kernel(before, after, passed)
    view = _View(door, control, names, kernel)
    threads = [thread for each in dumped for thread in view.threads(each)]
    return Stacks(
        host=door.host,
        at=time.time(),
        process=door.worker,
        how="faulthandler",
        notes=(*notes, *view.phases(dumped)),
        threads=tuple(sorted(threads, key=lambda thread: not thread.is_main)),
    )


def _names(door: Door) -> tuple[dict[int, dict[str, Any]], tuple[str, ...]]:
    """Return what Python calls the threads, by their idents, and what that says of the process."""
    try:
        threads = ask_worker(door.directory, "threads", limit_seconds=NAMES_SECONDS)
    except NoAnswer:
        return {}, (KEEPS_LOCK,)
    except Refused:
        return {}, ()
    return {thread["ident"]: thread for thread in threads}, ()


def _why(error: Exception, threads: Mapping[int, ThreadTime]) -> str:
    states = {thread.state for thread in threads.values()}
    if len(states) == 1:
        return f"all its threads are {STATES.get(states.pop(), 'in a state of their own')}"
    return str(error)


class _Kernel(NamedTuple):
    """What the kernel knows of threads, at two moments."""

    before: Mapping[int, ThreadTime]
    after: Mapping[int, ThreadTime]
    passed_seconds: float

    def words(self, thread: int | None) -> tuple[str, float | None]:
        """Return a thread's state, and how much of a processor it has used."""
        now = self.after.get(thread or 0)
        if now is None:
            return "", None
        then = self.before.get(thread or 0, now)
        percent = 100 * (now.seconds - then.seconds) / self.passed_seconds
        return STATES.get(now.state, ""), min(round(percent, 1), 100.0)


class _View:
    """What is shown of the threads of a process.

    Args:
        door: Where it is.
        control: Which of its threads listens.
        names: What Python calls its threads, by their idents.
        kernel: What the kernel knows of them.
    """

    def __init__(
        self,
        door: Door,
        control: Mapping[str, Any],
        names: Mapping[int, Mapping[str, Any]],
        kernel: _Kernel,
    ) -> None:
        self._door = door
        self._control = control
        self._names = names
        self._kernel = kernel
        task = _task(door.directory)
        self._packages = os.path.join(task.get("packages") or door.archive, "")
        self._paths = ShownPaths(task["workspace"], task["root"])

    def threads(self, dumped: Dumped) -> list[Thread]:
        """Return a thread; none where it is the runner's own."""
        is_main = dumped.ident == self._control["main"]
        frames = self._of_function(dumped.frames)
        if dumped.ident == self._control["ident"] or not (frames or is_main):
            return []
        named = self._names.get(dumped.ident, {})
        native = self._door.worker if is_main else named.get("native_id")
        state, percent = self._kernel.words(native)
        name = "main" if is_main else str(named.get("name") or f"without a name, {dumped.ident:x}")
        return [Thread(name, is_main, state, percent, tuple(map(self._shown, frames)))]

    def phases(self, threads: Sequence[Dumped]) -> list[str]:
        """Return what is done with the function where it is not what runs."""
        main = [each for each in threads if each.ident == self._control["main"]]
        own = {frame.function for each in main for frame in each.frames if self._is_own(frame)}
        found = [words for function, words in _PHASES.items() if function in own]
        if not found and read_outcome(self._door.directory):
            return ["the call is over, and its process waits for what the function has left behind"]
        return found

    def _of_function(self, frames: Sequence[Frame]) -> list[Frame]:
        """Return the frames from the function on."""
        found = list(frames)
        while found and (self._is_own(found[0]) or _is_around(found[0])):
            del found[0]
        # What is beneath it are the runner's streams, which the function prints to.
        while found and self._is_own(found[-1]):
            del found[-1]
        return found

    def _is_own(self, frame: Frame) -> bool:
        return frame.file.startswith(self._door.archive)

    def _shown(self, frame: Frame) -> Frame:
        source = linecache.getline(frame.file, frame.line or 0).strip()
        file = self._paths.file(frame.file)
        return frame._replace(file=file.removeprefix(self._packages), source=source)


def _is_around(frame: Frame) -> bool:
    """Whether a frame is of what calls functions, in every thread and for every coroutine."""
    folder, name = os.path.split(frame.file)
    if name == "threading.py":
        return frame.function in _AROUND_THREADS
    return frame.file.startswith("<frozen ") or os.path.basename(folder) == "asyncio"


def _task(directory: str) -> dict[str, Any]:
    with open(os.path.join(directory, TASK_FILE), encoding="utf-8") as file:
        task: dict[str, Any] = json.load(file)
    return task
