"""The objects of deployments in the store: code, payload, runner and job of their runs.

Runs of a deployment start when nobody is there to upload anything again, so their objects are
copied below the deployment's own prefix, where nothing expires. Each version has a directory
that is named by its content.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery
from kinetic_flows.clients.prefect.deployments import DeploymentRecord
from kinetic_flows.clients.prefect.records import environment_of
from kinetic_flows.core.artifact_store import ArtifactStore, Content
from kinetic_flows.core.job import JOB_VARIABLE, CodeSpec, JobTemplate, StoredTemplate, sha256_hex
from kinetic_flows.core.job_parts import ObjectRef, RequirementsSpec, Sha256
from kinetic_flows.core.object_names import (
    deployment_job_object,
    deployment_prefix,
    deployment_prefix_of,
    deployment_version_prefix,
)
from kinetic_flows.runs.sealed_values import forget_seals

PARALLEL = 8
STARTED = ("PENDING", "RUNNING", "PAUSED", "CANCELLING")
"""States of runs that have been told of their job, and may still have to fetch it."""


@dataclass(frozen=True, kw_only=True)
class DeployedJob:
    """A job and everything it names, below its deployment's prefix.

    Attributes:
        name: Name of the job's object.
        digest: The digest it must have.
        content_digest: Digest of its template.
        prefix: What the deployment's objects all start with.
        version_prefix: What this version's objects start with.
        payload_name: Name of the pickled call's object.
        copied: How many objects were not there before.
        blocks: The variables by which its runs find the keys of what is sealed for them, and of
            compiled programs; empty for nothing.
        candidates: Digest of what lists the accelerators that its runs may go on; empty where
            there is one.
    """

    name: str
    digest: Sha256
    content_digest: Sha256
    prefix: str
    version_prefix: str
    payload_name: str
    copied: int
    blocks: Mapping[str, str] = field(default_factory=dict)
    candidates: str = ""


def deploy_job(
    job: StoredTemplate, contents: Mapping[str, Content], prefix: str, store: ArtifactStore
) -> DeployedJob:
    """Copy a job and everything it names below a deployment's prefix; again does nothing more.

    Args:
        job: The job, with the names that its objects have in the store now.
        contents: What is in the store nowhere yet, by its name: the pickled call and its pieces.
        prefix: What the deployment's objects start with.
        store: Where they are.
    """
    job = without_root(job)
    version_prefix = deployment_version_prefix(prefix, sha256_hex(job.to_json()))
    pinned, copied = copy_objects(job, version_prefix, contents, store)
    return put_job(pinned, prefix, version_prefix, copied, store)


def without_root(job: StoredTemplate) -> StoredTemplate:
    """Return a job that is the same whoever deploys it.

    The path of the project on one person's machine would make another version on each.
    """
    code = job.template.code
    if code is None:
        return job
    return replace(job, template=replace(job.template, code=replace(code, root="")))


def copy_objects(
    job: StoredTemplate, version_prefix: str, contents: Mapping[str, Content], store: ArtifactStore
) -> tuple[StoredTemplate, int]:
    """Copy everything that a job names below a version's prefix.

    Args:
        job: The job.
        version_prefix: What the version's objects start with.
        contents: What is in the store nowhere yet, by its name.
        store: Where they are.

    Returns:
        The job with the names that its objects have there, and how many were not there before.
    """
    pinned = with_names(job, lambda name: f"{version_prefix}{name}")
    sources = dict(zip(_names(pinned), _names(job), strict=True))
    absent = store.missing(sources)

    def copy(name: str) -> None:
        source = sources[name]
        is_here = source in contents
        store.put_if_absent(name, contents[source] if is_here else store.get(source).data)

    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        list(pool.map(copy, absent))
    return pinned, len(absent)


def put_job(
    pinned: StoredTemplate, prefix: str, version_prefix: str, copied: int, store: ArtifactStore
) -> DeployedJob:
    """Write the job of a version whose objects are there.

    Args:
        pinned: The job.
        prefix: What the deployment's objects start with.
        version_prefix: What this version's objects start with.
        copied: How many of them were not there before.
        store: Where they are.
    """
    data, name = pinned.to_json(), deployment_job_object(version_prefix)
    # Last, so that a job that is there has everything.
    store.put_if_absent(name, data)
    return DeployedJob(
        name=name,
        digest=sha256_hex(data),
        content_digest=pinned.template.content_digest(),
        prefix=prefix,
        version_prefix=version_prefix,
        payload_name=pinned.payload_name,
        copied=copied,
        candidates=pinned.template.drives.sha256 if pinned.template.drives else "",
    )


def remove_other_versions(
    kept: DeployedJob, deployment_id: str, store: ArtifactStore, api: PrefectApi
) -> int:
    """Remove versions of a deployment that no run needs; return how many objects went.

    A worker that has made a run Pending reads the deployment afterwards, so once the deployment
    names the new version, only runs that have been started can need an old one. While there are
    any, everything stays; the next deployment, or the end of this one, removes it.

    Args:
        kept: The version that the deployment names now.
        deployment_id: The deployment.
        store: Where its objects are.
        api: Where its runs are.
    """
    if unfinished_runs(deployment_id, api):
        return 0
    return remove_objects(
        store, kept.prefix, api=api, keep=lambda name: name.startswith(kept.version_prefix)
    )


def remove_objects(
    store: ArtifactStore,
    prefix: str,
    keep: Callable[[str], bool] = lambda _name: False,
    api: PrefectApi | None = None,
) -> int:
    """Remove the objects below a prefix but for those to keep; return how many went.

    Args:
        store: Where they are.
        prefix: What their names start with.
        keep: Which of them to keep.
        api: Where the keys are of those that were sealed; None where there are none.
    """
    doomed = [each.name for each in store.list(prefix) if not keep(each.name)]
    if api is not None:
        forget_seals(doomed, store.uri, api)
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        list(pool.map(store.delete, doomed))
    return len(doomed)


def unfinished_runs(deployment_id: str, api: PrefectApi) -> list[str]:
    """Return the ids of a deployment's runs that may still fetch their objects."""
    query = RunQuery(state_types=STARTED, deployment=deployment_id)
    return [run.id for run in api.find_runs(query)]


