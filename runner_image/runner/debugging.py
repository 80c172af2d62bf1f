"""Waiting for a debugger before a function is called, as `debug=True` asks for.

The worker listens with debugpy (https://github.com/microsoft/debugpy) on the loopback address of
its host alone: whoever reaches the port can run anything here. How far that is it leaves in a file
in its directory, from which the supervisor takes what it prints, and for how long no time counts.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from .fetching import Store, fetch_to_file

if TYPE_CHECKING:
    from .door import Door
    from .interrupts import Interrupts
    from .processes import Worker

STATE_FILE = "debugger.json"
ADDRESS = "127.0.0.1"

FIRST_PORT = 5678
"""The port that editors propose; host N has the N-th after it."""

LOOK_SECONDS = 0.2
LISTEN_SECONDS = 60.0
"""How long the worker may take until it listens."""

FREE_SECONDS = 3.0
"""How long the port is waited for that the try before this one has had."""

WAITING, ATTACHED, NOBODY, FAILED = "waiting", "attached", "nobody", "failed"


class DebuggerState(NamedTuple):
    """How far a worker is with its debugger.

    Attributes:
        stage: `waiting`, `attached` when one came, `nobody` when none did, `failed` when there
            can be none.
        port: Where it listens; 0 for nowhere.
        why: Why there can be none; else empty.
    """

    stage: str
    port: int = 0
    why: str = ""


def read_state(directory: str) -> DebuggerState | None:
    """Return how far a worker is; None before it listens.

    Args:
        directory: The worker's directory.
    """
    try:
        with open(os.path.join(directory, STATE_FILE), encoding="utf-8") as file:
            return DebuggerState(**json.load(file))
    except FileNotFoundError:
        return None


def bring_debugger(store: Store, wheel: Mapping[str, Any], scratch: str) -> str:
    """Unpack the debugger's wheel, which is pure Python; return where it can be imported from.

    Args:
        store: Where it is.
        wheel: Its `ObjectRef`.
        scratch: A directory for it.

    Raises:
        Fault: It cannot be fetched, or is another one.
    """
    place, file = os.path.join(scratch, "debugger"), os.path.join(scratch, "debugger.whl")
    fetch_to_file(store, wheel, file)
    with zipfile.ZipFile(file) as archive:
        archive.extractall(place)
    return place


# Beside the worker


def main(door: Door, _arguments: Sequence[str]) -> int:
    """Print how far a host's function is with its debugger."""
    state = read_state(door.directory)
    print(json.dumps(state._asdict() if state else {"stage": "none", "port": 0, "why": ""}))
    return 0


# In the worker


def await_debugger(directory: str, task: Mapping[str, Any]) -> None:
    """Listen for a debugger, and wait until one is attached, or for as long as the task says.

    Args:
        directory: The worker's directory.
        task: The worker's task.
    """
    spec = task["debug"]
    try:
        debugpy = _import_debugger(spec["packages"])
        port = _listen(debugpy, spec["port"], spec["free_seconds"])
    except Exception as error:  # noqa: BLE001 - the project may have any debugpy
        _tell(directory, DebuggerState(FAILED, why=f"{type(error).__name__}: {error}"))
        return
    _tell(directory, DebuggerState(WAITING, port))
    here = os.getcwd()
    # What editors write as `.` is where this process is when they come: it has to be the place of
    # the project's root, so that a configuration of an editor holds for every run.
    os.chdir(task["workspace"])
    try:
        _wait(debugpy, spec["wait_seconds"])
    finally:
        os.chdir(here)
    _tell(directory, DebuggerState(ATTACHED if debugpy.is_client_connected() else NOBODY, port))


def _import_debugger(packages: str | None) -> Any:
    # Else it warns of modules that are frozen, which the project's never are.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    if packages:
        # Behind all else: where the project has a debugpy, that is the one.
        sys.path.append(packages)
    import debugpy

    return debugpy


