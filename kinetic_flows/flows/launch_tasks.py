"""Tasks that ship the code, start the run and wait for its end."""

from __future__ import annotations

from kinetic_flows.clients.prefect.flow_names import (
    TASK_AWAIT_RUN,
    TASK_LAUNCH_ACCELERATOR,
    TASK_UPLOAD_CODE,
)
from kinetic_flows.code.runner_bundle import runner_bundle
from kinetic_flows.code.upload import code_spec, upload_code
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.envelope import ResultEnvelope
from kinetic_flows.core.errors import KineticError, RunCancelled
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.job import CodeSpec, RunTicket
from kinetic_flows.core.object_names import runner_object
from kinetic_flows.core.progress import Progress
from kinetic_flows.flows.own_tasks import own_task
from kinetic_flows.flows.run_page import publish_description
from kinetic_flows.flows.steps import step
from kinetic_flows.plans.draft import Draft
from kinetic_flows.runs.cache import launch_or_reuse
from kinetic_flows.runs.launch import Membership, Prepared
from kinetic_flows.runs.results import failure_summary, value_summary
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.starting import OnCreated
from kinetic_flows.runs.wait import wait_for_run


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


@own_task(TASK_UPLOAD_CODE)
def upload_code_task(draft: Draft, store: ArtifactStore, progress: Progress) -> CodeSpec:
    """Upload the packs of the project's code that the store does not have, and the runner."""
    with step(progress, TASK_UPLOAD_CODE) as current:
        bundle = runner_bundle()
        store.put_if_absent(runner_object(bundle.sha256), bundle.data)
        uploaded = upload_code(draft.snapshot, store, home=draft.settings.home)
        for warning in uploaded.warnings:
            progress.warning(warning)
        sent = uploaded.snapshot
        current.finish(
            f"{sent.files} files, {size_in_units(sent.size_bytes)}; "
            f"{size_in_units(uploaded.bytes_uploaded)} new"
        )
        return code_spec(sent, draft.root)


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
        current.finish(f"{draft.accelerator} run {ticket.run_id}")
        return ticket


@own_task(TASK_AWAIT_RUN)
def await_run_task(ticket: RunTicket, session: Session) -> ResultEnvelope:
    """Wait for the run to end, passing on what it prints, and return its result envelope.

    Raises:
        RunCancelled: It was cancelled, which makes the parent flow run Cancelled too.
        RunDidNotReturn: It ended with a result that is no value; shows this task as failed.
    """
    with step(session.progress, TASK_AWAIT_RUN) as current:
        envelope = wait_for_run(ticket, session, session.progress, is_launched=True)
        if envelope.header.status == "cancelled":
            raise RunCancelled(
                f"run {ticket.run_id} of {ticket.name} was cancelled", value=ticket.run_id
            )
        if envelope.header.status != "returned":
            raise RunDidNotReturn(ticket, envelope)
        current.finish(f"{ticket.name} {value_summary(envelope.header)}")
        return envelope
