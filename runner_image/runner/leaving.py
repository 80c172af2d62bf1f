"""Ending the worker when the function has returned, whatever it has left running.

Threads that are no daemons and processes of `multiprocessing` are waited for by Python's own end.
They are given a while; then the value that is there counts, and the process ends without them.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from .contract import EXIT_RETURNED

_QUIET_SECONDS = 1.0
"""What ends within it is not spoken of."""


def end_within(seconds: float, say_to: int) -> None:
    """End this process after a while, should it not have ended by itself.

    Args:
        seconds: How long what still runs is waited for.
        say_to: File descriptor that takes what is said about it.
    """
    threading.Thread(target=_end, args=(seconds, say_to), daemon=True).start()


def _end(seconds: float, say_to: int) -> None:
    quiet = min(_QUIET_SECONDS, seconds)
    time.sleep(quiet)
    names = _still_running()
    what = ", ".join(names) or "what it registered to run at the end"
    verb = "is" if len(names) < 2 else "are"
    _say(say_to, f"the call is over, and {what} {verb} still running: waiting {seconds:g} s")
    time.sleep(seconds - quiet)
    _say(say_to, f"the run ends without {', '.join(_still_running()) or what}")
    flush_streams()
    os._exit(EXIT_RETURNED)


def _still_running() -> list[str]:
    """Return what Python waits for at its end, in words."""
    own = (threading.current_thread(), threading.main_thread())
    threads = [
        f"the thread {thread.name!r}"
        for thread in threading.enumerate()
        if not thread.daemon and thread not in own
    ]
    multiprocessing = sys.modules.get("multiprocessing")
    children = multiprocessing.active_children() if multiprocessing else []
    return threads + [f"the process {child.name!r} ({child.pid})" for child in children]


def _say(descriptor: int, text: str) -> None:
    write(descriptor, f"kinetic: {text}\n")


def write(descriptor: int, text: str) -> None:
    """Write to a file descriptor, whatever became of `sys.stdout` and `sys.stderr`."""
    data = text.encode(errors="backslashreplace")
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        return


def flush_streams() -> None:
    """Write out what the streams still hold; they may have been replaced, closed or taken away."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        _flush(stream)


def _flush(stream: Any) -> None:
    try:
        if stream is not None:
            stream.flush()
    except Exception:  # noqa: BLE001 - a replaced stream runs code of the project
        return
