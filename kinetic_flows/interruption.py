"""Blocking work for async callers, which stops when whoever awaits it is cancelled."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

R = TypeVar("R")

_interruption: ContextVar[threading.Event | None] = ContextVar("interruption", default=None)


async def in_thread(work: Callable[[], R]) -> R:
    """Do blocking work in a thread, and wait for it without blocking the event loop.

    When the awaiting task is cancelled (Ctrl-C under `asyncio.run`, a timeout), the work's
    next `pause` raises, and the work is waited for: a thread that went on would hold up the
    end of the program.

    Args:
        work: Called in the thread.

    Raises:
        CancelledError: The awaiting task was cancelled, and the work has stopped.
    """
    interruption = threading.Event()
    working = asyncio.ensure_future(asyncio.to_thread(_work, work, interruption))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        interruption.set()
        await asyncio.gather(working, return_exceptions=True)
        raise


def pause(seconds: float) -> None:
    """Sleep, unless whoever awaits this work is or has been cancelled.

    Raises:
        KeyboardInterrupt: They have, which is to this work what Ctrl-C is to a program's.
    """
    interruption = _interruption.get() or threading.Event()
    if interruption.wait(seconds):
        raise KeyboardInterrupt


def interruptible(interruption: threading.Event) -> None:
    """Let this thread's `pause` raise once an event is set."""
    _interruption.set(interruption)


def _work(work: Callable[[], R], interruption: threading.Event) -> R:
    # The thread has a context of its own, so there is nothing to restore.
    _interruption.set(interruption)
    try:
        return work()
    except KeyboardInterrupt as interrupt:
        # A KeyboardInterrupt that is a task's outcome would end the whole event loop.
        raise asyncio.CancelledError from interrupt
