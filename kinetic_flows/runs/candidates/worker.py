"""What Prefect workers are told of a run that may go on one of several accelerators.

A worker starts each flow run once. So what it starts for the run itself is a small process without
chips, which drives the run: it creates a flow run for each launch, in the same work pool, and ends
when the run has its result (`runner_image/runner/driving.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

from kinetic_flows.clients.prefect.api import NewRun
from kinetic_flows.clients.prefect.labels import CANDIDATES_LABEL, DISPATCH_LABEL
from kinetic_flows.clients.prefect.work_pools import ensure_worker_pool
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.job import JobTemplate, StoredTemplate, sha256_hex
from kinetic_flows.core.job_parts import ObjectRef
from kinetic_flows.core.object_names import (
    candidate_job_object,
    candidates_object,
    job_object,
    job_owner,
    payload_object,
)
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.slug import slug
from kinetic_flows.platforms.base import JobRequest
from kinetic_flows.runs.candidates.launching import PlannedCandidate, candidates_of
from kinetic_flows.runs.compile_cache_keys import key_for_worker
from kinetic_flows.runs.launch import worker_environment
from kinetic_flows.runs.sealed_values import seal_for_worker
from kinetic_flows.runs.session import Session

if TYPE_CHECKING:
    from kinetic_flows.runs.launch import PlannedRun

RESTARTS = 20
"""How often the process that drives a run may be evicted, or lose its node."""

_SIZE = {"cpu": "100m", "memory": "512Mi"}
_KEPT = frozenset(
    {"service_account_name", "image_pull_secrets", "priority_class_name", "cluster_config"}
    | {"labels", "annotations", "pod_security_context", "finished_job_ttl"}
)
"""Variables of the template that a process without chips has, too, where options set them."""


def for_worker(run: PlannedRun, session: Session) -> NewRun:
    """Write what a run needs on each of its accelerators; return its flow run for a worker.

    Args:
        run: What is started.
        session: Where it runs and reports.

    Raises:
        LaunchError: The work pool's template would leave out something of what workers are told.
    """
    store, owner = session.platform.store, run.owner or job_owner(uuid4().hex)
    name = payload_object(owner)
    store.put_if_absent(name, run.payload)
    blocks = {
        **seal_for_worker(run.secret_values, name, store, session.api),
        **key_for_worker([each.template for each in run.candidates], session),
    }
    jobs = [
        (
            candidate_job_object(owner, number),
            StoredTemplate(template=each.template, payload_name=name, outputs=run.outputs),
        )
        for number, each in enumerate(run.candidates)
    ]
    listed = write_candidates(run.candidates, jobs, candidates_object(owner), blocks, session)
    driver = driver_job(jobs[0][1], listed).to_json()
    store.put_if_absent(job_object(owner), driver)
    platform, pool = session.platform, session.platform.worker_pool
    small = driver_request(run.candidates)
    environment = worker_environment(platform, job_object(owner), sha256_hex(driver))
    variables = pool.variables(small.image, environment, platform.job_variables(small))
    ensure_worker_pool(pool, variables, session.api.url)
    told = {DISPATCH_LABEL: "worker", CANDIDATES_LABEL: listed.sha256}
    return replace(
        run.new,
        work_pool=pool.name,
        labels={**run.new.labels, **told},
        job_variables=variables,
    )


def write_candidates(
    planned: tuple[PlannedCandidate, ...],
    jobs: Sequence[tuple[str, StoredTemplate]],
    name: str,
    blocks: Mapping[str, str],
    session: Session,
) -> ObjectRef:
    """Write the job of each candidate, and what lists them for the process that drives runs.

    Args:
        planned: What is started on each.
        jobs: Their jobs, and what these are called in the store.
        name: What the list is called there.
        blocks: The variables by which processes find the keys of secret values and of compiled
            programs; empty for none.
        session: Where runs are started.

    Raises:
        LaunchError: The work pool's template would leave out something of what workers are told.
    """
    store = session.platform.store
    contents = [(name, job.to_json()) for name, job in jobs]
    for each in contents:
        store.put_if_absent(*each)
    listed = listed_for_pool(planned, contents, blocks, session)
    return _put(store, name, listed)


def driver_job(job: StoredTemplate, listed: ObjectRef) -> StoredTemplate:
    """Return the job of the process that drives a run, from that of one of its candidates.

    Args:
        job: The candidate's job.
        listed: What lists all of them.
    """
    return replace(job, template=_driver_template(job.template, listed))


def driver_request(planned: tuple[PlannedCandidate, ...]) -> JobRequest:
    """Return what the process that drives a run is asked for: the first one's image, and no chips.

    Args:
        planned: What is started on each accelerator.
    """
    request = planned[0].request
    chosen = request.options.job_variables or {}
    kept = {name: value for name, value in chosen.items() if name in _KEPT}
    return replace(
        request,
        accelerator=parse_accelerator("cpu"),
        options=RunOptions(job_variables={**kept, **_SIZE}, max_preemptions=RESTARTS),
        packages=None,
        data=(),
        volumes=(),
        secrets=(),
    )


def listed_for_pool(
    planned: tuple[PlannedCandidate, ...],
    jobs: Sequence[tuple[str, bytes]],
    blocks: Mapping[str, str],
    session: Session,
) -> bytes:
    """Return what lists candidates, with the job variables of flow runs that a worker starts.

    Args:
        planned: What is started on each.
        jobs: The job of each as it is in the store: its name, and its content.
        blocks: The variables by which processes find the keys of secret values and of compiled
            programs; empty for none.
        session: Where runs are started.

    Raises:
        LaunchError: The work pool's template would leave out something of what workers are told.
    """
    platform, pool = session.platform, session.platform.worker_pool
    listed, told = candidates_of(planned, jobs, session), []
    names: set[str] = set()
    for request, each in zip((each.request for each in planned), listed.candidates, strict=True):
        environment = {**worker_environment(platform, each.job, each.job_sha256), **blocks}
        placed = {**each.job_variables, "name": slug(request.name)}
        variables = pool.variables(request.image, environment, placed)
        names |= variables.keys()
        told.append(replace(each, job_variables=variables))
    ensure_worker_pool(pool, names, session.api.url, drives=True)
    return replace(listed, candidates=tuple(told)).to_json()


def _driver_template(template: JobTemplate, listed: ObjectRef) -> JobTemplate:
    """Return what runs have in common whose process calls no function."""
    return replace(
        template,
        requirements=None,
        packages=None,
        data=(),
        volumes=(),
        hosts=1,
        candidate=None,
        compile_cache=None,
        drives=listed,
    )


def _put(store: ArtifactStore, name: str, data: bytes) -> ObjectRef:
    store.put_if_absent(name, data)
    return ObjectRef(name=name, sha256=sha256_hex(data), size_bytes=len(data))
