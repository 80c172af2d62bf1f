"""What the tasks of the function's event loop wait for; its thread only shows that it waits.

It is asked for in the function's process (`control.py`), by the thread that listens there.
"""

from __future__ import annotations

import asyncio
from typing import Any

MOST = 100
"""How many tasks are told of."""

DEEPEST = 100
"""How many functions of each."""

loops: list[asyncio.AbstractEventLoop] = []
"""The event loop that the function's coroutine runs in; none before it is called."""


async def noted(coroutine: Any) -> Any:
    """Await a coroutine, and have those who look at the run find its tasks."""
    loops[:] = [asyncio.get_running_loop()]
    return await coroutine


def waiting() -> list[dict[str, Any]]:
    """Return the tasks that wait, each with its name and its functions, the outermost first."""
    tasks = [task for loop in loops for task in _tasks(loop) if not task.done()]
    told = [{"name": task.get_name(), "frames": _frames(task.get_coro())} for task in tasks[:MOST]]
    return [each for each in told if each["frames"]]


def _tasks(loop: asyncio.AbstractEventLoop) -> list[asyncio.Task[Any]]:
    return sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())


def _frames(awaited: Any) -> list[dict[str, Any]]:
    """Return the functions that a coroutine is in: it awaits another, and that one the next."""
    found: list[dict[str, Any]] = []
    while awaited is not None and len(found) < DEEPEST:
        frame = _first(awaited, "cr_frame", "gi_frame", "ag_frame")
        if frame is not None:
            code = frame.f_code
            found.append(
                {"function": code.co_qualname, "file": code.co_filename, "line": frame.f_lineno}
            )
        awaited = _first(awaited, "cr_await", "gi_yieldfrom", "ag_await")
    return found


def _first(thing: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(thing, name, None))), None)
