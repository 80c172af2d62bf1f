"""Starting one run: its flow run, its job in the store, its process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from kinetic_flows.clients.prefect.access import credentials_for
from kinetic_flows.clients.prefect.api import NewRun, RunRecord
from kinetic_flows.clients.prefect.flow_names import TASK_LAUNCH_ACCELERATOR
from kinetic_flows.clients.prefect.labels import (
    CACHE_LABEL,
    DISPATCH_LABEL,
    JOB_LABEL,
    LAUNCHED_LABEL,
    cache_tag,
)
from kinetic_flows.clients.prefect.timings import seconds_labels
from kinetic_flows.clients.prefect.work_pools import ensure_worker_pool
from kinetic_flows.code.pieces import upload_pieces
from kinetic_flows.core.errors import KineticError, RunCancelled
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
    is_job_owner,
    job_object,
    job_owner,
    payload_object,
)
from kinetic_flows.core.signals import interruption_in
from kinetic_flows.plans.draft import Draft, job_request
from kinetic_flows.plans.look_ahead import check_worker
from kinetic_flows.platforms.base import JobRequest, Platform
from kinetic_flows.runs.cancel import CANCELLED_STATES
from kinetic_flows.runs.compile_cache_keys import key_for_process, key_for_worker
from kinetic_flows.runs.flow_run import (
    Membership,
    create_flow_run,
    launch_labels,
    new_run,
    on_work_pool,
)
from kinetic_flows.runs.job_template import Prepared, job_template
from kinetic_flows.runs.output_lease import take_output_dir
from kinetic_flows.runs.sealed_values import seal_for_process, seal_for_worker
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import crash

if TYPE_CHECKING:
    # Loaded for calls that name several accelerators.
    from kinetic_flows.runs.candidates.launching import PlannedCandidate


def in_session(request: JobRequest, session: Session) -> JobRequest:
    """Return a request with the work pool's template, which is None on this machine."""
    return replace(request, template=session.base_job_template)


OnCreated = Callable[[RunTicket], None]


def ignore(_: RunTicket) -> None:
    """Take no note of a run that was created."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """What is started, by this process or by a Prefect worker.

    Attributes:
        new: The flow run to create.
        request: What its process is asked for, without a run id.
        template: Its job.
        payload: The pickled call.
        outputs: Where each run has a directory of its own for its outputs.
        opened: The flow run, where it was created before what it needs was made; else None.
        repeats: The run whose directory of outputs it goes on with; None for none.
        gives_up: Whether whoever wanted it does not any more, asked while it waits.
        secret_values: What is sealed for it, by variable.
        owner: What a worker's job and its objects are named after; None for a new name.
        candidates: The same for each accelerator that it may go on; empty where there is one.
    """

    new: NewRun
    request: JobRequest
    template: JobTemplate
    payload: bytes
    outputs: str
    opened: RunTicket | None = None
    repeats: RunRecord | None = None
    gives_up: Callable[[], bool] = lambda: False
    secret_values: Mapping[str, str] = field(default_factory=dict, repr=False)
    owner: str | None = None
    candidates: tuple[PlannedCandidate, ...] = ()

    def request_for(self, run_id: str, session: Session) -> JobRequest:
        """Return what its process is asked for, as its job says; without a run id for a worker."""
        return in_session(replace(self.request.of_job(self.template), run_id=run_id), session)


def launch_run(
    draft: Draft,
    prepared: Prepared,
    membership: Membership,
    session: Session,
    *,
    opened: RunTicket | None = None,
    cache_key: str | None = None,
    on_created: OnCreated = ignore,
) -> RunTicket:
    """Create a run's flow run, unless that is open already, write its job, start its process.

    Args:
        draft: The call.
        prepared: What runs of the function share.
        membership: Where the run belongs.
        session: Where it runs and reports.
        opened: The flow run, if `open_run` has created it.
        cache_key: What its result may answer for; None for nothing but itself.
        on_created: Told of the run before it is started.

    Raises:
        KineticError: It could not be started; its flow run says so.
    """
    owner = _owner_of_pieces(membership, opened)
    if membership.index is None:
        tell = partial(session.progress.activity, TASK_LAUNCH_ACCELERATOR)
        upload_pieces(draft.payload.pieces, session.platform.store, owner, tell)
    template = job_template(draft, prepared, session, owner=owner)
    new = new_run(draft, membership, session)
    new = replace(
        new,
        tags=(*new.tags, *([cache_tag(cache_key)] if cache_key else ())),
        labels={
            **new.labels,
            **launch_labels(prepared, session),
            # What the runs of a group share was made once.
            **({} if membership.index else seconds_labels(prepared.seconds)),
            JOB_LABEL: template.content_digest(),
            **({CACHE_LABEL: cache_key} if cache_key else {}),
        },
    )
    planned = PlannedRun(
        new=new,
        request=job_request(draft, "", prepared.image, prepared.packages),
        template=template,
        payload=draft.payload.content,
        outputs=session.outputs_root,
        opened=opened,
        gives_up=membership.gives_up,
        secret_values=prepared.secret_values,
        owner=owner if is_job_owner(owner) else None,
        candidates=_candidates(draft, prepared, session, owner),
    )
    return launch_planned(planned, session, on_created)


def _candidates(
    draft: Draft, prepared: Prepared, session: Session, owner: str
) -> tuple[PlannedCandidate, ...]:
    """Return what is started on each accelerator of a call; nothing for a call that has one."""
    if not prepared.candidates:
        return ()
    from kinetic_flows.runs.candidates.launching import planned_candidates

    return planned_candidates(draft, prepared, session, owner=owner)


def _owner_of_pieces(membership: Membership, opened: RunTicket | None) -> str:
    """Return whose the pieces of a call are: the group's, the run's, or its job's for a worker."""
    if membership.parent and membership.index is not None:
        return membership.parent
    return opened.run_id if opened else job_owner(uuid4().hex)


