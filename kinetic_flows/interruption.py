"""Blocking work that stops when whoever waits for it is cancelled or interrupted."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class Stoppable:
    """Work that other threads do for this one, which can stop it.

    Args:
        outer: Set when whoever awaits this thread is cancelled.
        inner: Set when the work is to stop.
    """

    def __init__(self, outer: threading.Event, inner: threading.Event) -> None:
        self._outer = outer
        self._inner = inner

    def check(self) -> None:
        """Go on, unless whoever awaits this thread has been cancelled.

        Raises:
            KeyboardInterrupt: They have.
        """
        if self._outer.is_set():
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Make the next `pause` of the work raise KeyboardInterrupt."""
        self._inner.set()


@contextmanager
def stoppable() -> Iterator[Stoppable]:
    """Make what is started in this block stoppable: threads that copy its context, too.

    Ctrl-C reaches the main thread alone, so work in other threads has to be told.
    """
    outer, inner = _interruption.get() or threading.Event(), threading.Event()
    token = _interruption.set(inner)
    try:
        yield Stoppable(outer, inner)
    finally:
        _interruption.reset(token)


def _work(work: Callable[[], R], interruption: threading.Event) -> R:
    # The thread has a context of its own, so there is nothing to restore.
    _interruption.set(interruption)
    try:
        return work()
    except KeyboardInterrupt as interrupt:
        # A KeyboardInterrupt that is a task's outcome would end the whole event loop.
        raise asyncio.CancelledError from interrupt
