"""Telling Prefect what a run has waited for before its process began."""

from __future__ import annotations

from contextlib import suppress

from kinetic_flows.clients.prefect.timings import seconds_labels
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation
from kinetic_flows.runs.session import Session

WORTH_TELLING_SECONDS = 3.0
"""What a run waited for its pod that Prefect is told of; less is not worth a request."""


class PodWaits:
    """Tells Prefect what a run has waited for, once, where that took some time.

    Args:
        run: The run.
        session: Where it runs and reports.
    """

    def __init__(self, run: RunTicket, session: Session) -> None:
        self._run = run
        self._session = session
        self._is_told = False

    def take(self, seen: Observation) -> None:
        """Take an observation of the run."""
        if self._is_told or sum(seen.waits.values()) < WORTH_TELLING_SECONDS:
            return
        self._is_told = True
        with suppress(KineticError):
            self._session.api.add_labels(self._run.run_id, seconds_labels(seen.waits))