def launch_planned(run: PlannedRun, session: Session, on_created: OnCreated = ignore) -> RunTicket:
    """Create a run's flow run and have its process started: from here, or by a worker.

    Args:
        run: The run.
        session: Where it runs and reports.
        on_created: Told of the run before it is started.
    """
    if session.platform.dispatch == "worker" or run.new.work_queue:
        ticket = create_flow_run(_for_worker(run, session), session)

        def schedule() -> RunTicket:
            _take_outputs(run, ticket, session)
            session.api.schedule(ticket.run_id)
            return ticket

        return _start(ticket, schedule, session, on_created=on_created)
    ticket = run.opened or create_flow_run(
        on_work_pool(run.new, run.request_for("", session), session), session
    )

    def start() -> RunTicket:
        _take_outputs(run, ticket, session)
        if run.opened:
            _tell_the_rest(run.opened.run_id, run.new, session)
        if run.candidates:
            from kinetic_flows.runs.candidates.launching import launch_candidates

            return launch_candidates(run, ticket, session)
        _start_process(run, ticket, session)
        return ticket

    return _start(ticket, start, session, on_created=on_created)


def _take_outputs(run: PlannedRun, ticket: RunTicket, session: Session) -> None:
    """Have a run alone write to its directory of outputs, where that has a name."""
    output = run.template.output
    take_output_dir(output, ticket, session, before=run.repeats, gives_up=run.gives_up)


def _tell_the_rest(run_id: str, new: NewRun, session: Session) -> None:
    """Tell Prefect what was not known yet when the flow run of a call was created.

    Raises:
        RunCancelled: It was cancelled meanwhile.
    """
    # It may have waited for its directory of outputs meanwhile.
    launched = {LAUNCHED_LABEL: datetime.now(UTC).isoformat()}
    session.api.add_labels(run_id, {**new.labels, **launched})
    record = session.api.read_run(run_id)
    if record.is_final or record.state_type in CANCELLED_STATES:
        raise RunCancelled(f"run {run_id} was {record.state_name.lower()} before it was launched")
    if set(new.tags) - set(record.tags):
        session.api.set_tags(run_id, new.tags)


def _start(
    ticket: RunTicket, start: Callable[[], RunTicket], session: Session, *, on_created: OnCreated
) -> RunTicket:
    """Start what a flow run stands for.

    Args:
        ticket: The run.
        start: Starts the process, and returns the run; when it raises, the flow run has crashed.
        session: Where it runs and reports.
        on_created: Told of the run before it is started.
    """
    run_id = ticket.run_id
    on_created(ticket)
    try:
        return start()
    except RunCancelled:
        raise
    except BaseException as error:
        # What interrupted us may have come just after the process had started.
        if ticket.dispatch == "client":
            with suppress(KineticError):
                session.platform.launcher.stop(run_id, CANCEL_GRACE_SECONDS)
        if interruption_in(error) is not None:
            session.api.set_state(run_id, "CANCELLED", message="interrupted before its launch")
            raise
        reason = error.message if isinstance(error, KineticError) else repr(error)
        crash(session.api, run_id, f"not launched: {reason}")
        raise


def _start_process(run: PlannedRun, ticket: RunTicket, session: Session) -> None:
    """Write a run's payload and job, and start its process."""
    platform, store, run_id = session.platform, session.platform.store, ticket.run_id
    store.put_if_absent(payload_object(run_id), run.payload)
    output = run.template.output
    # A run that cannot report leaves that to its client, and wastes no time on trying.
    may_report = session.runs_report is not False
    job = Job(
        template=run.template,
        run_id=run_id,
        output_dir=output.directory if output else f"{run.outputs}/{run_id}",
        api_url=platform.api_for_runs(session.api.url) if may_report else None,
    ).to_json()
    store.put_if_absent(job_object(run_id), job)
    keys = {
        **seal_for_process(run.secret_values, payload_object(run_id), store),
        **key_for_process(run.template, platform, session.settings.home),
    }
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
                **keys,
                **credentials,
                **platform.runner_environment(),
            },
            job_variables=platform.job_variables(run.request_for(run_id, session)),
            template=session.base_job_template,
        )
    )


def _for_worker(run: PlannedRun, session: Session) -> NewRun:
    """Write a run's payload and template; return its flow run as a stock worker can start it.

    The objects have a place among those of runs, under a name of their own.
    """
    for request in (run.request, *(each.request for each in run.candidates)):
        check_worker(request.accelerator, session.platform)
    if run.candidates:
        from kinetic_flows.runs.candidates.worker import for_worker

        return for_worker(run, session)
    store, owner = session.platform.store, run.owner or job_owner(uuid4().hex)
    name = payload_object(owner)
    store.put_if_absent(name, run.payload)
    job = StoredTemplate(template=run.template, payload_name=name, outputs=run.outputs).to_json()
    store.put_if_absent(job_object(owner), job)
    platform, pool = session.platform, session.platform.worker_pool
    environment = {
        **worker_environment(platform, job_object(owner), sha256_hex(job)),
        **seal_for_worker(run.secret_values, name, store, session.api),
        **key_for_worker([run.template], session),
    }
    placed = platform.job_variables(run.request_for("", session))
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
