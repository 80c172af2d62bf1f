"""Profiles of a function: of its whole call (`profile=True`), or of some seconds of it.

The function's process takes the trace, in a thread of its own, into its directory. From there the
supervisor, or what somebody has started beside it, brings it to the run's outputs
(`profile_store.py`).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .control import leave
from .profilers import find_profiler, trace_files

PROFILE_FILE = "profile.json"
"""In the worker's directory: what became of the profile of its call."""

LONGEST_SECONDS = 60.0
"""How much of a call is profiled: viewers read no more than some millions of events."""

LOOK_SECONDS = 0.02
"""Between two looks whether there is something to profile."""

WRITE_SECONDS = 120.0
"""How long the end of a call waits until its trace is written."""


class Profile:
    """One profile, taken in a thread of its own.

    Args:
        directory: Where the trace goes.
        seconds: How long it is.
        waits: Whether something to profile is waited for until the end.
    """

    def __init__(self, directory: str, seconds: float, *, waits: bool) -> None:
        self._directory = directory
        self._seconds = seconds
        self._waits = waits
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._take, name="kinetic-profile", daemon=True)
        self._told: dict[str, Any] = {"tool": "", "seconds": 0.0, "files": [], "why": ""}

    def begin(self) -> None:
        """Begin to take it."""
        self._thread.start()

    def end(self, limit_seconds: float = 0.0) -> None:
        """End it, and wait until it is written."""
        self._over.set()
        self._thread.join(limit_seconds)

    @property
    def is_going_on(self) -> bool:
        """Whether it is being taken or written."""
        return self._thread.is_alive()

    def told(self) -> dict[str, Any]:
        """Return what became of it: its tool, length and files, or why it has none."""
        if self.is_going_on:
            return {**self._told, "why": f"it is not written after {WRITE_SECONDS:g} s"}
        return self._told

    def _take(self) -> None:
        try:
            self._trace()
        except Exception as error:  # noqa: BLE001 - whatever keeps the profiler from it
            self._told["why"] = f"{type(error).__name__}: {error}"

    def _trace(self) -> None:
        profiler, why = find_profiler()
        while profiler is None and self._waits and not self._over.wait(LOOK_SECONDS):
            profiler, why = find_profiler()
        if profiler is None:
            self._told["why"] = why
            return
        profiler.start(self._directory, self._seconds)
        began = time.monotonic()
        self._over.wait(self._seconds)
        took = time.monotonic() - began
        profiler.stop()
        files = [list(each) for each in trace_files(self._directory)]
        why = "" if files else "its profiler has written nothing"
        self._told = {"tool": profiler.tool, "seconds": took, "files": files, "why": why}


@contextmanager
def profiled(directory: str) -> Iterator[None]:
    """Profile what is called in the block, and leave in a file what became of it.

    Args:
        directory: The worker's directory.
    """
    profile = Profile(os.path.join(directory, "profile"), LONGEST_SECONDS, waits=True)
    profile.begin()
    try:
        yield
    finally:
        profile.end(WRITE_SECONDS)
        leave(directory, PROFILE_FILE, profile.told())


# While the function runs

_asked: list[Profile] = []


def answer(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Take a profile of the next seconds, or tell how far it is; see `control.py`.

    Args:
        arguments: `seconds` and `directory` to begin; nothing to be told of the last one.

    Raises:
        RuntimeError: One is being taken, or there is nothing to profile.
    """
    if "seconds" in arguments:
        if any(each.is_going_on for each in _asked):
            raise RuntimeError("somebody is taking a profile of it now")
        profiler, why = find_profiler()
        if profiler is None:
            raise RuntimeError(why)
        profile = Profile(arguments["directory"], arguments["seconds"], waits=False)
        profile.begin()
        _asked[:] = [profile]
    (profile,) = _asked
    outputs = os.environ.get("KINETIC_OUTPUT_DIR", "")
    return {"is_going_on": profile.is_going_on, "told": profile.told(), "outputs": outputs}
