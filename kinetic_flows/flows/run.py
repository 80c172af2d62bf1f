"""One call of one function, from plan to result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Flow
from prefect.context import FlowRunContext
from prefect.exceptions import MissingContextError
from prefect.futures import PrefectFuture

from kinetic_flows.clients.prefect.flow_names import (
    TASK_AWAIT_RUN,
    TASK_LAUNCH_ACCELERATOR,
)
from kinetic_flows.clients.prefect.surroundings import surrounding_flow_run_id
from kinetic_flows.core.envelope import ResultEnvelope
from kinetic_flows.core.errors import KineticError, RunCancelled, RunError
from kinetic_flows.core.exits import wait_for_nothing
from kinetic_flows.core.functions import is_async
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.signals import cause_in_words, interruption_in
from kinetic_flows.flows.defaults import own_task
from kinetic_flows.flows.prepare import prepare
from kinetic_flows.flows.preparing import preparing
from kinetic_flows.flows.run_page import publish_description
from kinetic_flows.flows.steps import step
from kinetic_flows.plans.draft import Draft
from kinetic_flows.runs.cache import launch_or_reuse
from kinetic_flows.runs.cancel import cancel
from kinetic_flows.runs.flow_run import Membership
from kinetic_flows.runs.job_template import Prepared
from kinetic_flows.runs.launch import OnCreated
from kinetic_flows.runs.leaving import run_goes_on
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
    """Make what a call needs, launch its run, and wait for its end if that is wanted.

    The call is one flow run, the function's: our tasks are part of it until its process takes
    over, and so it is there, with its name and its state, from the beginning.

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
    return _Call(draft, session).run(wait=wait)


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
            with self._cancelled_if_interrupted():
                envelope = await_run(ticket, self._session) if wait else None
            if not wait and ticket.has_candidates and ticket.dispatch == "client":
                from kinetic_flows.runs.candidates.background import drive_in_background

                drive_in_background(ticket, self._session)
        except RunError:
            raise
        except BaseException as error:
            if interruption_in(error, before=self._before) is None and self._launched is not None:
                self._session.progress.notice(_goes_on(self._launched))
            raise
        return Launched(ticket=ticket, envelope=envelope)

    def _launch(self) -> RunTicket:
        draft, session = self._draft, self._session
        membership = Membership(parent=surrounding_flow_run_id())
        with (
            preparing(draft, membership, session) as opened,
            self._cancelled_if_interrupted(),
        ):
            prepared = prepare(draft, session)
            self._launched = launch_accelerator_task(
                draft, prepared, membership, session, self._note_created, opened
            )
        self._show(self._launched)
        return self._launched

    def _note_created(self, ticket: RunTicket) -> None:
        self._created = ticket
        self._show(ticket)

    def _show(self, ticket: RunTicket) -> None:
        how = "the result of an earlier run" if ticket.result_run_id else ""
        self._session.progress.launched(self._session.api.run_url(ticket.run_id), how)

    @contextmanager
    def _cancelled_if_interrupted(self) -> Iterator[None]:
        """Cancel the run that may have been started when something interrupts the block."""
        try:
            yield
        except BaseException as error:
            interruption = interruption_in(error, before=self._before)
            if interruption is not None:
                self._cancel(interruption)
            raise

    def _cancel(self, interruption: BaseException) -> None:
        """Cancel the run that was created for an interrupted call."""
        ticket, progress = self._launched or self._created, self._session.progress
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


@own_task(TASK_LAUNCH_ACCELERATOR, run_name="launch {draft.name}")
def launch_accelerator_task(
    draft: Draft,
    prepared: Prepared,
    membership: Membership,
    session: Session,
    on_created: OnCreated,
    opened: RunTicket | None,
) -> RunTicket:
    """Write the run's job and start its process, or hand it over to a Prefect worker."""
    with step(session.progress, TASK_LAUNCH_ACCELERATOR) as current:
        ticket = launch_or_reuse(draft, prepared, membership, session, on_created, opened=opened)
        publish_description(ticket, draft, prepared, session)
        current.finish(f"{draft.runs_on} run {ticket.run_id}", "passed")
        return ticket


def await_run(ticket: RunTicket, session: Session) -> ResultEnvelope:
    """Wait for the run to end, passing on what it prints, and return its result envelope.

    Raises:
        RunCancelled: It was cancelled.
        RunError: It ended without leaving a result.
    """
    envelope = wait_for_run(ticket, session, session.progress, is_launched=True)
    if envelope.header.status == "cancelled":
        raise RunCancelled(
            f"run {ticket.run_id} of {ticket.name} was cancelled", value=ticket.run_id
        )
    return envelope


@own_task(TASK_AWAIT_RUN, run_name="wait for {name}")
def await_run_task(result: Callable[[], Any], name: str) -> Any:  # noqa: ARG001
    """Wait for a run of a remote function, or for a group of them."""
    return result()


def await_in_flow(result: Callable[[], Any], name: str) -> PrefectFuture[Any]:
    """Submit a task that waits for a run, in the flow that this is called in.

    Args:
        result: Waits for the run, and returns or raises its result.
        name: What the run is called, and the task run after it.

    Raises:
        MissingContextError: This is not called in a flow.
    """
    if FlowRunContext.get() is None:
        raise MissingContextError("as_future() is for use in a Prefect flow; use result() here")

    return await_run_task.submit(result, name)


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
