"""Listens, in the function's process, to those who look at the run from outside.

A thread reads commands from a pipe, and leaves each answer as a file in the worker's directory. The
pipe has no name there: whoever reads every file that there is would wait for ever. As long as
nobody asks it waits in the kernel, without Python's lock. It tells what all threads do.

Where it cannot, since native code keeps that lock, it is sent the stack signal. `faulthandler`
handles that, which needs no lock: so the stacks of a process whose native code never returns can be
had, and no system call of the function is interrupted. Where Python code runs it may not be sent:
`faulthandler` then reads what changes beneath it, and the process may end by a segmentation fault.
"""

from __future__ import annotations

import _thread
import faulthandler
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

CONTROL_FILE = "control.json"
"""Says which thread listens, to which signal and pipe, and where it writes stacks to."""

PIPE_FILE = "commands"
"""The pipe's name until it is open, and for good where processes' files cannot be opened."""

STACKS_FILE = "stacks.txt"
"""What `faulthandler` writes to."""

HANDLERS: Mapping[str, str] = {"environment": "own_environment", "profile": "profiling"}
"""The module of each command; its `answer` gets the command's arguments, and returns an object.

It is called in the thread that listens: what takes long starts a thread of its own. What it raises
is told to who has asked.
"""

STACK_SIGNAL: int = getattr(signal, "SIGRTMIN", 0) + 9 or signal.SIGUSR2
"""One that programs leave alone: the first real-time signals are taken by C libraries."""

_READ_BYTES = 65_536
_THREADS = 500
_FRAMES = 100


def listen(directory: str) -> None:
    """Begin to listen, in a thread of its own that the function does not see.

    Args:
        directory: The worker's directory.
    """
    # Where that is not possible, such as for want of threads, a run goes on that cannot be seen.
    with suppress(OSError, RuntimeError):
        stacks = os.path.join(directory, STACKS_FILE)
        written = os.open(stacks, os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o600)
        faulthandler.register(STACK_SIGNAL, file=written, all_threads=True)
        _thread.start_new_thread(_listen, (directory, written, *_open_pipe(directory)))


def _open_pipe(directory: str) -> tuple[int, str]:
    """Return a pipe, and where others can open it."""
    path = os.path.join(directory, PIPE_FILE)
    os.mkfifo(path, 0o600)
    # Open for writing, too: so it never comes to an end.
    pipe = os.open(path, os.O_RDWR)
    opened = f"/proc/{os.getpid()}/fd/{pipe}"
    if not os.path.exists(opened):
        return pipe, path
    os.unlink(path)
    return pipe, opened


def _listen(directory: str, stacks: int, pipe: int, path: str) -> None:
    known = {
        "stacks": stacks,
        "signal": STACK_SIGNAL,
        "native_id": threading.get_native_id(),
        "ident": threading.get_ident(),
        "main": threading.main_thread().ident,
        "pipe": path,
        "pipe_inode": os.fstat(pipe).st_ino,
    }
    leave(directory, CONTROL_FILE, known)
    unfinished = b""
    while True:
        *lines, unfinished = (unfinished + os.read(pipe, _READ_BYTES)).split(b"\n")
        for line in lines:
            # One that is no command of ours was written by the function.
            with suppress(Exception):
                command = json.loads(line)
                leave(directory, answer_file(command["id"]), _answer(command))


def _answer(command: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": _handler(command["name"])(command["arguments"])}
    except Exception as error:  # noqa: BLE001 - it is told to who has asked
        return {"error": f"{type(error).__name__}: {error}"}


def _handler(name: str) -> Callable[[Mapping[str, Any]], Any]:
    if name == "threads":
        return _threads
    if name not in HANDLERS:
        raise LookupError(f"this run's runner knows no {name}")
    handler: Callable[[Mapping[str, Any]], Any] = import_module(
        f".{HANDLERS[name]}", __package__
    ).answer
    return handler


def _threads(_arguments: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the threads that Python knows by name, what they do, and what tasks wait for."""
    threads = [
        {"ident": thread.ident, "native_id": thread.native_id, "name": thread.name}
        for thread in threading.enumerate()
    ]
    # Nothing is imported for this: the module is there where the function is a coroutine's.
    coroutines = sys.modules.get(f"{__package__}.coroutines")
    tasks = coroutines.waiting() if coroutines else []
    return {"threads": threads, "stacks": _stacks(), "tasks": tasks}


def _stacks() -> list[dict[str, Any]]:
    """Return the functions of each thread, the outermost first, the main thread's before others."""
    main = threading.main_thread().ident
    frames = sys._current_frames()  # noqa: SLF001 - documented
    found = sorted(frames.items(), key=lambda each: each[0] != main)
    return [{"ident": ident, "frames": _functions(frame)} for ident, frame in found[:_THREADS]]


def _functions(frame: Any) -> list[list[Any]]:
    """Return the names, files and lines of a frame's functions, of very many the innermost."""
    found: list[list[Any]] = []
    while frame is not None:
        if len(found) == _FRAMES:
            found.append(["...", "", None])
            break
        found.append([frame.f_code.co_name, frame.f_code.co_filename, frame.f_lineno])
        frame = frame.f_back
    return found[::-1]


def answer_file(number: str) -> str:
    """Name of the answer to a command."""
    return f"answer-{number}.json"


def leave(directory: str, name: str, value: Any) -> None:
    """Leave a value in a file that is whole as soon as it is there."""
    path = os.path.join(directory, name)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(value, file)
    os.replace(path + ".new", path)
