"""A run's log lines in Prefect, read on and on: each once, also those that arrive late or twice."""

from __future__ import annotations

from collections.abc import Hashable

from kinetic_flows.clients.prefect.api import LogLine, PrefectApi
from kinetic_flows.clients.prefect.labels import CLIENT_LOGGER, PREFECT_RUN_LOGGERS
from kinetic_flows.core.streams import RESULT_LOGGER

REREAD_LINES = 50
"""Lines may arrive out of order: so many of the last ones are read again."""

KNOWN_LINES = 20 * REREAD_LINES
"""So many of the last ones are remembered: more than are read again."""


class PrefectLines:
    """The log lines of one run."""

    def __init__(self) -> None:
        self._count = 0
        self._ids = _Recent()
        self._contents = _Recent()

    def read(self, api: PrefectApi, run_id: str) -> list[LogLine]:
        """Return the lines that were not there at the last call.

        Args:
            api: Where the lines are.
            run_id: The run.

        Raises:
            PrefectServerError: Prefect does not tell; the next call returns what this one had to.
        """
        lines = api.logs(run_id, offset=max(self._count - REREAD_LINES, 0))
        new = [line for line in lines if self._ids.add(line.id)]
        self._count += len(new)
        # Lines whose sender was not told that they had arrived are sent again, and then Prefect
        # has them twice: with the same time, which of all lines that a run prints no two have.
        return [
            line
            for line in new
            if self._contents.add((line.timestamp, line.logger, line.level, line.message))
        ]


class _Recent:
    """What was seen of late."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, None] = {}

    def add(self, what: Hashable) -> bool:
        """Note what is seen; return whether that was new."""
        if what in self._seen:
            return False
        self._seen[what] = None
        if len(self._seen) > KNOWN_LINES:
            del self._seen[next(iter(self._seen))]
        return True


def is_of_run(logger: str) -> bool:
    """Whether a run's own process has logged a line: no client, and nothing else of Prefect.

    Args:
        logger: The line's logger.
    """
    is_of_prefect = logger.startswith("prefect.") and logger not in PREFECT_RUN_LOGGERS
    return logger not in (CLIENT_LOGGER, RESULT_LOGGER) and not is_of_prefect
