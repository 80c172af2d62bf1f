"""Waiting for tasks in other threads, which end when this one is interrupted or cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture

from kinetic_flows.core.errors import PrefectServerError, RunCancelled
from kinetic_flows.core.interruption import Stoppable
from kinetic_flows.runs.session import Session

LOOK_SECONDS = 0.5
"""How often to look whether whoever awaits this thread has been cancelled."""

STATE_SECONDS = 3.0
"""How often to ask Prefect whether the flow run is to be cancelled."""

STOP_SECONDS = 30.0
"""How long interrupted tasks get to cancel what they have started."""


@contextmanager
def wait_for(*futures: PrefectFuture[Any], work: Stoppable, session: Session) -> Iterator[None]:
    """Wait for tasks once the block has run, and stop them when anything keeps it from ending.

    Args:
        *futures: The tasks, which were submitted within `work`.
        work: Stops them.
        session: Whose API knows whether the flow run that is being driven is cancelled.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, or whoever awaits this thread was cancelled.
        RunCancelled: The flow run was cancelled, in Prefect's UI for instance.
    """
    try:
        yield
        cancellation = _Cancellation(session)
        for future in futures:
            done = threading.Event()
            future.add_done_callback(partial(_mark, done))
            while not done.wait(LOOK_SECONDS):
                work.check()
                cancellation.check()
    except BaseException:
        work.stop()
        for future in futures:
            with suppress(BaseException):  # what ends the wait is raised below
                future.wait(STOP_SECONDS)
        raise


def _mark(done: threading.Event, _: PrefectFuture[Any]) -> None:
    done.set()


class _Cancellation:
    """Asks Prefect now and then whether the flow run that is being driven is to be cancelled."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._asked = time.monotonic()

    def check(self) -> None:
        """Go on, unless the flow run is to be cancelled.

        Raises:
            RunCancelled: It is.
        """
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return
        if time.monotonic() - self._asked < STATE_SECONDS:
            return
        self._asked = time.monotonic()
        run_id = str(context.flow_run.id)
        with suppress(PrefectServerError):  # a server that does not answer cancels nothing
            if self._session.api.read_run(run_id).state_type in ("CANCELLING", "CANCELLED"):
                raise RunCancelled(f"flow run {run_id} was cancelled", value=run_id)
