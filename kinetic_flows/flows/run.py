"""The flow `kinetic-run`: one call of one function, from plan to result."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Flow
from prefect.context import FlowRunContext
from prefect.exceptions import MissingContextError
from prefect.futures import PrefectFuture
from prefect.states import Completed

from kinetic_flows.clients.prefect.flow_names import (
    PARENT_FLOW,
    TASK_AWAIT_RUN,
    TASK_LAUNCH_ACCELERATOR,
)
from kinetic_flows.core.envelope import ResultEnvelope
from kinetic_flows.core.errors import KineticError, RunCancelled, RunError
from kinetic_flows.core.exits import wait_for_nothing
from kinetic_flows.core.functions import is_async
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.signals import cause_in_words, interruption_in
from kinetic_flows.flows.defaults import own_task
from kinetic_flows.flows.engine import current_flow_run_id, run_flow
from kinetic_flows.flows.prepare import prepare
from kinetic_flows.flows.run_page import publish_description
from kinetic_flows.flows.steps import step, task_logger
from kinetic_flows.plans.draft import Draft
from kinetic_flows.runs.cache import launch_or_reuse
from kinetic_flows.runs.cancel import cancel
from kinetic_flows.runs.job_template import Prepared
from kinetic_flows.runs.launch import Membership, OnCreated
from kinetic_flows.runs.leaving import run_goes_on
from kinetic_flows.runs.results import failure_summary, value_summary
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.wait import wait_for_run

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A run that was launched.

    Attributes:
        ticket: Identifies the run, and verifies its result.
        envelope: Its result; None when nobody waited for it.
    """

    ticket: RunTicket
    envelope: ResultEnvelope | None


def execute(draft: Draft, session: Session, *, wait: bool) -> Launched:
    """Run the flow `kinetic-run` for one call.

    Args:
        draft: The call, with everything decided that needs no lock.
        session: Where it runs and reports.
        wait: Whether to wait for the function's end, or only until it is launched.

    Raises:
        KineticError: A step failed; the function may not have run.
        RunError: The run ended without leaving a result.
        BaseException: The call was interrupted, by Ctrl-C, a signal or a time limit around it;
            the run was cancelled.
    """
    call = _Call(draft, session)

    def kinetic_run(
        function: str,  # noqa: ARG001 - shown in Prefect
        accelerator: str,  # noqa: ARG001 - shown in Prefect
        arguments: dict[str, str],  # noqa: ARG001 - shown in Prefect
    ) -> Launched:
        """Run a Python function remotely: lock, build, upload, launch, await."""
        return call.run(wait=wait)

    shown = {
        "function": draft.name,
        "accelerator": str(draft.accelerator),
        "arguments": dict(draft.argument_reprs),
    }
    try:
        return run_flow(
            kinetic_run,
            PARENT_FLOW,
            shown,
            session,
            final_state=lambda launched: Completed(message=f"run {launched.ticket.run_id}"),
        )
    except RunDidNotReturn as unreturned:
        return Launched(ticket=unreturned.ticket, envelope=unreturned.envelope)
    except BaseException:
        if not wait:
            # The caller does not get the run's handle.
            call.say_that_run_goes_on()
        raise


class _Call:
    """One call at work, which knows whether its run was created and launched.

    Args:
        draft: The call.
        session: Where it runs and reports.
    """

    def __init__(self, draft: Draft, session: Session) -> None:
        self._draft = draft
        self._session = session
        self._before = sys.exception()
        self._created: RunTicket | None = None
        self._launched: RunTicket | None = None

    def run(self, *, wait: bool) -> Launched:
        """Prepare what the run needs, start it, and wait for its end if that is wanted."""
        try:
            ticket = self._launch()
            envelope = await_run_task(ticket, self._session) if wait else None
        except BaseException as error:
            interruption = interruption_in(error, before=self._before)
            if interruption is not None:
                self._cancel(interruption)
            elif not isinstance(error, RunError | RunDidNotReturn):
                self.say_that_run_goes_on()
            raise
        return Launched(ticket=ticket, envelope=envelope)

    def say_that_run_goes_on(self) -> None:
        """Say so, if it was launched."""
        if self._launched is not None:
            self._session.progress.notice(_goes_on(self._launched))

    def _launch(self) -> RunTicket:
        flow_run_id = current_flow_run_id()
        prepared = prepare(self._draft, self._session)
        self._launched = launch_accelerator_task(
            self._draft, prepared, flow_run_id, self._session, self._note_created
        )
        self._show(self._launched)
        return self._launched

    def _note_created(self, ticket: RunTicket) -> None:
        self._created = ticket
        self._show(ticket)

    def _show(self, ticket: RunTicket) -> None:
        how = "the result of an earlier run" if ticket.result_run_id else ""
        self._session.progress.launched(self._session.api.run_url(ticket.run_id), how)

    def _cancel(self, interruption: BaseException) -> None:
        """Cancel the run that was created for an interrupted call."""
        ticket, progress = self._created, self._session.progress
        why = cause_in_words(interruption)
        if ticket is None:
            progress.notice(f"{why}: nothing was launched")
            return
        progress.notice(f"{why}: cancelling run {ticket.run_id} of {ticket.name} ...")
        try:
            cancel(ticket, self._session)
        except KineticError as failure:
            progress.warning(f"{failure.message}; {_goes_on(ticket)}")
        except KeyboardInterrupt:
            # Once more: the person wants to wait for nothing. The first one is raised.
            progress.warning(f"not waiting until it has stopped: {_goes_on(ticket)}")
            wait_for_nothing()


