"""What a run was started with, read back from its store: its job, and its pickled call."""

from __future__ import annotations

from dataclasses import dataclass

from kinetic_flows.clients.prefect.labels import CANDIDATES_LABEL, JOB_LABEL
from kinetic_flows.clients.prefect.records import RunRecord, environment_of
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import (
    KineticError,
    ObjectNotFoundError,
    ObjectRefusedError,
    RunNotFoundError,
)
from kinetic_flows.core.job import (
    JOB_VARIABLE,
    Job,
    JobTemplate,
    LaunchSpec,
    StoredTemplate,
    sha256_hex,
)
from kinetic_flows.core.job_reading import read_job
from kinetic_flows.core.object_names import job_object
from kinetic_flows.core.options import RunOptions
from kinetic_flows.images.inspection import image_from_fields
from kinetic_flows.platforms.base import JobRequest


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """The job of a run.

    Attributes:
        template: The job; the first of several.
        payload_name: Name of the pickled call's object.
        candidates: The job on each accelerator that the run could go on; empty where there was one.
    """

    template: JobTemplate
    payload_name: str
    candidates: tuple[JobTemplate, ...] = ()


def read_stored(record: RunRecord, store: ArtifactStore) -> StoredRun:
    """Read a run's job, checked against the digest that its flow run has.

    Raises:
        RunNotFoundError: It has expired.
        ObjectRefusedError: It is not what the run was started with.
    """
    if record.labels.get(CANDIDATES_LABEL):
        jobs = _candidate_jobs(record, store)
        candidates = tuple(job.template for job in jobs)
    else:
        name = _job_name(record, store)
        jobs, candidates = (_job(name, _get(name, record, store)),), ()
        if jobs[0].template.content_digest() != record.labels.get(JOB_LABEL):
            raise _refused(name, "it is not what the run was started with")
    return StoredRun(
        template=jobs[0].template, payload_name=jobs[0].payload_name, candidates=candidates
    )


def read_payload(stored: StoredRun, record: RunRecord, store: ArtifactStore) -> bytes:
    """Read a run's pickled call, checked against its job; nothing is unpickled.

    Raises:
        RunNotFoundError: It has expired.
        ObjectRefusedError: It is not what the run was started with.
    """
    payload = _get(stored.payload_name, record, store)
    if sha256_hex(payload) != stored.template.payload_sha256:
        raise _refused(stored.payload_name, "its digest is not the job's")
    return payload


def request_of(launch: LaunchSpec, name: str) -> JobRequest:
    """Return what a run's process is asked for, as its job says it was started."""
    options = RunOptions().updated(launch.options)
    named = parse_accelerator(launch.accelerator)
    return JobRequest(
        run_id="",
        name=name,
        image=image_from_fields(launch.image),
        accelerator=named.times(hosts=options.hosts or 1, slices=options.slices or 1),
        mode=launch.mode,
        options=options,
    )


def expired(record: RunRecord) -> RunNotFoundError:
    """Return the error for a run whose objects are gone."""
    return RunNotFoundError(
        f"run {record.id} cannot be started again: its objects are gone",
        value=record.id,
        hint="they expire after retention_days; call the function instead",
    )


def _candidate_jobs(record: RunRecord, store: ArtifactStore) -> tuple[Job | StoredTemplate, ...]:
    """Read a run's job on each of its accelerators, checked against the digests of their list."""
    from kinetic_flows.runs.candidates.rounds import Rounds

    listed = Rounds(store, record.id).candidates(str(record.labels[CANDIDATES_LABEL]))
    if listed is None:
        raise expired(record)
    jobs = []
    for each in listed.candidates:
        data = _get(each.job, record, store)
        if sha256_hex(data) != each.job_sha256:
            raise _refused(each.job, "it is not what the run was started with")
        jobs.append(_job(each.job, data))
    return tuple(jobs)


def _job(name: str, data: bytes) -> Job | StoredTemplate:
    try:
        return read_job(data)
    except ValueError as error:
        raise _refused(name, str(error)) from error


def _job_name(record: RunRecord, store: ArtifactStore) -> str:
    """Return the name of a run's job: the one in its job variables, else the run's own."""
    told = str(environment_of(record.job_variables).get(JOB_VARIABLE, ""))
    return told.removeprefix(f"{store.uri}/") or job_object(record.id)


def _get(name: str, record: RunRecord, store: ArtifactStore) -> bytes:
    try:
        return store.get(name).data
    except ObjectNotFoundError as error:
        raise expired(record) from error


def _refused(name: str, why: str) -> KineticError:
    return ObjectRefusedError(
        f"the object {name} is refused: {why}",
        value=name,
        hint="somebody wrote to the store, or another version made it; call the function instead",
    )
