"""Telling that a run seems stuck, as `stuck_after_seconds` asks for: what it does goes to its log.

A run is taken for stuck that has printed nothing for so long while its chips did nothing; one
without chips, or of whose chips nothing is known, while its processes used next to no processor.
Nothing is ended.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .contract import DEVICES_VARIABLE
from .door import Door
from .marks import STACKS_LOGGER
from .reporter import WARNING
from .stack_text import text_of
from .stacks import NoStacks, take
from .thread_states import tree_seconds

if TYPE_CHECKING:
    from .calling import Surroundings

MOST_SECONDS = 5.0
"""Between two looks."""

LEAST_SECONDS = 0.05

LITTLE = 0.02
"""How much of a processor counts as none: threads that only beat a heart use that much."""

LITTLE_SECONDS = 0.1
"""How much processor time between two looks does: whoever looks at the run takes some."""

GROWTH = 2.0
"""How much longer it is waited each time before the same is told again."""


class Quiet:
    """Since when a run has done nothing.

    Args:
        now: The moment at which the function was called, by the monotonic clock.
        limit_seconds: How long it may do nothing.
    """

    def __init__(self, now: float, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._since = now
        self._next = limit_seconds
        self.told = 0
        """How often it has been told since the run did something."""

    def note(self, now: float, *, did_something_at: float) -> float | None:
        """Return for how long it has done nothing where that is to be told now; else None.

        Args:
            now: This moment.
            did_something_at: When it last did anything that is known.
        """
        if did_something_at > self._since:
            self._since, self._next, self.told = did_something_at, self._limit_seconds, 0
        quiet = now - self._since
        if quiet < self._next:
            return None
        self._next = quiet + self._limit_seconds * GROWTH ** (self.told + 1)
        self.told += 1
        return quiet


class StuckWatch:
    """Looks whether the function does anything, in a thread of its own.

    Args:
        limit_seconds: How long it may do nothing.
        door: Where its process is.
        around: What it is called with.
    """

    def __init__(self, limit_seconds: float, door: Door, around: Surroundings) -> None:
        self._limit_seconds = limit_seconds
        self._door = door
        self._has_chips = bool(around.environ.get(DEVICES_VARIABLE))
        self._output = around.output
        self._sampler = around.sampler
        self._reporter = around.reporter
        self._stop = threading.Event()
        self._times = 0

    def begin(self) -> StuckWatch:
        """Begin to look."""
        threading.Thread(target=self._watch, name="stuck", daemon=True).start()
        return self

    def end(self) -> None:
        """Look no more."""
        self._stop.set()

    def _watch(self) -> None:
        pause = min(max(self._limit_seconds / 10, LEAST_SECONDS), MOST_SECONDS)
        began = time.monotonic()
        quiet, work = Quiet(began, self._limit_seconds), Work(began)
        while not self._stop.wait(pause):
            now = time.monotonic()
            idle_seconds = self._sampler.idle_seconds() if self._has_chips else None
            worked = work.note(now, tree_seconds(self._door.worker))
            used = worked if idle_seconds is None else now - idle_seconds
            last = max(self._output.heard, used, began)
            was_told = quiet.told
            for_seconds = quiet.note(now, did_something_at=last)
            if for_seconds is not None:
                self._tell(for_seconds, self._why(idle_seconds))
            elif was_told and not quiet.told:
                self._output.say("the run goes on: it was not stuck, or is not any more")

    def _why(self, idle_seconds: float | None) -> str:
        if idle_seconds is not None:
            return "its chips did nothing"
        if self._has_chips:
            return "its process used next to no processor (whether its chips did is not known)"
        return "its process used next to no processor"

    def _tell(self, for_seconds: float, why: str) -> None:
        self._times += 1
        message = f"nothing was printed for {for_seconds:.0f} s, and {why}"
        try:
            does = text_of(take(self._door))
        except (NoStacks, OSError, ValueError) as error:
            does = str(error)
        if self._stop.is_set():
            return
        text = f"it may be stuck: {message}. What it does now:\n{does}"
        self._output.tell(text, WARNING, STACKS_LOGGER)
        payload = {"reason": message, "host": self._door.host}
        self._reporter.tell("stuck", f"{self._door.host}/{self._times}", payload)


class Work:
    """When processes last used a processor.

    Args:
        now: The moment at which they began, by the monotonic clock.
    """

    def __init__(self, now: float) -> None:
        self._at = self._last = now
        self._seconds: float | None = None

    def note(self, now: float, seconds: float | None) -> float:
        """Return when they last used one, as far as that is known.

        Args:
            now: This moment.
            seconds: Processor time that they have used so far; None where that is unknown.
        """
        if seconds is None:
            # What is unknown is not taken for nothing.
            self._last = now
        elif seconds - (self._seconds or 0.0) > max(LITTLE * (now - self._at), LITTLE_SECONDS):
            self._last = now
        self._at, self._seconds = now, seconds
        return self._last
