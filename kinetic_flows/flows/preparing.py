"""Our tasks as part of a run's own flow run, before its process takes over."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext, SyncClientContext
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from kinetic_flows.clients.prefect.api import short_retries
from kinetic_flows.clients.prefect.flow_names import PARENT_FLOW
from kinetic_flows.clients.prefect.internals import result_store_of
from kinetic_flows.clients.prefect.surroundings import surrounding_flow_run_id
from kinetic_flows.core.errors import KineticError, PrefectServerError, RunCancelled
from kinetic_flows.core.exits import wait_for_nothing
from kinetic_flows.core.interruption import Stoppable
from kinetic_flows.core.job import RunTicket
from kinetic_flows.flows.defaults import own_settings
from kinetic_flows.flows.engine import (
    End,
    end_of,
    own_flow,
    quiet_console,
    results_of,
    retries_of,
    tidy,
)
from kinetic_flows.plans.draft import Draft
from kinetic_flows.runs.cancel import CANCELLED_STATES
from kinetic_flows.runs.flow_run import (
    Membership,
    open_preparation,
    open_run,
    record_failed,
)
from kinetic_flows.runs.session import Session

TASK_ENGINE_LOGGER = "prefect.task_runs"
"""Logger of Prefect's engine about task runs; those of tasks themselves are below it."""


LOOK_SECONDS = 0.5
"""How often to look whether the asyncio task that awaits this thread has been cancelled."""

STATE_SECONDS = 3.0
"""How often to ask Prefect whether the flow run is to be cancelled."""

STOP_SECONDS = 30.0
"""How long interrupted tasks get to cancel what they have started."""


@contextmanager
def preparing(draft: Draft, membership: Membership, session: Session) -> Iterator[RunTicket | None]:
    """Create the flow run of a call, and run the tasks of the block as part of it.

    Prefect's engine drives no flow here: it would set states, and those of a run are set by its
    runner. What keeps the block from its end is the end of the run, too.

    What a Prefect worker starts can only be created when all is known that it needs; the tasks
    are then part of a flow run of their own.

    Args:
        draft: The call.
        membership: Where its run belongs.
        session: Where it runs and reports.

    Yields:
        The run; None where it is still to be created.

    Raises:
        BaseException: What the block raised, or what interrupted it.
    """
    before = sys.exception()
    opened = None if session.platform.dispatch == "worker" else open_run(draft, membership, session)
    run_id = opened.run_id if opened else open_preparation(draft, membership, session)
    session.ledger.enter(run_id)
    end: End | None = None
    try:
        with _tasks_of(run_id, draft, session):
            yield opened
    except BaseException as error:  # noqa: BLE001 - raised below, as what it is
        end = end_of(error, session, before=before)
    if end is not None:
        _end(run_id, end, session)
        if opened is None:
            with suppress(KineticError):
                record_failed(draft, membership, session, end.state_type, end.message)
        if isinstance(end.error, KineticError | KeyboardInterrupt):
            # Prefect's engine is no part of what went wrong; a bug of ours keeps its frames.
            raise end.error.with_traceback(None)
        raise end.error
    if opened is None:
        with suppress(PrefectServerError):  # a reconciler ends it
            session.api.set_state(run_id, "COMPLETED")
    session.ledger.leave(run_id)


def _end(run_id: str, end: End, session: Session) -> None:
    """Set the final state of a run that was not launched; nothing happens to one that has ended."""
    lines = [end.log] if end.log is not None else []
    if not end.is_told:
        lines.append("".join(traceback.format_exception(end.error)))
    try:
        with short_retries(session.api_retries(1)):
            session.api.set_state(run_id, end.state_type, message=end.message)
            session.api.log(run_id, *lines, level=logging.ERROR)
    except PrefectServerError as error:
        session.api_availability.failed(error)
        if not session.ledger.add_pending_update(
            session.api.url, run_id, end.state_type, end.message
        ):
            return
    session.ledger.leave(run_id)


