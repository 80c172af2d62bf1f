"""Starting one run: its flow run, its job in the store, its process."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import uuid4

from kinetic_flows.clients.prefect.access import credentials_for
from kinetic_flows.clients.prefect.api import NewRun
from kinetic_flows.clients.prefect.labels import (
    ACCELERATOR_LABEL,
    CACHE_LABEL,
    DISPATCH_LABEL,
    FUNCTION_LABEL,
    INDEX_LABEL,
    JOB_LABEL,
    OUTPUTS_LABEL,
    PARENT_LABEL,
    PLACE_LABEL,
    PLATFORM_LABEL,
    RUN_TAG,
    STORE_LABEL,
    cache_tag,
)
from kinetic_flows.clients.prefect.surroundings import surrounding_tags
from kinetic_flows.clients.prefect.work_pools import ensure_worker_pool
from kinetic_flows.code.origin import caller
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.functions import flow_retries
from kinetic_flows.core.job import (
    CANCEL_GRACE_SECONDS,
    JOB_VARIABLE,
    RUN_KEY_VARIABLE,
    Job,
    JobTemplate,
    RunTicket,
    StoredTemplate,
    sha256_hex,
)
from kinetic_flows.core.launcher import LaunchRequest
from kinetic_flows.core.object_names import (
    job_object,
    job_owner,
    payload_object,
)
from kinetic_flows.plans.draft import Draft, job_request
from kinetic_flows.platforms.base import JobRequest, Platform
from kinetic_flows.runs.job_template import Prepared, job_template
from kinetic_flows.runs.origin_labels import origin_labels, origin_tags
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import crash, store_label
from kinetic_flows.runs.timings import seconds_labels

OnCreated = Callable[[RunTicket], None]
NAMING_A_RUN = ("job_name", "env", "entrypoint", "command")


def ignore(_: RunTicket) -> None:
    """Take no note of a run that was created."""


@dataclass(frozen=True, kw_only=True)
class Membership:
    """Where a run belongs.

    Attributes:
        parent: The flow run it is shown under; None for none.
        index: Its input's place among those of its group, from 0; None when it is in none.
        name: What its run is called in its group; None for the name that its call has.
        work_queue: The work queue whose workers are to start it; None for no particular one.
    """

    parent: str | None
    index: int | None = None
    name: str | None = None
    work_queue: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """What is started, by this process or by a Prefect worker.

    Attributes:
        new: The flow run to create.
        request: What its process is asked for, without a run id.
        template: Its job.
        payload: The pickled call.
        outputs: Where each run has a directory of its own for its outputs.
    """

    new: NewRun
    request: JobRequest
    template: JobTemplate
    payload: bytes
    outputs: str


def launch_run(
    draft: Draft,
    prepared: Prepared,
    membership: Membership,
    session: Session,
    *,
    cache_key: str | None = None,
    on_created: OnCreated = ignore,
) -> RunTicket:
    """Create a run's flow run, write its job, and start its process.

    Args:
        draft: The call.
        prepared: What runs of the function share.
        membership: Where the run belongs.
        session: Where it runs and reports.
        cache_key: What its result may answer for; None for nothing but itself.
        on_created: Told of the run before it is started.

    Raises:
        KineticError: It could not be started; its flow run says so.
    """
    template = job_template(draft, prepared, session, parent=membership.parent)
    new = NewRun(
        flow=draft.name,
        name=membership.name or draft.run_name,
        parent_flow_run_id=membership.parent,
        parameters=draft.argument_reprs,
        tags=(
            *run_tags(draft),
            *([cache_tag(cache_key)] if cache_key else ()),
        ),
        labels={
            **run_labels(draft, membership, session),
            **origin_labels(prepared.origin),
            # What the runs of a group share was made once.
            **({} if membership.index else seconds_labels(prepared.seconds)),
            JOB_LABEL: template.content_digest(),
            **({CACHE_LABEL: cache_key} if cache_key else {}),
        },
        job_variables={},
        work_queue=membership.work_queue,
        retries=flow_retries(draft.call.function),
    )
    planned = PlannedRun(
        new=new,
        request=job_request(draft, "", prepared.image),
        template=template,
        payload=draft.payload.data,
        outputs=session.outputs_root,
    )
    return launch_planned(planned, session, on_created)


def launch_planned(run: PlannedRun, session: Session, on_created: OnCreated = ignore) -> RunTicket:
    """Create a run's flow run and have its process started: from here, or by a worker.

    Args:
        run: The run.
        session: Where it runs and reports.
        on_created: Told of the run before it is started.
    """
    if session.platform.dispatch == "worker" or run.new.work_queue:
        new = _for_worker(run, session)
        return _create_and_start(
            new, lambda ticket: session.api.schedule(ticket.run_id), session, on_created
        )
    new = _on_work_pool(run, session)
    return _create_and_start(
        new, lambda ticket: _start_process(run, ticket, session), session, on_created
    )


def _create_and_start(
    new: NewRun,
    start: Callable[[RunTicket], None],
    session: Session,
    on_created: OnCreated,
) -> RunTicket:
    """Create a flow run with a key of its own and start what it stands for.

    Args:
        new: The flow run.
        start: Starts the process; when it raises, the flow run has crashed.
        session: Where it runs and reports.
        on_created: Told of the run before it is started.
    """
    run_key = secrets.token_hex(32)
    env = {**(new.job_variables.get("env") or {}), RUN_KEY_VARIABLE: run_key}
    new = replace(new, job_variables={**new.job_variables, "env": env})
    run_id = session.api.create_run(new)
    ticket = RunTicket(
        run_id=run_id,
        name=new.name or new.flow,
        run_key=run_key,
        function=new.flow,
        dispatch="worker" if new.labels.get(DISPATCH_LABEL) == "worker" else "client",
    )
    on_created(ticket)
    try:
        start(ticket)
    except BaseException as error:
        reason = error.message if isinstance(error, KineticError) else repr(error)
        # What interrupted us may have come just after the process had started.
        if ticket.dispatch == "client":
            with suppress(KineticError):
                session.platform.launcher.stop(run_id, CANCEL_GRACE_SECONDS)
        crash(session.api, run_id, f"not launched: {reason}")
        raise
    return ticket


def _on_work_pool(run: PlannedRun, session: Session) -> NewRun:
    """Show a run that is launched from here on the work pool that its Job is made from."""
    variables = session.platform.job_variables(run.request)
    # What names a run is not known before it has an id.
    shown = {name: value for name, value in variables.items() if name not in NAMING_A_RUN}
    where = session.platform.place
    return replace(
        run.new,
        labels={**run.new.labels, **({PLACE_LABEL: where} if where else {})},
        work_pool=session.work_pool,
        job_variables={**run.new.job_variables, **shown},
    )


def _start_process(run: PlannedRun, ticket: RunTicket, session: Session) -> None:
    """Write a run's payload and job, and start its process."""
    platform, store, run_id = session.platform, session.platform.store, ticket.run_id
    store.put_if_absent(payload_object(run_id), run.payload)
    # A run that cannot report leaves that to its client, and wastes no time on trying.
    may_report = session.runs_report is not False
    job = Job(
        template=run.template,
        run_id=run_id,
        output_dir=f"{run.outputs}/{run_id}",
        api_url=session.api.url if may_report else None,
    ).to_json()
    store.put_if_absent(job_object(run_id), job)
    credentials = credentials_for(session.api.url, session.environ) if may_report else {}
    platform.launcher.start(
        LaunchRequest(
            run_id=run_id,
            name=run.request.name,
            image=run.request.image,
            environment={
                JOB_VARIABLE: f"{store.uri}/{job_object(run_id)}",
                "KINETIC_JOB_SHA256": sha256_hex(job),
                RUN_KEY_VARIABLE: ticket.run_key,
                **credentials,
                **platform.runner_environment(),
            },
            job_variables=platform.job_variables(replace(run.request, run_id=run_id)),
            template=session.base_job_template,
        )
    )


