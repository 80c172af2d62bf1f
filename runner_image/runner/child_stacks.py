"""What the processes do that the function has started.

Those that were forked from its process, as those of `multiprocessing` and of data loaders often
are, handle the signal that asks for their stacks, too; of others the kernel tells whether they run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .door import Door
from .dumped_stacks import parse_dump
from .stack_signal import NotWritten, dump_of
from .stack_view import Kernel, Thread, View
from .thread_states import command_line, read_threads

MOST = 32
"""How many processes are looked at."""

LIMIT_SECONDS = 1.0
"""How long each may take to tell what it does."""


def child_threads(
    door: Door,
    control: Mapping[str, Any],
    view: View,
    before: Mapping[int, Mapping[int, Any]],
    passed_seconds: float,
) -> list[Thread]:
    """Return the threads of the processes that the function has started.

    Args:
        door: Where the host's processes are.
        control: Which thread of the function's process listens, and to which signal.
        view: What is shown.
        before: What the kernel knew of each process's threads.
        passed_seconds: How long ago that was.
    """
    found = []
    for child in list(before)[:MOST]:
        kernel = Kernel(before[child], read_threads(child), passed_seconds)
        if kernel.after:
            found += _threads(child, door, control, view, kernel)
    return found


def _threads(
    child: int, door: Door, control: Mapping[str, Any], view: View, kernel: Kernel
) -> list[Thread]:
    state, percent = kernel.words(child)
    name = os.path.basename(command_line(child)[0]) or "a process"
    with suppress(NotWritten, OSError):
        asked = {"native_id": child, "signal": control["signal"]}
        dumped = parse_dump(dump_of(child, door.directory, asked, LIMIT_SECONDS))
        return [
            Thread(name, False, child, state, percent, view.frames(each.frames)) for each in dumped
        ]
    return [Thread(name, False, child, state, percent, ())]
