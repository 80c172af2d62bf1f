"""Ending a run whose chips do nothing, as `idle_timeout_seconds` asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from .chip_use import BUSY, IDLE, Reader, Use, reader_of
from .contract import IDLE as IDLE_WORDS

MOST_SECONDS = 5.0
"""Between two looks: NVIDIA's library keeps less than the last twenty seconds or so."""
LEAST_SECONDS = 0.05


class IdleWatch:
    """Looks at the chips while a function runs, in a thread of its own.

    Args:
        limit_seconds: How long they may do nothing.
        reader: Reads whether they do anything.
        say: Prints a line.
        wake: Called when they have done nothing for too long.
    """

    def __init__(
        self,
        limit_seconds: float,
        reader: Reader,
        say: Callable[[str], object],
        wake: Callable[[], object],
    ) -> None:
        self._limit_seconds = limit_seconds
        self._pause_seconds = min(max(limit_seconds / 10, LEAST_SECONDS), MOST_SECONDS)
        self._reader = reader
        self._say = say
        self._wake = wake
        self._stop = threading.Event()
        self._began = self._last = time.monotonic()
        self._was_used = False
        self._told = ""
        self.message = ""
        """That they did nothing for too long; empty as long as that is not so."""

    def begin(self) -> IdleWatch:
        """Begin to look."""
        self.begin_at(time.monotonic())
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def begin_at(self, now: float) -> None:
        """Take a moment, by the monotonic clock, for that at which the function was called."""
        self._began = self._last = now

    def end(self) -> None:
        """Look no more."""
        self._stop.set()
        self._reader.close()

    def _watch(self) -> None:
        while not self._stop.wait(self._pause_seconds) and not self.message:
            self.note(self._reader.read(), time.monotonic())

    def note(self, use: Use, now: float) -> None:
        """Take a reading into account.

        Args:
            use: What was read.
            now: When, by the monotonic clock.
        """
        if self._stop.is_set():
            return
        if use.state != IDLE:
            self._last = now
            self._was_used = self._was_used or use.state == BUSY
            if use.state != BUSY:
                self._tell(use.why)
        elif now - self._last >= self._limit_seconds:
            self.message = f"{IDLE_WORDS} for {self._limit_seconds:g} s: {self._since()}"
            self._wake()

    def _since(self) -> str:
        if not self._was_used:
            return f"no {self._reader.chips} was used since the function was called"
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
    """Begin to look at the chips of a run; None where it did not ask for that, or has none.

    Args:
        job: The job.
        environ: The variables of the function's process.
        say: Prints a line.
        wake: Called when they have done nothing for too long.
    """
    # Jobs that were written by earlier clients do not say.
    limit_seconds = job.get("idle_timeout_seconds")
    reader = reader_of(environ) if limit_seconds else None
    if reader is None or limit_seconds is None:
        return None
    return IdleWatch(limit_seconds, reader, say, wake).begin()
