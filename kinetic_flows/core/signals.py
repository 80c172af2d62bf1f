"""Signals that end a program, and other interruptions, told apart from failures.

Whatever interrupts a call has to be noticed by it: a run that was waited for would go on
without anybody knowing.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that end a program which does not say otherwise; SIGINT is Python's own."""


class Terminated(KeyboardInterrupt):
    """This program was sent a signal that ends it; to our work that is what Ctrl-C is."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def heeded_signals() -> Iterator[None]:
    """Let signals that would end this program at once interrupt the block, and end it then.

    A program that handles or ignores such a signal itself is left alone, and so are threads,
    which no signal reaches.
    """
    received: list[int] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        received.append(number)
        raise Terminated(number)

    free = _unhandled() if threading.current_thread() is threading.main_thread() else ()
    for number in free:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in free:
            if signal.getsignal(number) is interrupt:
                signal.signal(number, signal.SIG_DFL)
        if received:
            # Whatever became of the interruption: the program was told to end.
            sys.stderr.flush()
            os.kill(os.getpid(), received[0])


@contextmanager
def deferred_signals() -> Iterator[None]:
    """Let what would interrupt the block interrupt what comes after it.

    For the moment in which something has been started and is not written down yet. Threads, which
    no signal reaches, are left alone.
    """
    received: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, *ENDING) if is_main else ()
    handlers = {number: signal.getsignal(number) for number in numbers}
    # What is no handler of Python's cannot be put back.
    handlers = {number: each for number, each in handlers.items() if each is not None}

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    try:
        for number in handlers:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def interruption_in(
    error: BaseException, *, before: BaseException | None = None
) -> BaseException | None:
    """Return what interrupted the work that ended with an error; None when nothing did.

    Prefect's engine raises errors of its own when it is interrupted where it does not expect it
    ("Task run is not set", 3.8.8), and handlers of signals may raise anything.

    Args:
        error: What the work ended with.
        before: What was being handled already when the work began.
    """
    handlers = _handlers()
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and each is not before and id(each) not in seen:
        if not isinstance(each, Exception) or _is_raised_by(each, handlers):
            return each
        seen.add(id(each))
        each = each.__cause__ or each.__context__
    return None


def cause_in_words(interruption: BaseException) -> str:
    """Name what interrupted some work, as people say it."""
    if isinstance(interruption, Terminated):
        return str(interruption)
    if isinstance(interruption, KeyboardInterrupt):
        return "Ctrl-C"
    return f"{type(interruption).__name__}: {interruption}".rstrip(": ")


def _unhandled() -> tuple[int, ...]:
    """Return those signals that have the default handler."""
    return tuple(number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL)


def _handlers() -> set[CodeType]:
    """Return the code of this program's own handlers of signals."""
    handlers = map(signal.getsignal, signal.valid_signals())
    codes = (getattr(getattr(each, "__func__", each), "__code__", None) for each in handlers)
    return {code for code in codes if isinstance(code, CodeType)}


def _is_raised_by(error: BaseException, codes: set[CodeType]) -> bool:
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False