@contextmanager
def _tasks_of(run_id: str, draft: Draft, session: Session) -> Iterator[None]:
    """Make a flow run the one that tasks are part of, in this thread."""
    results = results_of(session)
    unheard = _EngineOfTasks(run_id)
    engine_logger = logging.getLogger(TASK_ENGINE_LOGGER)
    with (
        quiet_console(lambda: session.api_availability.is_away),
        own_settings(**retries_of(session)),
        ExitStack() as stack,
    ):
        stack.callback(tidy, results)
        engine_logger.addFilter(unheard)
        stack.callback(engine_logger.removeFilter, unheard)
        flow = own_flow(_nothing_more, PARENT_FLOW, None, results)
        stack.enter_context(SyncClientContext.get_or_create())
        runner: ThreadPoolTaskRunner[Any] = stack.enter_context(ThreadPoolTaskRunner())
        flow_run = FlowRun(
            id=UUID(run_id), flow_id=UUID(session.api.flow_id(draft.name)), name=draft.name
        )
        stack.enter_context(
            FlowRunContext(
                flow=flow,
                flow_run=flow_run,
                client=session.api.client,
                parameters={},
                result_store=result_store_of(flow),
                task_runner=runner,
                persist_result=False,
            )
        )
        yield


def _nothing_more() -> State[Any]:
    """Stand in for the function, which runs elsewhere: tasks only want a flow's settings.

    By this flow's name is known, where records of logs go by, that they are ours.
    """
    return Completed()


class _EngineOfTasks(logging.Filter):
    """Drops what Prefect's engine says of our tasks in a flow run whose log is a person's.

    Their states tell as much, and what the tasks themselves have to say they log elsewhere.

    Args:
        flow_run_id: The flow run.
    """

    def __init__(self, flow_run_id: str) -> None:
        super().__init__()
        self._flow_run_id = flow_run_id

    def filter(self, record: logging.LogRecord) -> bool:
        return str(getattr(record, "flow_run_id", "")) != self._flow_run_id


@contextmanager
def wait_for(*futures: PrefectFuture[Any], work: Stoppable, session: Session) -> Iterator[None]:
    """Wait for tasks once the block has run, and stop them when anything keeps it from ending.

    Args:
        *futures: The tasks, which were submitted within `work`.
        work: Stops them.
        session: Whose API knows whether the flow run that is being driven is cancelled.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, or the asyncio task that awaits this was cancelled.
        Exception: A task failed; the others were stopped.
        RunCancelled: The flow run was cancelled, in Prefect's UI for instance.
    """
    try:
        yield
        cancellation = _Cancellation(session)
        ended = SimpleQueue[PrefectFuture[Any]]()
        for future in futures:
            future.add_done_callback(ended.put)
        for _ in futures:
            future = _next_of(ended, work, cancellation)
            # It knows its state from then on, without asking the API.
            future.wait()
            if future.state.is_failed():
                future.result()
    except BaseException:
        work.stop()
        _await_stopped(futures)
        raise


def _await_stopped(futures: Sequence[PrefectFuture[Any]]) -> None:
    """Wait until tasks have stopped, unless Ctrl-C is pressed once more."""
    for future in futures:
        try:
            future.wait(STOP_SECONDS)
        except KeyboardInterrupt:
            # The first one is raised.
            wait_for_nothing()
            return
        except BaseException:  # noqa: BLE001, S110 - what ended the wait for all is raised
            pass


def _next_of(
    ended: SimpleQueue[PrefectFuture[Any]], work: Stoppable, cancellation: _Cancellation
) -> PrefectFuture[Any]:
    """Return the task that ends next, whichever that is: others may take long."""
    while True:
        with suppress(Empty):
            return ended.get(timeout=LOOK_SECONDS)
        work.check()
        cancellation.check()


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
        run_id = surrounding_flow_run_id()
        if run_id is None or time.monotonic() - self._asked < STATE_SECONDS:
            return
        self._asked = time.monotonic()
        with suppress(PrefectServerError):  # a server that does not answer cancels nothing
            if self._session.api.read_run(run_id).state_type in CANCELLED_STATES:
                raise RunCancelled(f"flow run {run_id} was cancelled", value=run_id)