def _listen(debugpy: Any, port: int, free_seconds: float) -> int:
    """Listen on a port, or where that stays taken on any other; return which."""
    deadline = time.monotonic() + free_seconds
    while not _is_free(port):
        if time.monotonic() > deadline:
            port = 0
            break
        time.sleep(LOOK_SECONDS)
    _, found = debugpy.listen((ADDRESS, port))
    return int(found)


def _is_free(port: int) -> bool:
    import socket

    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((ADDRESS, port))
        except OSError:
            return False
    return True


def _wait(debugpy: Any, seconds: float) -> None:
    if not seconds:
        return
    timer = threading.Timer(seconds, lambda: debugpy.wait_for_client.cancel())
    timer.daemon = True
    timer.start()
    debugpy.wait_for_client()
    timer.cancel()


def _tell(directory: str, state: DebuggerState) -> None:
    path = os.path.join(directory, STATE_FILE)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(state._asdict(), file)
    os.replace(path + ".new", path)


# In the supervisor


class DebuggerWatch:
    """Tells how a worker's wait for a debugger goes, and how long it took.

    Args:
        spec: The task's `debug`.
        limit_seconds: The run's `timeout_seconds`, to be told of; None for none.
        say: Prints a line.
    """

    def __init__(
        self, spec: Mapping[str, Any], limit_seconds: float | None, say: Callable[[str], object]
    ) -> None:
        self._spec = spec
        self._limit_seconds = limit_seconds
        self._say = say
        self._was_attached = True
        self._tries = 0

    def for_next_try(self) -> dict[str, Any]:
        """Return what the next worker is told: it waits unless nobody came to the one before."""
        spec = {**self._spec, "free_seconds": FREE_SECONDS if self._tries else 0.0}
        self._tries += 1
        return spec if self._was_attached else {**spec, "wait_seconds": 0}

    def wait(
        self, worker: Worker, directory: str, interrupts: Interrupts, deadline: float | None
    ) -> float:
        """Wait until a worker waits no more, or has to be stopped; return how long, in seconds.

        Args:
            worker: The worker.
            directory: Its directory.
            interrupts: What asks for a stop.
            deadline: When it has to be stopped anyway; None for never.
        """
        began, told = time.monotonic(), False
        while not interrupts.is_stopping and (deadline is None or time.monotonic() < deadline):
            has_ended = worker.exit_code is not None
            state = self._look(directory, time.monotonic() - began)
            if state is not None and state.stage == WAITING and not told:
                self._say(self._waits(state.port))
                told = True
            elif state is not None and state.stage != WAITING:
                if told or state.stage == FAILED:
                    self._end(state, time.monotonic() - began)
                break
            if has_ended:
                break
            interrupts.wait_until(time.monotonic() + LOOK_SECONDS)
        return time.monotonic() - began

    def _look(self, directory: str, seconds: float) -> DebuggerState | None:
        """Return how far a worker is that was started some seconds ago."""
        state = read_state(directory)
        if state is None and seconds > LISTEN_SECONDS:
            return DebuggerState(FAILED, why=f"nothing listens after {LISTEN_SECONDS:g} s")
        return state

    def _waits(self, port: int) -> str:
        spec = self._spec
        waits = f"{WAITS} on {ADDRESS}:{port}, for at most {spec['wait_seconds']:g} s"
        if spec["is_here"]:
            return waits
        option = f" --host {spec['host']}" if spec["hosts"] > 1 else ""
        return f"{waits}; kinetic runs forward {spec['run_id']} {port}{option} leads there"

    def _end(self, state: DebuggerState, seconds: float) -> None:
        self._was_attached = state.stage == ATTACHED
        limit = self._limit_seconds
        runs_now = f", and timeout_seconds={limit:g} begins to count" if limit is not None else ""
        if state.stage == FAILED:
            what = f"there is no debugger: {state.why}"
        elif state.stage == ATTACHED:
            what = f"a debugger is attached after {seconds:.1f} s"
        else:
            what = f"no debugger came in {seconds:.0f} s; port {state.port} stays open for one"
        self._say(f"{what}: the function is called{runs_now}")


WAITS = "waiting for a debugger"
"""What its line says by which a client notices: `kinetic_flows/runs/wait.py`."""
