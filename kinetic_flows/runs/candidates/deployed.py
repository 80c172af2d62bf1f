"""The objects of deployments whose runs may go on one of several accelerators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kinetic_flows.core.artifact_store import Content
from kinetic_flows.core.job import StoredTemplate, canonical_json, sha256_hex
from kinetic_flows.core.object_names import deployment_version_prefix
from kinetic_flows.runs.candidates.launching import PlannedCandidate
from kinetic_flows.runs.candidates.worker import driver_job, listed_for_pool, write_candidates
from kinetic_flows.runs.compile_cache_keys import key_for_worker
from kinetic_flows.runs.deployment_objects import (
    DeployedJob,
    copy_objects,
    put_job,
    without_root,
)
from kinetic_flows.runs.sealed_values import seal_for_worker
from kinetic_flows.runs.session import Session

_LIST = "candidates.json"


def deploy_candidates(
    planned: tuple[PlannedCandidate, ...],
    job: StoredTemplate,
    contents: Mapping[str, Content],
    prefix: str,
    secret_values: Mapping[str, str],
    session: Session,
) -> DeployedJob:
    """Keep what runs of a deployment need on each of their accelerators, below its prefix.

    Args:
        planned: What is started on each.
        job: What their jobs have in common beside their templates.
        contents: What is in the store nowhere yet, by its name: the pickled call and its pieces.
        prefix: What the deployment's objects start with.
        secret_values: What is sealed for the runs, by variable.
        session: Where they run and report.

    Returns:
        The job of the process that drives each of them.
    """
    store = session.platform.store
    jobs = [without_root(replace(job, template=each.template)) for each in planned]
    version_prefix = deployment_version_prefix(prefix, _version(planned, jobs, session))
    pinned, copied = [], 0
    for number, each in enumerate(jobs):
        kept, count = copy_objects(each, version_prefix, contents, store)
        pinned.append((f"{version_prefix}{_name(number)}", kept))
        copied += count
    first = pinned[0][1]
    blocks = {
        **seal_for_worker(secret_values, first.payload_name, store, session.api),
        **key_for_worker([each.template for each in planned], session),
    }
    listed = write_candidates(planned, pinned, f"{version_prefix}{_LIST}", blocks, session)
    return put_job(driver_job(first, listed), prefix, version_prefix, copied, store)


def _version(
    planned: tuple[PlannedCandidate, ...], jobs: list[StoredTemplate], session: Session
) -> str:
    """Return a digest of everything that the objects say, wherever they are."""
    contents = [(_name(number), job.to_json()) for number, job in enumerate(jobs)]
    told = [listed_for_pool(planned, contents, {}, session), *(data for _, data in contents)]
    return sha256_hex(canonical_json([each.decode() for each in told]))


def _name(number: int) -> str:
    return f"job-{number}.json"
