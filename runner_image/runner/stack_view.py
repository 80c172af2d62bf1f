"""What is shown of the threads of a process: names, states, and frames from the function on."""

from __future__ import annotations

import linecache
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .dumped_stacks import Dumped, Frame
from .shown_paths import ShownPaths
from .thread_states import STATES, ThreadTime

PHASES = {
    "load_call": "the function has not been called yet: its call is being unpickled",
    "leave_value": "the function has returned, and its value is being stored",
    "leave_exception": "the function has raised an exception, which is being stored",
}
ANSWERS = "_answer"
"""The function of `control.py` that does what it was asked for."""

_NATIVE = re.compile(r"\.(?:so[0-9.]*|c|cc|cpp|cxx|h|hpp)$")
_AROUND_THREADS = frozenset({"_bootstrap", "_bootstrap_inner", "run"})


class Thread(NamedTuple):
    """A thread.

    Attributes:
        name: What it is called.
        is_main: Whether it is the one that calls the function.
        process: The process that it is in, where that is a child of the function's; else None.
        state: What the kernel says that it does; empty where that is unknown.
        cpu_percent: How much of a processor it used while it was looked at; None where unknown.
        frames: The functions that it is in, the outermost first.
    """

    name: str
    is_main: bool
    process: int | None
    state: str
    cpu_percent: float | None
    frames: tuple[Frame, ...]


class Kernel(NamedTuple):
    """What the kernel knows of threads, at two moments.

    Attributes:
        before: At the first.
        after: At the second.
        passed_seconds: The time between them.
    """

    before: Mapping[int, ThreadTime]
    after: Mapping[int, ThreadTime]
    passed_seconds: float

    def words(self, thread: int | None) -> tuple[str, float | None]:
        """Return a thread's state, and how much of a processor it has used.

        Args:
            thread: Its native id; None where that is unknown.
        """
        now = self.after.get(thread or 0)
        if now is None:
            return "", None
        then = self.before.get(thread or 0, now)
        percent = 100 * (now.seconds - then.seconds) / self.passed_seconds
        return STATES.get(now.state, ""), min(round(percent, 1), 100.0)


class View:
    """What is shown of a process.

    Args:
        archive: The runner's zip archive, whose own frames are left out.
        task: What the worker was told.
        control: Which of its threads listens, and which is the main one.
        names: What Python calls its threads, by their idents.
        main: Native id of the main thread.
    """

    def __init__(
        self,
        archive: str,
        task: Mapping[str, Any],
        control: Mapping[str, Any],
        names: Mapping[int, Mapping[str, Any]],
        main: int,
    ) -> None:
        self._archive = archive
        self._control = control
        self._names = names
        self._main = main
        self._workspace = os.path.join(task["workspace"], "")
        self._packages = os.path.join(task["packages"] or archive, "")
        self._paths = ShownPaths(task["workspace"], task["root"])

    def threads(self, dumped: Dumped, kernel: Kernel) -> list[Thread]:
        """Return a thread of the function's process; none where it is the runner's own."""
        is_main = dumped.ident == self._control["main"]
        frames = self.frames(dumped.frames)
        if dumped.ident == self._control["ident"] or not (frames or is_main):
            return []
        named = self._names.get(dumped.ident, {})
        native = self._main if is_main else dumped.native_id or named.get("native_id")
        state, percent = kernel.words(native)
        name = "main" if is_main else str(named.get("name") or dumped.name or "without a name")
        return [Thread(name, is_main, None, state, percent, frames)]

    def is_answering(self, threads: Sequence[Dumped]) -> bool:
        """Whether the thread that listens is at something that it was asked for."""
        listening = (each.frames for each in threads if each.ident == self._control["ident"])
        return any(frame.function == ANSWERS for frames in listening for frame in frames)

    def phase(self, threads: Sequence[Dumped]) -> str:
        """Return what is done with the function where it is not what runs; empty where it is."""
        frames = [each.frames for each in threads if each.ident == self._control["main"]]
        own = {frame.function for each in frames for frame in each if self._is_own(frame)}
        return next((words for function, words in PHASES.items() if function in own), "")

    def frames(self, frames: Sequence[Frame]) -> tuple[Frame, ...]:
        """Return frames as they are shown, from the function on."""
        found = list(frames)
        while found and (self._is_own(found[0]) or _is_around(found[0])):
            del found[0]
        # What is beneath it are the runner's streams, which the function prints to.
        while found and self._is_own(found[-1]):
            del found[-1]
        return tuple(self._shown(frame) for frame in found)

    def _is_own(self, frame: Frame) -> bool:
        return frame.file.startswith(self._archive)

    def _shown(self, frame: Frame) -> Frame:
        source = linecache.getline(frame.file, frame.line or 0).strip()
        file = self._paths.file(frame.file).removeprefix(self._packages)
        is_project = frame.file.startswith(self._workspace)
        return frame._replace(file=file, source=frame.source or source, is_project=is_project)


def _is_around(frame: Frame) -> bool:
    """Whether a frame is of what calls functions, in every thread and for every coroutine."""
    folder, name = os.path.split(frame.file)
    if name == "threading.py":
        return frame.function.rpartition(".")[2] in _AROUND_THREADS
    if _NATIVE.search(frame.file):
        # Beneath it Python begins.
        return True
    return frame.file.startswith("<frozen ") or os.path.basename(folder) == "asyncio"
