"""Starting one run: its flow run, its job in the store, its process."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from uuid import uuid4

from kinetic_flows.clients.prefect.access import credentials_for
from kinetic_flows.clients.prefect.api import NewRun
from kinetic_flows.clients.prefect.labels import (
    CACHE_LABEL,
    DISPATCH_LABEL,
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
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.functions import flow_retries, member_name
from kinetic_flows.core.job import (
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
from kinetic_flows.runs.cancel import CANCEL_GRACE_SECONDS
from kinetic_flows.runs.job_template import Prepared, job_template
from kinetic_flows.runs.outputs import outputs_root
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import crash, store_label

OnCreated = Callable[[RunTicket], None]
NAMING_A_RUN = ("job_name", "env", "entrypoint", "command")


def ignore(_: RunTicket) -> None:
    """Do nothing about a run that was created."""


@dataclass(frozen=True, kw_only=True)
class Membership:
    """Where a run belongs.

    Attributes:
        parent: The flow run it is shown under; None for none.
        index: Its input's place among those of its group, from 0; None when it is in none.
        work_queue: The work queue whose workers are to start it; None for no particular one.
    """

    parent: str | None
    index: int | None = None
    work_queue: str | None = None


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
    request = job_request(draft, "", prepared.image)
    new = NewRun(
        flow=draft.name,
        name=member_name(draft.name, membership.index),
        parent_flow_run_id=membership.parent,
        parameters=draft.argument_reprs,
        tags=(*run_tags(draft), *([cache_tag(cache_key)] if cache_key else ())),
        labels={
            **run_labels(membership, session),
            JOB_LABEL: template.content_digest(),
            **({CACHE_LABEL: cache_key} if cache_key else {}),
        },
        job_variables={},
        work_queue=membership.work_queue,
        retries=flow_retries(draft.call.function),
    )
    return launch_job(new, request, template, draft.payload.data, session, on_created=on_created)


def launch_job(
    new: NewRun,
    request: JobRequest,
    template: JobTemplate,
    payload: bytes,
    session: Session,
    *,
    outputs: str | None = None,
    on_created: OnCreated = ignore,
) -> RunTicket:
    """Create a run's flow run and have its process started: from here, or by a worker.

    Args:
        new: The flow run.
        request: What is started, without a run id.
        template: Its job, without a run.
        payload: The pickled call.
        session: Where it runs and reports.
        outputs: Below what it keeps its outputs; None for where the settings say.
        on_created: Told of the run before it is started.
    """
    if session.platform.dispatch == "worker" or new.work_queue:
        environment = write_template(template, payload, session, outputs=outputs)
        return _create_and_start(
            for_worker(new, request, environment, session),
            lambda ticket: session.api.schedule(ticket.run_id),
            session,
            on_created,
        )

    def start(ticket: RunTicket) -> None:
        of_run, key = replace(request, run_id=ticket.run_id), ticket.run_key
        start_job(of_run, template, payload, key, session, outputs=outputs)

    return _create_and_start(_on_work_pool(new, request, session), start, session, on_created)


def _create_and_start(
    new: NewRun,
    start: Callable[[RunTicket], None],
    session: Session,
    on_created: OnCreated = ignore,
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


def _on_work_pool(new: NewRun, request: JobRequest, session: Session) -> NewRun:
    """Show a run that is launched from here on the work pool that its Job is made from."""
    variables = session.platform.job_variables(request)
    # What names a run is not known before it has an id.
    shown = {name: value for name, value in variables.items() if name not in NAMING_A_RUN}
    where = session.platform.place
    return replace(
        new,
        labels={**new.labels, **({PLACE_LABEL: where} if where else {})},
        work_pool=session.work_pool,
        job_variables={**new.job_variables, **shown},
    )


def run_tags(draft: Draft) -> tuple[str, ...]:
    """Return the tags of a function's runs, by which Prefect's UI finds them."""
    given = (*draft.call.options.tags, *surrounding_tags())
    return tuple(dict.fromkeys((RUN_TAG, str(draft.accelerator), draft.mode, *given)))


def run_labels(membership: Membership, session: Session) -> dict[str, str | int]:
    """Return the labels by which a run's objects, outputs and group are found."""
    labels: dict[str, str | int] = {
        PLATFORM_LABEL: session.platform.name,
        STORE_LABEL: store_label(session.platform),
        OUTPUTS_LABEL: outputs_root(session),
    }
    if membership.index is not None:
        labels |= {PARENT_LABEL: membership.parent or "", INDEX_LABEL: membership.index}
    return labels