def prefix_of(record: DeploymentRecord | None, flow: str, name: str, store: ArtifactStore) -> str:
    """Return where a deployment's objects are, or will be.

    Args:
        record: The deployment; None while there is none.
        flow: Name of its flow.
        name: Its own name.
        store: Where objects are now; a deployment whose objects are elsewhere starts anew.
    """
    known = known_prefix(record.job_variables, store.uri) if record else None
    return known or deployment_prefix(flow, name, secrets.token_hex(4))


def known_prefix(job_variables: Mapping[str, object], store_uri: str) -> str | None:
    """Return where a deployment's objects are in a store, by the job variables of its runs."""
    job_uri = str(environment_of(job_variables).get(JOB_VARIABLE, ""))
    return deployment_prefix_of(job_uri.removeprefix(f"{store_uri}/"))


def with_names(job: StoredTemplate, rename: Callable[[str], str]) -> StoredTemplate:
    """Return a job whose objects have other names."""

    def renamed(ref: ObjectRef) -> ObjectRef:
        return replace(ref, name=rename(ref.name))

    template = job.template
    template = replace(
        template,
        runner=renamed(template.runner),
        pieces=tuple(renamed(each) for each in template.pieces),
        code=template.code and _renamed_code(template.code, renamed),
        requirements=template.requirements
        and _renamed_requirements(template.requirements, renamed),
    )
    return replace(job, template=template, payload_name=rename(job.payload_name))


def _renamed_code(code: CodeSpec, renamed: Callable[[ObjectRef], ObjectRef]) -> CodeSpec:
    packs = tuple(renamed(each) for each in code.packs)
    return replace(code, packs=packs, manifest=renamed(code.manifest))


def _renamed_requirements(
    requirements: RequirementsSpec, renamed: Callable[[ObjectRef], ObjectRef]
) -> RequirementsSpec:
    wheels = tuple(renamed(each) for each in requirements.wheels)
    return replace(requirements, lock=renamed(requirements.lock), wheels=wheels)


def _names(job: StoredTemplate) -> Iterator[str]:
    """Yield the names of a job's objects, in the same order for every job of one shape."""
    yield job.payload_name
    yield from (each.name for each in _references(job.template))


def _references(template: JobTemplate) -> Iterator[ObjectRef]:
    yield template.runner
    yield from template.pieces
    if template.code:
        yield from (*template.code.packs, template.code.manifest)
    if template.requirements:
        yield from (template.requirements.lock, *template.requirements.wheels)
