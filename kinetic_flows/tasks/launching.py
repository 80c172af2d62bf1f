"""Tasks that ship the code, start the run and wait for its end."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from prefect import task
from prefect.cache_policies import NO_CACHE

from kinetic_flows.clients.prefect_api import NewRun, configured_credentials
from kinetic_flows.errors import ConfigurationError, KineticError, RunCancelled
from kinetic_flows.following import CANCEL_GRACE_SECONDS, follow
from kinetic_flows.job import (
    CodeSpec,
    JobSpec,
    ObjectRef,
    PrefectSpec,
    RequirementsSpec,
    ResultEnvelope,
    RunTicket,
    sha256_hex,
)
from kinetic_flows.naming import (
    PLATFORM_LABEL,
    RUN_KEY_VARIABLE,
    RUN_TAG,
    STORE_LABEL,
    TASK_AWAIT_RUN,
    TASK_LAUNCH_ACCELERATOR,
    TASK_UPLOAD_CODE,
    job_object,
    output_prefix,
    payload_object,
    result_object,
    runner_object,
)
from kinetic_flows.packaging.runner_bundle import runner_bundle
from kinetic_flows.packaging.upload import code_spec, upload_code
from kinetic_flows.planning import Draft, job_request
from kinetic_flows.progress import Progress
from kinetic_flows.protocols import ArtifactStore, LaunchRequest, ResolvedImage
from kinetic_flows.reconciler import store_label
from kinetic_flows.results import failure_summary, value_summary
from kinetic_flows.session import Session
from kinetic_flows.tasks.reporting import step


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What runs of a function share: made once, however many are launched.

    Attributes:
        image: The image they run in.
        code: The project's code as it was shipped.
        requirements: What they install first; None when the image has everything.
    """

    image: ResolvedImage
    code: CodeSpec
    requirements: RequirementsSpec | None = None


class RunDidNotReturn(KineticError):
    """A run ended with an exception, a timeout or a crash; carries the envelope that tells.

    Args:
        ticket: The run.
        envelope: Its result.
    """

    def __init__(self, ticket: RunTicket, envelope: ResultEnvelope) -> None:
        how = "raised " if envelope.header.status == "raised" else ""
        super().__init__(
            f"{ticket.name} {how}{failure_summary(envelope.header)}", value=ticket.run_id
        )
        self.ticket = ticket
        self.envelope = envelope


@task(name=TASK_UPLOAD_CODE, cache_policy=NO_CACHE)
def upload_code_task(draft: Draft, store: ArtifactStore, progress: Progress) -> CodeSpec:
    """Upload the packs of the project's code that the store does not have, and the runner."""
    with step(progress, TASK_UPLOAD_CODE) as current:
        bundle = runner_bundle()
        store.put_if_absent(runner_object(bundle.sha256), bundle.data)
        uploaded = upload_code(draft.snapshot, store, home=draft.settings.home)
        current.finish(
            f"{draft.snapshot.files} files, {_size(draft.snapshot.size_bytes)}; "
            f"{_size(uploaded.bytes_uploaded)} new"
        )
        return code_spec(draft.snapshot, draft.root)


@task(name=TASK_LAUNCH_ACCELERATOR, cache_policy=NO_CACHE)
def launch_accelerator_task(
    draft: Draft, prepared: Prepared, parent_flow_run_id: str, session: Session
) -> RunTicket:
    """Create the run's flow run, write its job, and start its process."""
    with step(session.progress, TASK_LAUNCH_ACCELERATOR) as current:
        ticket = _create_run(draft, parent_flow_run_id, session)
        try:
            _write_job_and_start(draft, prepared, ticket, session)
        except BaseException as error:
            reason = error.message if isinstance(error, KineticError) else repr(error)
            # What interrupted us may have come just after the process had started.
            with suppress(KineticError):
                session.platform.launcher.stop(ticket.run_id, CANCEL_GRACE_SECONDS)
            session.api.set_state(ticket.run_id, "CRASHED", message=f"not launched: {reason}")
            raise
        current.finish(f"{draft.accelerator} run {ticket.run_id}")
        return ticket


