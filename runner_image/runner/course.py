"""How a run went, as its page says it: how it ended, how long it took, how often it was started."""

from __future__ import annotations

import time

from .endings import State

MESSAGE_CHARACTERS = 400
"""How much of a state's message is shown: all of it is on the run's page, and its log has more."""


class Course:
    """The times of one start of a run.

    Args:
        now: The time since the epoch.
    """

    def __init__(self, now: float | None = None) -> None:
        self._began = time.time() if now is None else now
        self._called: float | None = None

    def call(self, now: float | None = None) -> None:
        """Take note that the function is about to be called."""
        self._called = time.time() if now is None else now

    def markdown(self, state: State, restarts: int, now: float | None = None) -> str:
        """Say how the run went.

        Args:
            state: Its final state.
            restarts: How often it was started before.
            now: When it ended, in seconds since the epoch; None for this moment.
        """
        # Imported late: its patterns are of use at the end only.
        from . import markdown

        now = time.time() if now is None else now
        message = state.message.strip().partition("\n")[0]
        if len(message) > MESSAGE_CHARACTERS:
            message = f"{message[: MESSAGE_CHARACTERS - 1]}…"
        how = f"**{state.name}**" + (f": {markdown.text(message)}" if message else "")
        return markdown.table(
            [
                ("ended", how),
                ("took", self._took(now)),
                ("began", _moment(self._began)),
                ("restarts", str(restarts) if restarts else ""),
            ]
        )

    def _took(self, now: float) -> str:
        whole = elapsed(now - self._began)
        if self._called is None:
            return f"{whole}; the function was not called"
        return f"{whole}, of which {elapsed(self._called - self._began)} before the function"


def elapsed(seconds: float) -> str:
    """Return a duration in words, as `kinetic_flows/core/moments.py` has it."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))
