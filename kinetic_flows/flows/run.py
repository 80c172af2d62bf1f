"""The flow `kinetic-run`: one call of one function, from plan to result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed

from kinetic_flows.errors import KineticError, RunCancelled
from kinetic_flows.flows.driving import current_flow_run_id, drive
from kinetic_flows.flows.preparation import prepare
from kinetic_flows.following import cancel
from kinetic_flows.job import ResultEnvelope, RunTicket
from kinetic_flows.naming import PARENT_FLOW, TASK_AWAIT_RUN
from kinetic_flows.planning import Draft
from kinetic_flows.session import Session
from kinetic_flows.tasks.launching import (
    RunDidNotReturn,
    await_run_task,
    launch_accelerator_task,
)


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
        KeyboardInterrupt: The person pressed Ctrl-C; the run was cancelled.
    """
    ended: list[Launched | BaseException] = []

    def kinetic_run(
        function: str,
        accelerator: str,  # noqa: ARG001 - shown in Prefect
        arguments: dict[str, str],  # noqa: ARG001 - shown in Prefect
    ) -> State[Any]:
        """Run a Python function remotely: lock, build, upload, launch, await."""
        try:
            launched = _launch(draft, session)
            ended.append(Launched(ticket=launched, envelope=None))
            if wait:
                ended.append(_await(launched, session))
        except (RunCancelled, KeyboardInterrupt) as cancelled:
            ended.append(cancelled)
            return Cancelled(message=f"the run of {function} was cancelled")
        except BaseException as error:
            ended.append(error)
            raise
        return Completed(message=f"run {launched.run_id}")

    shown = {
        "function": draft.name,
        "accelerator": str(draft.accelerator),
        "arguments": dict(draft.argument_reprs),
    }
    drive(kinetic_run, PARENT_FLOW, shown, session)
    last = ended[-1]
    if isinstance(last, RunDidNotReturn):
        return Launched(ticket=last.ticket, envelope=last.envelope)
    if isinstance(last, KineticError | KeyboardInterrupt):
        # Prefect's engine is no part of what went wrong; a bug of ours keeps its frames.
        raise last.with_traceback(None)
    if isinstance(last, BaseException):
        raise last
    return last


def _launch(draft: Draft, session: Session) -> RunTicket:
    """Prepare what the run needs, then start it."""
    flow_run_id = current_flow_run_id()
    with session.ledger.entered(flow_run_id):
        prepared = prepare(draft, session)
        return launch_accelerator_task(draft, prepared, flow_run_id, session)


def _await(ticket: RunTicket, session: Session) -> Launched:
    with session.ledger.entered(current_flow_run_id()):
        try:
            return Launched(ticket=ticket, envelope=await_run_task(ticket, session))
        except KeyboardInterrupt:
            session.progress.notice(f"cancelling run {ticket.run_id} (Ctrl-C) ...")
            cancel(ticket, session)
            session.progress.step(TASK_AWAIT_RUN, "failed", f"run {ticket.run_id} cancelled")
            raise
