"""The flow `kinetic-run`: one call of one function, from plan to result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed

from kinetic_flows.clients.prefect.flow_names import PARENT_FLOW, TASK_AWAIT_RUN
from kinetic_flows.core.envelope import ResultEnvelope
from kinetic_flows.core.errors import KineticError, RunError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.signals import Terminated, interruption_in
from kinetic_flows.flows.engine import current_flow_run_id, drive
from kinetic_flows.flows.launch_tasks import (
    RunDidNotReturn,
    await_run_task,
    launch_accelerator_task,
)
from kinetic_flows.flows.prepare import prepare
from kinetic_flows.plans.draft import Draft
from kinetic_flows.runs.cancel import cancel
from kinetic_flows.runs.leaving import run_goes_on
from kinetic_flows.runs.session import Session


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A run that was launched.

    Attributes:
        ticket: What is needed to follow it.
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
    tickets: list[RunTicket] = []
    ended: list[Launched] = []
    before = sys.exception()

    def kinetic_run(
        function: str,  # noqa: ARG001 - shown in Prefect
        accelerator: str,  # noqa: ARG001 - shown in Prefect
        arguments: dict[str, str],  # noqa: ARG001 - shown in Prefect
    ) -> State[Any]:
        """Run a Python function remotely: lock, build, upload, launch, await."""
        try:
            launched = _launch(draft, session, tickets.append)
            ended.append(Launched(ticket=launched, envelope=None))
            if wait:
                envelope = await_run_task(launched, session)
                ended.append(Launched(ticket=launched, envelope=envelope))
        except RunDidNotReturn as unreturned:
            ended.append(Launched(ticket=unreturned.ticket, envelope=unreturned.envelope))
            raise
        except BaseException as error:
            interruption = interruption_in(error, before=before)
            if interruption is not None:
                _cancel(tickets, interruption, session)
            elif ended and not isinstance(error, RunError):
                session.progress.notice(_goes_on(ended[-1].ticket))
            raise
        return Completed(message=f"run {launched.run_id}")

    shown = {
        "function": draft.name,
        "accelerator": str(draft.accelerator),
        "arguments": dict(draft.argument_reprs),
    }
    try:
        drive(kinetic_run, PARENT_FLOW, shown, session)
    except RunDidNotReturn:
        pass
    except BaseException:
        if ended and not wait:
            # It was launched, and whoever launched it does not get its handle.
            session.progress.notice(_goes_on(ended[-1].ticket))
        raise
    return ended[-1]


def _launch(draft: Draft, session: Session, on_created: Callable[[RunTicket], None]) -> RunTicket:
    """Prepare what the run needs, then start it."""
    flow_run_id = current_flow_run_id()
    prepared = prepare(draft, session)
    return launch_accelerator_task(draft, prepared, flow_run_id, session, on_created)


def _cancel(tickets: Sequence[RunTicket], interruption: BaseException, session: Session) -> None:
    """Cancel what was created for a call that is interrupted."""
    why = "Ctrl-C" if type(interruption) is KeyboardInterrupt else _named(interruption)
    for ticket in tickets:
        session.progress.notice(f"cancelling run {ticket.run_id} ({why}) ...")
        try:
            cancel(ticket, session)
        except KineticError as failure:
            session.progress.warning(f"{failure.message}; {_goes_on(ticket)}")
        else:
            told = f"run {ticket.run_id} cancelled"
            session.progress.step(TASK_AWAIT_RUN, "failed", told)


def _named(interruption: BaseException) -> str:
    if isinstance(interruption, Terminated):
        return str(interruption)
    return f"{type(interruption).__name__}: {interruption}".rstrip(": ")


def _goes_on(ticket: RunTicket) -> str:
    return run_goes_on(ticket.run_id, ticket.name)