@task(name=TASK_AWAIT_RUN, cache_policy=NO_CACHE)
def await_run_task(ticket: RunTicket, session: Session) -> ResultEnvelope:
    """Wait for the run to end, passing on what it prints, and return its result envelope.

    Raises:
        RunCancelled: It was cancelled, which makes the parent flow run Cancelled too.
        RunDidNotReturn: It ended with a result that is no value; shows this task as failed.
    """
    with step(session.progress, TASK_AWAIT_RUN) as current:
        envelope = follow(ticket, session, session.progress)
        if envelope.header.status == "cancelled":
            raise RunCancelled(
                f"run {ticket.run_id} of {ticket.name} was cancelled", value=ticket.run_id
            )
        if envelope.header.status != "returned":
            raise RunDidNotReturn(ticket, envelope)
        current.finish(f"{ticket.name} {value_summary(envelope.header)}")
        return envelope


def _create_run(draft: Draft, parent_flow_run_id: str, session: Session) -> RunTicket:
    run_key = secrets.token_hex(32)
    run_id = session.api.create_run(
        NewRun(
            flow=draft.name,
            name=draft.name,
            parent_flow_run_id=parent_flow_run_id,
            parameters=draft.argument_reprs,
            tags=(RUN_TAG, *draft.call.options.tags),
            labels={
                PLATFORM_LABEL: session.platform.name,
                STORE_LABEL: store_label(session.platform),
            },
            job_variables={"env": {RUN_KEY_VARIABLE: run_key}},
        )
    )
    return RunTicket(run_id=run_id, name=draft.name, run_key=run_key)


def _write_job_and_start(
    draft: Draft, prepared: Prepared, ticket: RunTicket, session: Session
) -> None:
    image = prepared.image
    store, run_id = session.platform.store, ticket.run_id
    store.put_if_absent(payload_object(run_id), draft.payload.data)
    job = _job(draft, prepared, run_id, session).to_json()
    store.put_if_absent(job_object(run_id), job)
    session.platform.launcher.start(
        LaunchRequest(
            run_id=run_id,
            name=draft.name,
            image=image,
            environment={
                "KINETIC_JOB": f"{store.uri}/{job_object(run_id)}",
                "KINETIC_JOB_SHA256": sha256_hex(job),
                RUN_KEY_VARIABLE: ticket.run_key,
                **_prefect_credentials(session.environ),
                **draft.place.runner_environment(),
            },
            job_variables=draft.place.job_variables(job_request(draft, run_id, image)),
        )
    )


def _job(draft: Draft, prepared: Prepared, run_id: str, session: Session) -> JobSpec:
    bundle, options = runner_bundle(), draft.call.options
    return JobSpec(
        run_id=run_id,
        name=draft.name,
        python=draft.target.python,
        runner=ObjectRef(
            name=runner_object(bundle.sha256), sha256=bundle.sha256, size_bytes=len(bundle.data)
        ),
        code=prepared.code,
        requirements=prepared.requirements,
        payload=ObjectRef(
            name=payload_object(run_id),
            sha256=draft.payload.sha256,
            size_bytes=len(draft.payload.data),
        ),
        result=result_object(run_id),
        output_dir=_output_dir(session, run_id),
        prefect=PrefectSpec(api_url=session.api.url, flow_run_id=run_id),
        hosts=draft.place.hosts(draft.accelerator),
        retries=options.retries,
        retry_delay_seconds=options.retry_delay_seconds,
        timeout_seconds=options.timeout_seconds,
    )


def _output_dir(session: Session, run_id: str) -> str:
    """Return where a run keeps its outputs: a plain path where the store is a directory.

    Raises:
        ConfigurationError: The outputs of runs on this machine were to go to a URI.
    """
    base = session.settings.output_dir
    if base and session.platform.store.uri.startswith("file:"):
        if "://" in base:
            raise ConfigurationError(
                f"KINETIC_OUTPUT_DIR is {base}, and runs on this machine write to a directory",
                value=base,
                hint="set it to a directory, or unset it to keep outputs under KINETIC_HOME",
            )
        # The function works in a copy of the project, which does not outlive it.
        return str(Path(base).expanduser().absolute() / run_id)
    if base:
        return f"{base.rstrip('/')}/{run_id}"
    uri = f"{session.platform.store.uri}/{output_prefix(run_id)}".rstrip("/")
    return unquote(uri.removeprefix("file://")) if uri.startswith("file://") else uri


def _prefect_credentials(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what the runner presents to the API: the variables', else the profile's."""
    configured = configured_credentials()
    given = {name: environ.get(name) or configured[name] for name in configured}
    return {name: value for name, value in given.items() if value}


def _size(count: int) -> str:
    """Write a number of bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