def start_job(
    request: JobRequest,
    template: JobTemplate,
    payload: bytes,
    key: str,
    session: Session,
    *,
    outputs: str | None = None,
) -> None:
    """Write a run's payload and job, and start its process.

    Args:
        request: What is started.
        template: Its job, without a run.
        payload: The pickled call.
        key: The run's HMAC key, in hexadecimal.
        session: Where it runs and reports.
        outputs: Below what it keeps its outputs; None for where the settings say.
    """
    platform, run_id = session.platform, request.run_id
    store = platform.store
    store.put_if_absent(payload_object(run_id), payload)
    may_report = session.runs_report is not False
    # A run that cannot report leaves that to its client, and wastes no time on trying.
    job = Job(
        template=template,
        run_id=run_id,
        output_dir=f"{outputs or outputs_root(session)}/{run_id}",
        api_url=session.api.url if may_report else None,
    )
    whole = job.to_json()
    store.put_if_absent(job_object(run_id), whole)
    credentials = credentials_for(session.api.url, session.environ) if may_report else {}
    platform.launcher.start(
        LaunchRequest(
            run_id=run_id,
            name=request.name,
            image=request.image,
            environment={
                JOB_VARIABLE: f"{store.uri}/{job_object(run_id)}",
                "KINETIC_JOB_SHA256": sha256_hex(whole),
                RUN_KEY_VARIABLE: key,
                **credentials,
                **platform.runner_environment(),
            },
            job_variables=platform.job_variables(request),
            template=session.job_template,
        )
    )


def write_template(
    template: JobTemplate, payload: bytes, session: Session, *, outputs: str | None = None
) -> dict[str, str]:
    """Write the payload and the template of a run whose id only its worker will know.

    They have a place among those of runs, under a name of their own.

    Args:
        template: The run's job, without a run.
        payload: The pickled call.
        session: Where it runs and reports.
        outputs: Below what it keeps its outputs; None for where the settings say.

    Returns:
        The variables by which the run's process finds its job.
    """
    store, owner = session.platform.store, job_owner(uuid4().hex)
    name = payload_object(owner)
    store.put_if_absent(name, payload)
    whole = StoredTemplate(
        template=template, payload_name=name, outputs=outputs or outputs_root(session)
    ).to_json()
    store.put_if_absent(job_object(owner), whole)
    return worker_environment(session.platform, job_object(owner), sha256_hex(whole))


def worker_environment(platform: Platform, job_name: str, digest: str) -> dict[str, str]:
    """Return the variables by which the process of a worker's run finds its job."""
    store_uri = platform.store.uri
    return {
        JOB_VARIABLE: f"{store_uri}/{job_name}",
        "KINETIC_JOB_SHA256": digest,
        "KINETIC_STORE": store_uri,
        **platform.runner_environment(),
    }


def for_worker(
    new: NewRun,
    request: JobRequest,
    environment: Mapping[str, str],
    session: Session,
) -> NewRun:
    """Return a flow run with everything that a stock worker needs to start it."""
    platform, pool = session.platform, session.platform.worker_pool
    variables = pool.variables(request.image, environment, platform.job_variables(request))
    ensure_worker_pool(pool, variables, session.api.url)
    return replace(
        new,
        work_pool=pool.name,
        labels={**new.labels, DISPATCH_LABEL: "worker"},
        job_variables=variables,
    )
