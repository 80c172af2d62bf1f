"""Starting one run: its flow run, its job in the store, its process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
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
from kinetic_flows.code.runner_bundle import runner_bundle
from kinetic_flows.core.functions import flow_retries, is_flow, member_name
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import (
    JOB_VARIABLE,
    RUN_KEY_VARIABLE,
    CodeSpec,
    JobSpec,
    LaunchSpec,
    ObjectRef,
    PrefectSpec,
    RequirementsSpec,
    RunTicket,
    sha256_hex,
)
from kinetic_flows.core.launcher import LaunchRequest
from kinetic_flows.core.object_names import (
    job_object,
    job_owner,
    payload_object,
    piece_object,
    runner_object,
)
from kinetic_flows.plans.draft import Draft, job_request
from kinetic_flows.platforms.base import JobRequest
from kinetic_flows.runs.outputs import outputs_root
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import store_label
from kinetic_flows.runs.starting import OnCreated, create_and_start, untold
from kinetic_flows.runs.worker_jobs import unidentified, worker_environment

NAMING_A_RUN = ("job_name", "env", "entrypoint", "command")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What runs of a function share: made once, however many are launched.

    Attributes:
        image: The image they run in.
        code: The project's code as it was shipped.
        requirements: What they install first; None when the image has everything.
        environment: What is installed, and what declares it, in words; empty when nobody knows.
        built_because: What made a new image necessary; empty when it was there.
    """

    image: ResolvedImage
    code: CodeSpec
    requirements: RequirementsSpec | None = None
    environment: str = ""
    built_because: tuple[str, ...] = ()


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
    on_created: OnCreated = untold,
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
    job = replace(
        describe_job(draft, prepared, session),
        pieces=tuple(
            ObjectRef(
                name=piece_object(membership.parent or "", piece.sha256),
                sha256=piece.sha256,
                size_bytes=piece.size_bytes,
            )
            for piece in draft.payload.pieces
        ),
    )
    request = job_request(draft, "", prepared.image)
    new = NewRun(
        flow=draft.name,
        name=member_name(draft.name, membership.index),
        parent_flow_run_id=membership.parent,
        parameters=draft.argument_reprs,
        tags=(*run_tags(draft), *([cache_tag(cache_key)] if cache_key else ())),
        labels={
            **run_labels(membership, session),
            JOB_LABEL: job.content_digest(),
            **({CACHE_LABEL: cache_key} if cache_key else {}),
        },
        job_variables={},
        work_queue=membership.work_queue,
        retries=flow_retries(draft.call.function),
    )

    return launch_job(new, request, job, draft.payload.data, session, on_created=on_created)


def launch_job(
    new: NewRun,
    request: JobRequest,
    job: JobSpec,
    payload: bytes,
    session: Session,
    *,
    outputs: str | None = None,
    on_created: OnCreated = untold,
) -> RunTicket:
    """Create a run's flow run and have its process started: from here, or by a worker.

    Args:
        new: The flow run.
        request: What is started, without a run id.
        job: The job without a run.
        payload: The pickled call.
        session: Where it runs and reports.
        outputs: Below what it keeps its outputs; None for where the settings say.
        on_created: Told of the run before it is started.
    """
    if session.platform.dispatch == "worker" or new.work_queue:
        environment = write_worker_job(job, payload, session, outputs=outputs)
        return create_and_start(
            for_worker(new, request, environment, session),
            lambda ticket: session.api.schedule(ticket.run_id),
            session,
            on_created,
        )

    def start(ticket: RunTicket) -> None:
        of_run, key = replace(request, run_id=ticket.run_id), ticket.run_key
        start_job(of_run, job, payload, key, session, outputs=outputs)

    return create_and_start(_on_work_pool(new, request, session), start, session, on_created)


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


def describe_job(draft: Draft, prepared: Prepared, session: Session) -> JobSpec:
    """Return the job of a run that has no id yet; `JobSpec.of_run` gives it one."""
    bundle, options = runner_bundle(), draft.call.options
    return JobSpec(
        run_id="",
        name=draft.name,
        python=draft.image.python,
        runner=ObjectRef(
            name=runner_object(bundle.sha256), sha256=bundle.sha256, size_bytes=len(bundle.data)
        ),
        code=prepared.code,
        requirements=prepared.requirements,
        payload=ObjectRef(name="", sha256=draft.payload.sha256, size_bytes=len(draft.payload.data)),
        result="",
        output_dir="",
        prefect=PrefectSpec(
            api_url=session.api.url, flow_run_id="", engine=is_flow(draft.call.function)
        ),
        hosts=session.platform.hosts(draft.accelerator),
        max_preemptions=draft.accelerator.preemptions_tolerated(options.max_preemptions),
        retries=options.retries,
        retry_delay_seconds=options.retry_delay_seconds,
        timeout_seconds=options.timeout_seconds,
        launch=LaunchSpec(
            image=asdict(prepared.image),
            accelerator=str(draft.accelerator),
            mode=draft.mode,
            options=options.to_json(),
        ),
    )


def start_job(
    request: JobRequest,
    job: JobSpec,
    payload: bytes,
    key: str,
    session: Session,
    *,
    outputs: str | None = None,
) -> None:
    """Write a run's payload and job, and start its process.

    Args:
        request: What is started.
        job: The job without a run.
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
    spec = job.prefect
    prefect = PrefectSpec(
        api_url=session.api.url,
        flow_run_id=run_id,
        parameters=bool(spec and spec.parameters),
        engine=bool(spec and spec.engine),
    )
    job = replace(job, prefect=prefect if may_report else None)
    whole = job.of_run(run_id, output_dir=f"{outputs or outputs_root(session)}/{run_id}").to_json()
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


def write_worker_job(
    job: JobSpec,
    payload: bytes,
    session: Session,
    *,
    outputs: str | None = None,
) -> dict[str, str]:
    """Write a payload and a job of a run whose id only its worker will know.

    They have a place among those of runs, under a name of their own.

    Args:
        job: The job without a run.
        payload: The pickled call.
        session: Where it runs and reports.
        outputs: Below what it keeps its outputs; None for where the settings say.

    Returns:
        The variables by which the run's process finds its job.
    """
    store, owner = session.platform.store, job_owner(uuid4().hex)
    name = payload_object(owner)
    store.put_if_absent(name, payload)
    whole = unidentified(
        job,
        payload_name=name,
        outputs=outputs or outputs_root(session),
        parameters=bool(job.prefect and job.prefect.parameters),
    ).to_json()
    store.put_if_absent(job_object(owner), whole)
    return worker_environment(session.platform, job_object(owner), sha256_hex(whole))


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