def _goes_on(ticket: RunTicket) -> str:
    return run_goes_on(ticket.run_id, ticket.name)


class RunDidNotReturn(KineticError):
    """A run ended with an exception, a timeout or a crash; carries the envelope that tells.

    Args:
        ticket: The run.
        envelope: Its result.
    """

    def __init__(self, ticket: RunTicket, envelope: ResultEnvelope) -> None:
        how = {"raised": "raised ", "crashed": "crashed: "}.get(envelope.header.status, "")
        super().__init__(
            f"{ticket.name} {how}{failure_summary(envelope.header)}", value=ticket.run_id
        )
        self.ticket = ticket
        self.envelope = envelope


@own_task(TASK_LAUNCH_ACCELERATOR)
def launch_accelerator_task(
    draft: Draft,
    prepared: Prepared,
    parent_flow_run_id: str,
    session: Session,
    on_created: OnCreated,
) -> RunTicket:
    """Create the run's flow run, write its job, and start its process."""
    with step(session.progress, TASK_LAUNCH_ACCELERATOR) as current:
        ticket = launch_or_reuse(
            draft, prepared, Membership(parent=parent_flow_run_id), session, on_created
        )
        publish_description(ticket, draft, prepared, session)
        current.finish(f"{draft.accelerator} run {ticket.run_id}", "passed")
        return ticket


@own_task(TASK_AWAIT_RUN)
def await_run_task(ticket: RunTicket, session: Session) -> ResultEnvelope:
    """Wait for the run to end, passing on what it prints, and return its result envelope.

    Raises:
        RunCancelled: It was cancelled, which makes the parent flow run Cancelled too.
        RunDidNotReturn: It ended with a result that is no value; shows this task as failed.
    """
    envelope = wait_for_run(ticket, session, session.progress, is_launched=True)
    if envelope.header.status == "cancelled":
        raise RunCancelled(
            f"run {ticket.run_id} of {ticket.name} was cancelled", value=ticket.run_id
        )
    if envelope.header.status != "returned":
        raise RunDidNotReturn(ticket, envelope)
    task_logger().info(f"{ticket.name} {value_summary(envelope.header)}")
    return envelope


def await_in_flow(result: Callable[[], Any]) -> PrefectFuture[Any]:
    """Submit a task that waits for a run, in the flow that this is called in.

    Args:
        result: Waits for the run, and returns or raises its result.

    Raises:
        MissingContextError: This is not called in a flow.
    """
    if FlowRunContext.get() is None:
        raise MissingContextError("as_future() is for use in a Prefect flow; use result() here")

    @own_task(TASK_AWAIT_RUN)
    def await_run() -> Any:
        """Wait for a run of a remote function."""
        return result()

    return await_run.submit()


def as_flow(remote: Callable[P, R], function: Callable[P, R], name: str) -> Flow[P, R]:
    """Return a Prefect flow that launches a function remotely and returns its value.

    Args:
        remote: Calls the function remotely.
        function: The function, for its signature.
        name: The flow's name.
    """
    if is_async(function):

        @wraps(function)
        async def launch_async(*args: Any, **kwargs: Any) -> Any:
            return await remote(*args, **kwargs)  # type: ignore[misc]

        return cast("Flow[P, R]", Flow(launch_async, name=name, retries=0))

    @wraps(function)
    def launch(*args: P.args, **kwargs: P.kwargs) -> R:
        return remote(*args, **kwargs)

    return Flow(launch, name=name, retries=0)
