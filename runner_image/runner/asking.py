"""Asking the function's process, from another one; see `control.py`."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Mapping
from typing import Any

from .control import CONTROL_FILE, answer_file

POLL_SECONDS = 0.01


class NoAnswer(Exception):
    """The function's process does not answer: it is over, or nothing of Python can run in it."""


class Refused(Exception):
    """It has answered that it cannot do what it was asked; the text says why."""


def ask_worker(
    directory: str, name: str, arguments: Mapping[str, Any] | None = None, *, limit_seconds: float
) -> Any:
    """Have the function's process do a command, and return its answer.

    Args:
        directory: The worker's directory.
        name: The command.
        arguments: What it gets; None for nothing.
        limit_seconds: How long the answer is waited for.

    Raises:
        NoAnswer: It did not answer in time.
        Refused: It cannot do that.
    """
    number = os.urandom(8).hex()
    line = json.dumps({"id": number, "name": name, "arguments": dict(arguments or {})}).encode()
    if len(line) >= select.PIPE_BUF:
        raise ValueError(f"a command may have {select.PIPE_BUF} bytes, and {name} has {len(line)}")
    control = read_control(directory)
    if control is None:
        raise NoAnswer("it does not listen")
    _send(control["pipe"], control["pipe_inode"], line + b"\n")
    path = os.path.join(directory, answer_file(number))
    found = _wait_for(path, limit_seconds)
    if found is None:
        raise NoAnswer(f"it has not answered for {limit_seconds:g} s")
    os.unlink(path)
    if "error" in found:
        raise Refused(found["error"])
    return found["answer"]


def read_control(directory: str) -> dict[str, Any] | None:
    """Return which thread of the function's process listens; None where none does yet."""
    return _read(os.path.join(directory, CONTROL_FILE))


def _send(pipe: str, inode: int, line: bytes) -> None:
    try:
        # Nobody reads what has no reader: then this fails at once.
        descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        raise NoAnswer("it does not listen") from error
    try:
        # The function may have closed what it did not open, and something else is there now.
        if os.fstat(descriptor).st_ino != inode:
            raise NoAnswer("it does not listen any more")
        os.write(descriptor, line)
    except OSError as error:
        raise NoAnswer("it has not read what it was asked before") from error
    finally:
        os.close(descriptor)


def _wait_for(path: str, limit_seconds: float) -> dict[str, Any] | None:
    deadline = time.monotonic() + limit_seconds
    while True:
        found = _read(path)
        if found is not None or time.monotonic() >= deadline:
            return found
        time.sleep(POLL_SECONDS)


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
    except FileNotFoundError:
        return None
    return found
