"""Ending a run whose chips do nothing, as `idle_timeout_seconds` asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from .chip_use import BUSY, IDLE, Use
from .contract import DEVICES_VARIABLE
from .contract import IDLE as IDLE_WORDS

_CHIPS = {"gpu": "GPU", "tpu": "TPU chip"}


class IdleWatch:
    """Takes note of what the chips do while a function runs.

    Args:
        limit_seconds: How long they may do nothing.
        began: When the function was called, by the monotonic clock.
        chips: What they are called, in words.
        say: Prints a line.
        wake: Called when they have done nothing for too long.
    """

    def __init__(
        self,
        limit_seconds: float,
        began: float,
        chips: str,
        say: Callable[[str], object],
        wake: Callable[[], object],
    ) -> None:
        self._limit_seconds = limit_seconds
        self._chips = chips
        self._say = say
        self._wake = wake
        self._stop = threading.Event()
        self._began = self._last = began
        self._was_used = False
        self._told = ""
        self.message = ""
        """That they did nothing for too long; empty as long as that is not so."""

    def end(self) -> None:
        """Take note of nothing more."""
        self._stop.set()

    def note(self, use: Use, now: float) -> None:
        """Take a reading into account.

        Args:
            use: What was read.
            now: When, by the monotonic clock.
        """
        if self._stop.is_set() or self.message:
            return
        if use.state != IDLE:
            self._last = now
            self._was_used = self._was_used or use.state == BUSY
            if use.why:
                self._tell(use.why)
        elif now - self._last >= self._limit_seconds:
            self.message = f"{IDLE_WORDS} for {self._limit_seconds:g} s: {self._since()}"
            self._wake()

    def _since(self) -> str:
        if not self._was_used:
            return f"no {self._chips} was used since the function was called"
        after = timedelta(seconds=round(self._last - self._began))
        return f"they were last used {after} after the function was called"

    def _tell(self, why: str) -> None:
        """Say once that nothing is known, and nothing is ended."""
        if not self._told:
            self._told = why
            self._say(
                f"whether its chips do anything cannot be told ({why}): idle_timeout_seconds "
                "ends nothing as long as that is so"
            )


def idle_watch(
    job: Mapping[str, Any],
    environ: Mapping[str, str],
    say: Callable[[str], object],
    wake: Callable[[], object],
) -> IdleWatch | None:
    """Return what takes note of a run's chips; None where it has none.

    Args:
        job: The job, which asks for that.
        environ: The variables of the function's process.
        say: Prints a line.
        wake: Called when they have done nothing for too long.
    """
    limit_seconds = job["idle_timeout_seconds"]
    chips = _CHIPS.get(environ.get(DEVICES_VARIABLE, "").partition(":")[0])
    return None if chips is None else IdleWatch(limit_seconds, time.monotonic(), chips, say, wake)
