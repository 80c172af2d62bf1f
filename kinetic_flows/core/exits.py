"""The end of this program: what is done at it, and how it is cut short.

`threading` joins threads before `atexit` comes, so what is to happen while threads can still be
started, or in place of waiting for them, has to come earlier.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

_hurry = threading.Event()


def at_exit(hook: Callable[[], None]) -> None:
    """Call a hook when the program ends, while threads can still be started.

    `concurrent.futures` and Prefect use the same door, which is not documented (3.14).
    """
    register: Callable[[Callable[[], None]], Any] = getattr(
        threading, "_register_atexit", atexit.register
    )
    register(hook)


def is_ended_by_interrupt() -> bool:
    """Whether the program is ending because nobody handled Ctrl-C; to be asked at its end."""
    is_prompt = hasattr(sys, "ps1") or bool(sys.flags.interactive)
    return not is_prompt and isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)


def wait_for_nothing() -> None:
    """Have the program, should it end by an interruption, end without waiting for our threads.

    For a person who has pressed Ctrl-C twice.
    """
    if _hurry.is_set():
        return
    _hurry.set()
    try:
        at_exit(_end_if_interrupted)
    except RuntimeError:
        # It is ending already: the person has interrupted that.
        end_by_interrupt()


def end_by_interrupt() -> NoReturn:
    """End this program, which is ending, as Ctrl-C ends one: shells show 130."""
    # What others have registered is still done: their files are flushed, say.
    run_hooks: Callable[[], None] = getattr(atexit, "_run_exitfuncs", lambda: None)
    run_hooks()
    _flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    raise SystemExit(130)


def _end_if_interrupted() -> None:
    if is_ended_by_interrupt():
        end_by_interrupt()


def leave_at_once(code: int) -> NoReturn:
    """End this program now, without waiting for threads that hang, or for libraries to close.

    Args:
        code: What it exits with.
    """
    _flush()
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
