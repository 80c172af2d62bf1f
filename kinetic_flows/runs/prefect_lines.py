"""A run's log lines in Prefect, read on and on: each once, also those that arrive late."""

from __future__ import annotations

from collections import deque

from kinetic_flows.clients.prefect.api import LogLine, PrefectApi

REREAD_LINES = 50
"""Lines may arrive out of order: so many of the last ones are read again."""


class PrefectLines:
    """The log lines of one run."""

    def __init__(self) -> None:
        self._count = 0
        self._recent: deque[str] = deque(maxlen=4 * REREAD_LINES)

    def read(self, api: PrefectApi, run_id: str) -> list[LogLine]:
        """Return the lines that were not there at the last call.

        Args:
            api: Where the lines are.
            run_id: The run.

        Raises:
            PrefectServerError: Prefect does not tell; the next call returns what this one had to.
        """
        lines = api.logs(run_id, offset=max(self._count - REREAD_LINES, 0))
        new = [line for line in lines if line.id not in self._recent]
        self._count += len(new)
        self._recent.extend(line.id for line in new)
        return new
