"""Results of runs whose processes cannot be seen to have ended, or have not ended yet."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from kinetic_flows.core.envelope import ResultEnvelope
from kinetic_flows.core.errors import KineticError, StoreError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.runs.results import read_result
from kinetic_flows.runs.session import Session

LEFT_LOOK_SECONDS = 2.0
LEFT = "it has left its result"

STORING = "kinetic: the run is over; the programs that it has compiled are still being stored"
"""What the runner says when its process goes on; `runner_image/runner/compile_cache.py`."""

_FINISHED = ("returned", "raised")


class LeftWatch:
    """Looks for a run's result while its pod cannot be observed.

    Args:
        run: The run.
        session: Where it runs and reports.
    """

    def __init__(self, run: RunTicket, session: Session) -> None:
        self._run = run
        self._session = session
        self._next = 0.0

    def look(self, seen: Observation) -> Observation:
        """Return an observation, or that the run has left its result."""
        now = time.monotonic()
        if not seen.is_outdated or now < self._next:
            return seen
        self._next = now + LEFT_LOOK_SECONDS
        with suppress(StoreError):
            if read_result(self._session.platform.store, self._run) is not None:
                return replace(seen, phase=Phase.GONE, reason=LEFT)
        return seen


def result_while_storing(run: RunTicket, session: Session) -> ResultEnvelope | None:
    """Return the result of a run whose process goes on to store what it has compiled.

    Nobody has to wait for that: the result is stored, and Prefect has its state.

    Args:
        run: The run.
        session: Where it runs and reports.

    Returns:
        Its result; None where there is more to do once its process has ended.
    """
    if run.candidates:
        return None
    with suppress(KineticError):
        envelope = read_result(session.platform.store, run)
        is_over = envelope is not None and envelope.header.status in _FINISHED
        if is_over and session.api.read_run(run.run_id).is_final:
            return envelope
    return None
