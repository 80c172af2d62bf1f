"""Having `faulthandler` write the stacks of another process, by a signal to one of its threads.

The handler runs in the thread that listens (`control.py`), whatever the others do, and needs none
of Python's locks. The signal is sent only where it is handled: by default it ends a process. One
that another program has become handles it no more, and has the file of stacks closed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import time
from collections.abc import Mapping
from typing import Any

from .control import STACKS_FILE
from .thread_states import signals

POLL_SECONDS = 0.005
QUIET_SECONDS = 0.1
"""Where the kernel does not tell that the handler is done: nothing more is written for so long."""


class NotWritten(Exception):
    """The process did not write its stacks; the text says why."""


def dump_of(process: int, directory: str, control: Mapping[str, Any], limit_seconds: float) -> str:
    """Return what `faulthandler` writes of a process.

    Args:
        process: Its id.
        directory: The worker's directory that the process has, or had when it was forked.
        control: Which thread of it is sent the signal, and which signal that is.
        limit_seconds: How long it may take.

    Raises:
        NotWritten: It does not handle the signal, or did not in time.
    """
    path = os.path.join(directory, STACKS_FILE)
    with open(path, "rb+") as file:
        _lock(file.fileno(), limit_seconds)
        file.truncate(0)
        thread, number = control["native_id"], control["signal"]
        _check_files(process, control["stacks"], file.fileno())
        _check_signals(process, thread, number)
        _send(process, thread, number)
        _await(process, thread, number, path, limit_seconds)
        file.seek(0)
        return file.read().decode(errors="replace")


def _lock(descriptor: int, limit_seconds: float) -> None:
    """Lock the file: two who look at once would read each other's."""
    deadline = time.monotonic() + limit_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                raise NotWritten("somebody else looks at it and does not come to an end") from error
        else:
            return
        time.sleep(POLL_SECONDS)


def _check_files(process: int, number: int, descriptor: int) -> None:
    """Make sure that a process has the file of stacks open where it would write to."""
    try:
        found, wanted = os.stat(f"/proc/{process}/fd/{number}"), os.fstat(descriptor)
    except FileNotFoundError as error:
        if not os.path.exists("/proc/self"):
            return
        raise NotWritten("it is over, or has closed the file that it would write to") from error
    except OSError as error:
        raise NotWritten(f"its files cannot be looked at: {error.strerror}") from error
    if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
        raise NotWritten("it has closed the file that it would write to")


def _check_signals(process: int, thread: int, number: int) -> None:
    """Make sure that a thread handles a signal as soon as it is sent.

    One that is blocked would wait, and end what the process becomes later.
    """
    sets = signals(process, thread)
    if not sets and os.path.exists("/proc/self"):
        raise NotWritten("it is over")
    if sets and not _has(sets, number, "SigCgt"):
        raise NotWritten("it does not handle the signal that asks for its stacks")
    if _has(sets, number, "SigBlk"):
        raise NotWritten("it lets no signal reach it")


def _send(process: int, thread: int, number: int) -> None:
    """Send a signal to one thread; see tgkill(2)."""
    tgkill = getattr(ctypes.CDLL(None, use_errno=True), "tgkill", None)
    try:
        if tgkill is None:
            os.kill(process, number)
        elif tgkill(process, thread, number):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except OSError as error:
        raise NotWritten(f"it cannot be sent a signal: {error.strerror}") from error


def _await(process: int, thread: int, number: int, path: str, limit_seconds: float) -> None:
    """Wait until the handler is done."""
    deadline, size, changed = time.monotonic() + limit_seconds, 0, time.monotonic()
    while time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        written, sets = os.path.getsize(path), signals(process, thread)
        if written != size:
            size, changed = written, time.monotonic()
        if sets:
            # While the handler runs the signal is blocked.
            is_done = not any(_has(sets, number, each) for each in ("SigPnd", "ShdPnd", "SigBlk"))
        else:
            is_done = time.monotonic() - changed > QUIET_SECONDS
        if size and is_done:
            return
    raise NotWritten(f"it has not answered a signal for {limit_seconds:g} s")


def _has(sets: Mapping[str, int], number: int, name: str) -> bool:
    return bool(sets.get(name, 0) >> (number - 1) & 1)
