"""Telling Prefect what happens to a run that is waited for, for automations to react to."""

from __future__ import annotations

import time

from kinetic_flows.clients.prefect.events import tell_event
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import STARTING, Observation, Phase
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.worker_runs import NO_WORKER

LASTING_SECONDS = 5.0
"""How long a run has to be Pending for one reason until that is told: most reasons pass sooner."""

NO_WORKER_SECONDS = 30.0
"""The same of a run that no worker has taken: workers ask for work about every 10 seconds."""


class WaitEvents:
    """Tells that a run is Pending, and, for a run that cannot itself, that it was preempted.

    Args:
        run: The run.
        session: Where it runs and reports.
    """

    def __init__(self, run: RunTicket, session: Session) -> None:
        self._run = run
        self._session = session
        self._cause = ""
        self._since = 0.0
        self._told: set[str] = set()
        self._restarts = 0

    def take(self, seen: Observation, *, is_relayed: bool) -> None:
        """Take an observation of the run.

        Args:
            seen: The observation.
            is_relayed: Whether the run cannot tell Prefect of itself.
        """
        self._take_pending(seen)
        if is_relayed and seen.restarts > self._restarts:
            self._restarts = seen.restarts
            tell_event(
                self._session.api,
                self._run.run_id,
                "preempted",
                str(seen.restarts),
                reason=seen.reason,
                restarts=seen.restarts,
            )

    def _take_pending(self, seen: Observation) -> None:
        cause = seen.cause if seen.phase is Phase.PENDING and seen.cause != STARTING else ""
        if cause != self._cause:
            self._cause, self._since = cause, time.monotonic()
        limit = NO_WORKER_SECONDS if cause == NO_WORKER else LASTING_SECONDS
        if not cause or cause in self._told or time.monotonic() - self._since < limit:
            return
        self._told.add(cause)
        tell_event(
            self._session.api,
            self._run.run_id,
            "pending",
            cause,
            reason=seen.reason,
            cause=cause,
        )
