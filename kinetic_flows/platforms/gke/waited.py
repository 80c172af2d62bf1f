"""For how long Jobs have waited for their pods, by clocks that differ."""

from __future__ import annotations

import time
from datetime import UTC, datetime

CLOCK_SKEW_SECONDS = 30.0


class WaitClock:
    """Tells how long each has waited, by this machine's clock where it saw all of it."""

    def __init__(self) -> None:
        self._began: dict[str, tuple[str, float]] = {}

    def waited(self, key: str, since: datetime | None) -> float:
        """Return for how many seconds a Job has waited.

        Args:
            key: What was launched.
            since: Since when it waits, by the cluster's clock; None when it does not.
        """
        if since is None:
            return 0.0
        mark, now = since.isoformat(), time.monotonic()
        known = self._began.get(key)
        if known is None or known[0] != mark:
            # Clocks differ: of a wait that has just begun this one alone is asked.
            age = (datetime.now(UTC) - since).total_seconds()
            known = (mark, now - (age if age > CLOCK_SKEW_SECONDS else 0.0))
            self._began[key] = known
        return now - known[1]
