"""Driving a run that was submitted, and that nobody waits for, while its client lives."""

from __future__ import annotations

import logging
import threading
from contextvars import copy_context

from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.runs.cancel import CancellationWatch
from kinetic_flows.runs.session import Session, connect_session
from kinetic_flows.runs.settle import sync_state
from kinetic_flows.runs.worker_runs import processes_of

logger = logging.getLogger(__name__)

FIRST_SECONDS = 0.5
LAST_SECONDS = 5.0
"""How often the run is looked at: at first, and after a while."""


def drive_in_background(run: RunTicket, session: Session) -> None:
    """Have a thread drive a run to its end; the thread keeps no process alive.

    Args:
        run: The run, which has several candidates.
        session: Where it runs and reports; the thread has one of its own.
    """
    threading.Thread(
        target=copy_context().run,
        args=(_drive, run, session),
        name=f"kinetic-drive-{run.run_id[:8]}",
        daemon=True,
    ).start()


def _drive(run: RunTicket, session: Session) -> None:
    try:
        with connect_session(
            session.settings, session.environ, NullProgress(), session.platform
        ) as own:
            _to_its_end(run, own)
    except KineticError as error:
        # The next client that looks at the run takes it further.
        logger.debug("run %s is not driven from here any more: %s", run.run_id, error.message)


def _to_its_end(run: RunTicket, session: Session) -> None:
    processes = processes_of(session.platform, session.api, run)
    cancellation = CancellationWatch(run, session, processes)
    seconds = FIRST_SECONDS
    while True:
        try:
            if processes.observe(run.run_id, None).phase.is_final:
                sync_state(session.platform, session.api, run, is_launched=True)
                return
            cancellation.look()
        except KineticError as error:
            logger.debug("run %s cannot be driven now: %s", run.run_id, error.message)
        pause(seconds)
        seconds = min(seconds * 1.2, LAST_SECONDS)
