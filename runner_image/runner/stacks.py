"""What every thread of a host's function does at this moment, seen from outside its process.

The process tells it itself (`control.py`); while native code hangs and keeps Python's lock,
`faulthandler` writes it (`stack_signal.py`). Where py-spy is there, and the kernel lets it look, it
tells of native code, too.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .asking import NoAnswer, Refused, ask_worker, read_control
from .child_stacks import Children
from .door import Door
from .dumped_stacks import Dumped, Frame, parse_dump
from .outcome import TASK_FILE, read_outcome
from .spied_stacks import PROGRAM, find_spy, spied
from .stack_signal import NotWritten, dump_of
from .stack_view import Kernel, Thread, View
from .thread_states import STATES, ThreadTime, command_line, descendants, read_threads

LIMIT_SECONDS = 10.0
"""How long the function's process may take to tell what it does."""

NAMES_SECONDS = 1.0
"""How long it may take to tell what its threads are called; Python code does that."""

MEASURED_SECONDS = 0.2
"""For how long the use of processors is looked at, at least."""

SPY_SECONDS = 5.0
"""How long py-spy may take."""

KEEPS_LOCK = (
    "no Python code can run in this process: a thread in native code keeps Python's lock (GIL)"
)
IS_BUSY = "what answers for its threads' names does something else that it was asked for"
_TELLS_NOTHING = "the function's process does not tell what it does"
_NEVER_ANSWER = frozenset({"T", "Z"})
LEFT_BEHIND = "the call is over, and its process waits for what the function has left running"


class NoStacks(Exception):
    """The stacks cannot be had; the text says why."""


class Stacks(NamedTuple):
    """What a process does.

    Attributes:
        host: The host's number.
        at: When it was looked at, in seconds since 1970.
        process: The process's id, where it runs.
        how: What has told: `python`, `faulthandler` or `py-spy`.
        notes: What is to be said about it.
        threads: Its threads, that which calls the function first, then tasks, then its children's;
            the runner's own are left out.
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
    except (NoStacks, OSError, ValueError) as error:
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
    command = command_line(door.worker)
    control = read_control(door.directory)
    if command and door.directory not in command:
        raise NoStacks("the function's process is over")
    if control is None:
        raise NoStacks("the function's process has just been started, or is over")
    with open(os.path.join(door.directory, TASK_FILE), encoding="utf-8") as file:
        task = json.load(file)
    asked = _asked(door)
    begun, before = time.monotonic(), read_threads(door.worker)
    children = {each: read_threads(each) for each in descendants(door.worker)}
    spy = find_spy(task["scripts"] or "")
    how, dumped = _dump(door, control, spy, asked.dumped, before, limit_seconds)
    time.sleep(max(MEASURED_SECONDS - (time.monotonic() - begun), 0.0))
    passed = time.monotonic() - begun
    kernel = Kernel(before, read_threads(door.worker), passed)
    view = View(door.archive, task, control, asked.names, door.worker)
    threads = [thread for each in dumped for thread in view.threads(each, kernel)]
    threads.sort(key=lambda thread: not thread.is_main)
    threads += [
        Thread(f"task {each['name']}", False, None, "", None, view.frames(_frames(each)))
        for each in asked.tasks
    ]
    threads += Children(door, control, view, spy).threads(children, passed, limit_seconds)
    notes = _notes(asked.is_held, view, dumped)
    if not view.phase(dumped) and read_outcome(door.directory):
        notes.append(LEFT_BEHIND)
    return Stacks(door.host, time.time(), door.worker, how, tuple(notes), tuple(threads))


class _Asked(NamedTuple):
    """What the process itself tells of its threads.

    Attributes:
        names: What Python calls them, by their idents.
        tasks: What its event loop's tasks wait for.
        dumped: What its threads do; none where it does not tell.
        is_held: Whether no Python code could run in it.
    """

    names: Mapping[int, Mapping[str, Any]] = {}
    tasks: Sequence[Mapping[str, Any]] = ()
    dumped: Sequence[Dumped] = ()
    is_held: bool = False


def _asked(door: Door) -> _Asked:
    try:
        told = ask_worker(door.directory, "threads", limit_seconds=NAMES_SECONDS)
    except NoAnswer:
        return _Asked(is_held=True)
    except Refused:
        return _Asked()
    names = {thread["ident"]: thread for thread in told["threads"]}
    dumped = [
        Dumped(each["ident"], tuple(Frame(*frame) for frame in each["frames"]))
        for each in told["stacks"]
    ]
    return _Asked(names, told["tasks"], dumped)


def _dump(
    door: Door,
    control: Mapping[str, Any],
    spy: str | None,
    told: Sequence[Dumped],
    before: Mapping[int, ThreadTime],
    limit_seconds: float,
) -> tuple[str, Sequence[Dumped]]:
    """Return the threads of the function's process, and what has told of them."""
    seen = spied(spy, door.worker, min(SPY_SECONDS, limit_seconds)) if spy else None
    if seen:
        return PROGRAM, seen
    if told:
        return "python", told
    states = {thread.state for thread in before.values()}
    if states and states <= _NEVER_ANSWER:
        raise NoStacks(f"{_TELLS_NOTHING}: it is {STATES[states.pop()]}")
    try:
        text = dump_of(door.worker, door.directory, control, limit_seconds)
    except (NotWritten, OSError) as error:
        why = _why(error, before)
        raise NoStacks(f"{_TELLS_NOTHING}: {why}") from error
    return "faulthandler", parse_dump(text)


def _why(error: Exception, threads: Mapping[int, ThreadTime]) -> str:
    states = {thread.state for thread in threads.values()}
    if states and states <= {"T", "t", "D", "Z"}:
        return f"it is {STATES[states.pop()]}"
    return str(error)


def _notes(is_held: bool, view: View, dumped: Sequence[Dumped]) -> list[str]:
    """Return what is to be said of a process besides what its threads do.

    Args:
        is_held: Whether it could not tell its threads' names.
        view: What is shown of it.
        dumped: Its threads.
    """
    notes = [IS_BUSY if view.is_answering(dumped) else KEEPS_LOCK] if is_held else []
    notes += [f"the thread {each.name!r} keeps it" for each in dumped if is_held and each.has_lock]
    phase = view.phase(dumped)
    return [*notes, phase] if phase else notes


def _frames(task: Mapping[str, Any]) -> list[Frame]:
    return [Frame(each["function"], each["file"], each["line"]) for each in task["frames"]]