def _for_worker(run: PlannedRun, session: Session) -> NewRun:
    """Write a run's payload and template; return its flow run as a stock worker can start it.

    The objects have a place among those of runs, under a name of their own.
    """
    store, owner = session.platform.store, job_owner(uuid4().hex)
    name = payload_object(owner)
    store.put_if_absent(name, run.payload)
    job = StoredTemplate(template=run.template, payload_name=name, outputs=run.outputs).to_json()
    store.put_if_absent(job_object(owner), job)
    platform, pool = session.platform, session.platform.worker_pool
    environment = worker_environment(platform, job_object(owner), sha256_hex(job))
    placed = platform.job_variables(run.request)
    variables = pool.variables(run.request.image, environment, placed)
    ensure_worker_pool(pool, variables, session.api.url)
    return replace(
        run.new,
        work_pool=pool.name,
        labels={**run.new.labels, DISPATCH_LABEL: "worker"},
        job_variables=variables,
    )


def worker_environment(platform: Platform, job_name: str, digest: str) -> dict[str, str]:
    """Return the variables by which the process of a worker's run finds its job."""
    store_uri = platform.store.uri
    return {
        JOB_VARIABLE: f"{store_uri}/{job_name}",
        "KINETIC_JOB_SHA256": digest,
        "KINETIC_STORE": store_uri,
        **platform.runner_environment(),
    }


def run_tags(draft: Draft) -> tuple[str, ...]:
    """Return the tags of a function's runs, by which Prefect's UI finds them."""
    given = (*draft.call.options.tags, *surrounding_tags())
    given += () if draft.settings.no_origin else origin_tags(caller())
    return tuple(dict.fromkeys((RUN_TAG, str(draft.accelerator), draft.mode, *given)))


def run_labels(draft: Draft, membership: Membership, session: Session) -> dict[str, str | int]:
    """Return the labels by which a run's objects, outputs and group are found."""
    labels: dict[str, str | int] = {
        FUNCTION_LABEL: draft.name,
        ACCELERATOR_LABEL: str(draft.accelerator),
        PLATFORM_LABEL: session.platform.name,
        STORE_LABEL: store_label(session.platform),
        OUTPUTS_LABEL: session.outputs_root,
    }
    if membership.index is not None:
        labels |= {PARENT_LABEL: membership.parent or "", INDEX_LABEL: membership.index}
    return labels
