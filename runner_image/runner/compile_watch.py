"""Compiled programs in the function's process: waits for those that still come, and counts.

JAX says through `jax.monitoring` when it is about to look for a program that is kept, and when it
has found one (`jax/_src/compiler.py`, 0.4.30 to 0.10). What listens is put there once JAX has been
imported: a function that does not import it has nothing of this, and one that does waits at its
first program only, so that what JAX does before goes on meanwhile.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from .compile_files import opened

MODULE = "jax.monitoring"

FILLED_FILE, ARRIVING_FILE, PROGRAMS_FILE = "filled", "arriving", "programs"
"""In the directory that both processes know: that all is there, that something has come just now,
and what the function's process has found, a line for each event."""

WAIT_SECONDS = 20.0
"""How long the first program waits at most for those that are kept."""

STALL_SECONDS = 3.0
"""How long it waits where nothing comes."""

POLL_SECONDS = 0.02

MOST_BYTES = 16 << 20
"""How much is read of what the function's process has found."""

_EVENTS = "/jax/compilation_cache/"
_LOOKS = (f"{_EVENTS}tasks_using_cache", f"{_EVENTS}compile_requests_use_cache")
_REQUEST, _HIT, _SAVED = b"request", b"hit", b"saved"
_NOTED = {_LOOKS[1]: _REQUEST, f"{_EVENTS}cache_hits": _HIT}
_DURATION = f"{_EVENTS}compile_time_saved_sec"


def watch_jax(directory: str) -> None:
    """Have JAX watched once it is imported, or from now on where it is.

    Args:
        directory: What both processes know.
    """
    imported = sys.modules.get(MODULE)
    if imported is not None:
        # By a package that begins with the interpreter.
        _register(imported, Listener(directory))
        return
    finder: Any = _Finder(directory)
    sys.meta_path.insert(0, finder)


class _Finder:
    """Finds the one module as the others do, and listens when it has been loaded."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        """Return the module's spec; None for any other module."""
        if fullname != MODULE:
            return None
        sys.meta_path[:] = [each for each in sys.meta_path if each is not self]
        found = (each.find_spec(fullname, path, target) for each in sys.meta_path)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and spec.loader is not None:
            _change(spec.loader, Listener(self._directory))
        return spec


def _change(loader: Any, listener: Listener) -> None:
    """Have a module's loader register a listener with the module."""
    execute = loader.exec_module

    def exec_module(module: Any) -> None:
        execute(module)
        _register(module, listener)

    loader.exec_module = exec_module


def _register(module: Any, listener: Listener) -> None:
    register = getattr(module, "register_event_listener", None)
    durations = getattr(module, "register_event_duration_secs_listener", None)
    if register and durations:
        register(listener.on_event)
        durations(listener.on_duration)


class Listener:
    """Hears what JAX tells of compiled programs.

    Args:
        directory: What both processes know.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._has_waited = False

    def on_event(self, event: str, **_more: Any) -> None:
        """Take note of an event; before the first look at what is kept, wait for that."""
        if event in _LOOKS and not self._has_waited:
            self._has_waited = True
            wait_for_programs(self._directory)
        if event in _NOTED:
            self._note(_NOTED[event])

    def on_duration(self, event: str, seconds: float, **_more: Any) -> None:
        """Take note of the time that a program has saved."""
        if event == _DURATION:
            self._note(b"%s %.3f" % (_SAVED, seconds))

    def _note(self, line: bytes) -> None:
        """Add a line; a process that was forked from this one adds its own.

        The file is opened each time: the function may close what it has not opened.
        """
        path = os.path.join(self._directory, PROGRAMS_FILE)
        # It is counted for the run's page alone, and the disk may be full.
        with suppress(OSError), open(path, "ab", buffering=0) as file:
            file.write(line + b"\n")


def wait_for_programs(
    directory: str, *, most_seconds: float = WAIT_SECONDS, stall_seconds: float = STALL_SECONDS
) -> float:
    """Wait until all programs are there, for as long as they still come; return for how long.

    Args:
        directory: What both processes know.
        most_seconds: How long at most.
        stall_seconds: How long where nothing comes.
    """
    began = time.monotonic()
    filled, arriving = (os.path.join(directory, each) for each in (FILLED_FILE, ARRIVING_FILE))
    last_seen, last_change = _changed_at(arriving), began
    while not os.path.exists(filled):
        now, seen = time.monotonic(), _changed_at(arriving)
        if seen != last_seen:
            last_seen, last_change = seen, now
        if now - began >= most_seconds or now - last_change >= stall_seconds:
            break
        time.sleep(POLL_SECONDS)
    return time.monotonic() - began


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


class Programs(NamedTuple):
    """What became of the programs of the function's process.

    Attributes:
        asked_for: How many it needed.
        found: How many of them were kept.
        saved_seconds: How long those were compiled when that was, without the time to load them.
    """

    asked_for: int = 0
    found: int = 0
    saved_seconds: float = 0.0

    @property
    def sentence(self) -> str:
        """What is said of them; empty where there were none."""
        if not self.asked_for:
            return ""
        from .course import elapsed

        programs = "1 program" if self.asked_for == 1 else f"{self.asked_for} programs"
        told = f"{programs}, {self.found or 'none'} from the cache"
        is_telling = self.saved_seconds >= 1.0
        return f"{told}, {elapsed(self.saved_seconds)} saved" if is_telling else told


def programs_of(directory: str) -> Programs:
    """Return what the function's process has counted so far; nothing where it left no such file."""
    try:
        with opened(os.path.join(directory, PROGRAMS_FILE)) as file:
            lines = file.read(MOST_BYTES).split(b"\n")
    except OSError:
        return Programs()
    counts: Mapping[bytes, int] = {each: lines.count(each) for each in (_REQUEST, _HIT)}
    seconds = sum(map(_seconds_in, lines))
    return Programs(counts[_REQUEST], counts[_HIT], max(seconds, 0.0))


def _seconds_in(line: bytes) -> float:
    """Return what a line says that was saved; nothing where it was cut off on a full disk."""
    what, _, number = line.partition(b" ")
    try:
        seconds = float(number) if what == _SAVED else 0.0
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) else 0.0
