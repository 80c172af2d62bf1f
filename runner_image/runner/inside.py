"""Being where a run's function is: its mounts, its working directory, and its environment."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .asking import NoAnswer, Refused, ask_worker
from .door import Door
from .outcome import TASK_FILE

ANSWER_SECONDS = 2.0
"""How long the function's process may take to tell its environment; Python code does that."""

UNTOLD = (
    "kinetic: the function's process does not answer (native code keeps Python's lock?): what it "
    "has set in its environment, and its secrets, are not here"
)

_NEW_NAMESPACE, _NEW_USER = 0x00020000, 0x10000000


def go_inside(door: Door) -> None:
    """Have this process see what the function sees, from its working directory.

    Raises:
        OSError: It is not allowed to.
    """
    place = f"/proc/{door.worker}"
    if sys.platform == "linux" and os.path.exists(place):
        _share_mounts(door.worker)
        os.chdir(f"{place}/cwd")
        return
    task = _task(door)
    os.chdir(os.path.join(task["workspace"], task["working_directory"]))


def _share_mounts(process: int) -> None:
    """Enter the mount namespace of a process, where it has one of its own; see setns(2)."""
    if _namespace("self", "mnt") == _namespace(process, "mnt"):
        return
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    # Its user namespace first: in that, one's own user may enter the other.
    for kind, flag in (("user", _NEW_USER), ("mnt", _NEW_NAMESPACE)):
        if _namespace("self", kind) == _namespace(process, kind):
            continue
        descriptor = os.open(f"/proc/{process}/ns/{kind}", os.O_RDONLY)
        try:
            if libc.setns(descriptor, flag):
                number = ctypes.get_errno()
                why = os.strerror(number)
                raise OSError(number, f"the function's mounts cannot be entered: {why}")
        finally:
            os.close(descriptor)


def _namespace(process: int | str, kind: str) -> str:
    return os.readlink(f"/proc/{process}/ns/{kind}")


def function_environment(door: Door) -> tuple[dict[str, str], str]:
    """Return the variables that the function has now, and what is to be said of them.

    They come through a pipe: values of secrets stand in no file.
    """
    try:
        return _told(door), ""
    except (NoAnswer, Refused, OSError, ValueError):
        return _known(door), UNTOLD


def _told(door: Door) -> dict[str, str]:
    pipe = os.path.join(door.directory, f"environment-{os.urandom(8).hex()}")
    os.mkfifo(pipe, 0o600)
    try:
        # There is a reader before it is asked to write, for which it does not wait.
        descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, encoding="utf-8") as file:
            ask_worker(door.directory, "environment", {"pipe": pipe}, limit_seconds=ANSWER_SECONDS)
            os.set_blocking(descriptor, True)
            found: dict[str, str] = json.load(file)
    finally:
        with suppress(OSError):
            os.unlink(pipe)
    return found


def _known(door: Door) -> dict[str, str]:
    """Return what is known of its environment without asking it."""
    task = _task(door)
    found = _started_with(door.worker) or dict(os.environ)
    workspace = task["workspace"]
    folders = [*task["sys_path"], *task["late_sys_path"]]
    own = [os.path.normpath(os.path.join(workspace, folder)) for folder in folders]
    own += filter(None, (task["distributions"], task["packages"]))
    if task["scripts"]:
        found["PATH"] = os.pathsep.join([task["scripts"], found.get("PATH", os.defpath)])
    own += filter(None, [found.get("PYTHONPATH")])
    return {**found, **task["variables"], "PYTHONPATH": os.pathsep.join(own)}


def _started_with(process: int) -> dict[str, str]:
    """Return the variables that a process was started with; see proc_pid_environ(5)."""
    try:
        with open(f"/proc/{process}/environ", "rb") as file:
            written = os.fsdecode(file.read())
    except OSError:
        return {}
    pairs = (entry.partition("=") for entry in written.split("\0"))
    return {name: value for name, is_one, value in pairs if is_one}


def _task(door: Door) -> Mapping[str, Any]:
    with open(os.path.join(door.directory, TASK_FILE), encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found
