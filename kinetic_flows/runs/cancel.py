"""Cancelling runs.

A run is cancelled by its state in Prefect: the runner in its pod asks for that state while the
function runs, and interrupts it (`runner_image/runner/reporter.py`). Whoever cancels or waits
has the platform stop the process as well (`Processes.stop`): SIGTERM, and SIGKILL when the grace
period (`core/job.py`) is over. A cancellation that nobody has acted on is left to the reconciler.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from kinetic_flows.clients.prefect.api import short_retries
from kinetic_flows.core.errors import PrefectServerError, PrefectUnreachable, RunNotFoundError
from kinetic_flows.core.job import CANCEL_GRACE_SECONDS, RunTicket
from kinetic_flows.core.launcher import Processes
from kinetic_flows.runs.settle import sync_state, ticket_of
from kinetic_flows.runs.worker_runs import processes_of

if TYPE_CHECKING:
    from kinetic_flows.runs.session import Session

CANCEL_PATIENCE_SECONDS = 30.0
"""How long a run's runner, or a client that waits for it, is left to act on a cancellation."""

FIRST_LOOK_SECONDS = 3.0
LAST_LOOK_SECONDS = 10.0
"""How often Prefect is asked for a cancellation; a run's own runner asks while it runs."""

API_AWAY = (PrefectServerError, RunNotFoundError)
"""Errors of a Prefect API that does not answer, or that has lost its database."""

CANCELLED_BY_CLIENT = "cancelled by its client"
CANCELLED_STATES = frozenset({"CANCELLING", "CANCELLED"})


def cancel(run: RunTicket, session: Session) -> None:
    """Cancel a run: its function is asked to stop, then stopped, and its state says so.

    A run whose process can be stopped from here needs no Prefect for that: while the API is
    away, its state is set by the next session.

    Args:
        run: The run; nothing happens when it has ended.
        session: Where it runs and reports.
    """
    is_told = True
    with short_retries():
        try:
            record = session.api.read_run(run.run_id)
            if record.is_final:
                return
            # What it was launched as since somebody asked about it, or was interrupted.
            run = replace(run, candidates=ticket_of(record).candidates)
            session.api.set_state(run.run_id, "CANCELLING", message=CANCELLED_BY_CLIENT)
        except PrefectUnreachable as error:
            session.api_availability.failed(error)
            is_told = False
        processes = processes_of(session.platform, session.api, run)
        processes.stop(run.run_id, CANCEL_GRACE_SECONDS)
        if not is_told:
            # Only now: a run that cannot be stopped from here is not cancelled.
            session.ledger.add_pending_update(
                session.api.url, run.run_id, "CANCELLED", CANCELLED_BY_CLIENT
            )
        try:
            sync_state(session.platform, session.api, run)
        except PrefectUnreachable as error:
            session.api_availability.failed(error)


class CancellationWatch:
    """Stops a run whose state is Cancelling, for pods that are not running yet or cannot ask.

    Args:
        run: The run.
        session: Where it runs and reports.
        processes: What stops it.
    """

    def __init__(self, run: RunTicket, session: Session, processes: Processes) -> None:
        self._run = run
        self._session = session
        self._processes = processes
        self._pause = FIRST_LOOK_SECONDS
        self._next = time.monotonic() + self._pause

    def look(self) -> None:
        """Read the run's state, now and then, and stop the run that is being cancelled."""
        now = time.monotonic()
        if now < self._next:
            return
        self._pause = min(self._pause * 1.5, LAST_LOOK_SECONDS)
        self._next = now + self._pause
        try:
            if self._session.api.read_run(self._run.run_id).state_type in CANCELLED_STATES:
                self._processes.stop(self._run.run_id, CANCEL_GRACE_SECONDS)
        except API_AWAY as error:
            self._session.api_availability.failed(error)
