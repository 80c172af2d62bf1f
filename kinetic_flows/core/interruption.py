"""Blocking work that stops when the task or thread that waits for it is cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from kinetic_flows.core.api_boundary import ApiBoundary
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.signals import heeded_signals

if TYPE_CHECKING:
    import asyncio
    import subprocess
else:
    # A third of what `import kinetic` with `kinetic.run` takes.
    asyncio = LazyModule("asyncio")

R = TypeVar("R")
T = TypeVar("T")

LOOK_SECONDS = 0.1
"""How often work that waits for threads of its own looks whether it is to stop."""

ECHO_SECONDS = 0.3
"""How long after a process has failed it may turn out that the work was interrupted."""

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
    with ApiBoundary():
        return await _in_thread(work)


async def _in_thread(work: Callable[[], R]) -> R:
    interruption = threading.Event()
    # No task: those are all cancelled when a signal ends the loop, and nothing would wait then.
    in_context = partial(copy_context().run, _work, work, interruption)
    working = asyncio.get_running_loop().run_in_executor(None, in_context)
    # Python handles signals in the thread of the event loop.
    with heeded_signals():
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            interruption.set()
            await asyncio.gather(working, return_exceptions=True)
            raise


def pause(seconds: float) -> None:
    """Sleep, unless the task that awaits this work is or has been cancelled.

    Raises:
        KeyboardInterrupt: They have, which is to this work what Ctrl-C is to a program's.
    """
    interruption = _interruption.get() or threading.Event()
    if interruption.wait(seconds):
        raise KeyboardInterrupt


def is_interruptible() -> bool:
    """Whether this work is to be interrupted by others, as no signal reaches its thread."""
    return _interruption.get() is not None


def in_threads(call: Callable[[T], R], items: Iterable[T], *, threads: int) -> list[R]:
    """Call a function for many items, several at a time, and return what came of each.

    When the task that awaits this work is interrupted no call is begun any more, and those that
    have begun are not waited for: their threads end with the process at the latest.

    Args:
        call: The function.
        items: What it is called with.
        threads: How many calls there are at a time.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, or the task that awaits it was cancelled.
        Exception: A call failed; this is the first failure, but for KeyboardInterrupt: so end
            those that were told to stop because of it.
    """
    waiting = list(enumerate(items))
    results: list[R | None] = [None] * len(waiting)
    failures: list[BaseException] = []
    waiting.reverse()

    def work() -> None:
        while not failures:
            try:
                index, item = waiting.pop()
            except IndexError:
                return
            try:
                results[index] = call(item)
            except BaseException as failure:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(failure)

    workers = [
        threading.Thread(target=copy_context().run, args=(work,), daemon=True)
        for _ in range(min(threads, len(waiting)))
    ]
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive():
                worker.join(LOOK_SECONDS)
                pause(0)
    finally:
        waiting.clear()
    if failures:
        pause(0)
        raise min(failures, key=lambda failure: isinstance(failure, KeyboardInterrupt))
    return cast("list[R]", results)


@contextmanager
def stopped_if_interrupted(process: subprocess.Popen[str]) -> Iterator[None]:
    """Stop a process that this work waits for when the work is interrupted.

    A terminal sends Ctrl-C to it, too; `kill`, a notebook and a time limit do not.

    Args:
        process: The process, which the block waits for.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, or the work in this thread was interrupted.
    """
    interruption = _interruption.get()
    if interruption is not None:
        threading.Thread(target=_stop, args=(process, interruption), daemon=True).start()
    try:
        yield
    except BaseException:
        process.terminate()
        raise
    if interruption is not None and process.wait():
        # The terminal's Ctrl-C may have ended it before this work was told.
        pause(ECHO_SECONDS)


def _stop(process: subprocess.Popen[str], interruption: threading.Event) -> None:
    while process.poll() is None:
        if interruption.wait(LOOK_SECONDS):
            process.terminate()
            return


def interruptible(interruption: threading.Event) -> None:
    """Let this thread's `pause` raise once an event is set."""
    _interruption.set(interruption)


class Stoppable:
    """Work that other threads do for this one, which can stop it.

    Args:
        outer: Set when the task that awaits this thread is cancelled.
        inner: Set when the work is to stop.
    """

    def __init__(self, outer: threading.Event, inner: threading.Event) -> None:
        self._outer = outer
        self._inner = inner

    def check(self) -> None:
        """Go on, unless the task that awaits this thread has been cancelled.

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
