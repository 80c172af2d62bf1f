"""What the processes do that the function has started.

Those that were forked from its process, as those of `multiprocessing` and of data loaders often
are, handle the signal that asks for their stacks, too. Of others py-spy tells, where it is there
and they are Python's; else the kernel tells whether they run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from .door import Door
from .dumped_stacks import Dumped, parse_dump
from .spied_stacks import spied
from .stack_signal import NotWritten, dump_of
from .stack_view import Kernel, Thread, View
from .thread_states import ThreadTime, command_line, read_threads

MOST = 32
"""How many processes are looked at."""

LIMIT_SECONDS = 1.0
"""How long each may take to tell what it does."""

ALL_SECONDS = 8.0
"""How long all may; after that, only what the kernel knows of the rest is told."""

Threads = Mapping[int, ThreadTime]


class Children(NamedTuple):
    """The processes that a function has started, and how they are looked at.

    Attributes:
        door: Where the host's processes are.
        control: Which thread of the function's process listens, and to which signal.
        view: What is shown.
        spy: Where py-spy is; None where it is not.
    """

    door: Door
    control: Mapping[str, Any]
    view: View
    spy: str | None

    def threads(
        self, before: Mapping[int, Threads], passed_seconds: float, limit_seconds: float
    ) -> list[Thread]:
        """Return their threads.

        Args:
            before: What the kernel knew of each process's threads.
            passed_seconds: How long ago that was.
            limit_seconds: How long it may take.
        """
        found = []
        deadline = time.monotonic() + min(limit_seconds, ALL_SECONDS)
        for child in list(before)[:MOST]:
            kernel = Kernel(before[child], read_threads(child), passed_seconds)
            if kernel.after:
                is_asked = time.monotonic() < deadline
                found += self._threads(
                    child, kernel, self._dumped(child, kernel) if is_asked else []
                )
        return found

    def _threads(self, child: int, kernel: Kernel, dumped: Sequence[Dumped]) -> list[Thread]:
        state, percent = kernel.words(child)
        name = os.path.basename((command_line(child) or [""])[0]) or "a process"
        shown = [self.view.frames(each.frames) for each in dumped]
        found = [Thread(name, False, child, state, percent, frames) for frames in shown if frames]
        return found or [Thread(name, False, child, state, percent, ())]

    def _dumped(self, child: int, kernel: Kernel) -> list[Dumped]:
        """Return the threads of a process that tells of them; none of another."""
        # One that was to become another program has done so since it was first seen.
        asked = {**self.control, "native_id": child}
        with suppress(NotWritten, OSError):
            if may_tell(child, kernel):
                return parse_dump(dump_of(child, self.door.directory, asked, LIMIT_SECONDS))
        return (spied(self.spy, child, LIMIT_SECONDS) if self.spy else None) or []


def may_tell(child: int, kernel: Kernel) -> bool:
    """Whether a process can write its stacks unharmed: no thread runs but that which does so.

    What the others are at would change while it is read; see `control.py`.
    """
    others = (each for each in kernel.after if each != child)
    return all(_rests(kernel.before.get(each), kernel.after[each]) for each in others)


def _rests(before: ThreadTime | None, after: ThreadTime) -> bool:
    return before is not None and after.state != "R" and after.seconds == before.seconds
