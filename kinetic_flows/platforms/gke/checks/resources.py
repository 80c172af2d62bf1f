"""What stands around a cluster on Google Cloud: its project, APIs, buckets and repository.

They are looked at, and made where that is asked for, as `kinetic up` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from kinetic_flows.clients.google.lifecycle import Rule
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.errors import CloudError, KineticError
from kinetic_flows.core.findings import Finding, Level, finding_of
from kinetic_flows.platforms.gke.builds.artifact_registry import artifact_repository
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts
from kinetic_flows.platforms.gke.setup.model import Change, Resource
from kinetic_flows.platforms.gke.setup.project.buckets import Bucket, builds_rules, jobs_rules
from kinetic_flows.platforms.gke.setup.project.registry import Repository
from kinetic_flows.platforms.gke.setup.project.services import Project, Services

_NEEDED = frozenset(
    f"{api}.googleapis.com"
    for api in ("artifactregistry", "container", "iamcredentials", "storage")
)
_BUILDING = frozenset({"cloudbuild.googleapis.com"})
"""What runs and builds ask; the other APIs, `kinetic up` and this command do."""

_TOLD = frozenset({"billing", "invalid", "missing", "name-taken"})
"""Reasons that tell of what is looked at; for others it cannot be looked at, well or not."""


def project_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield whether the project is there and has billing."""
    yield _finding(facts, Project(apis=facts.apis.need(), name=facts.cloud.project))


def service_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield whether the APIs that runs ask are on."""
    services = Services(apis=facts.apis.need(), project=facts.cloud.project)
    try:
        off = services.off()
    except CloudError as error:
        yield finding_of("APIs", error, _level(error))
        return
    if not off:
        yield Finding(subject="APIs", level="ok", text=f"all {len(services.services)} are on")
        return
    needed = _NEEDED if facts.cloud.builder == "direct" else _NEEDED | _BUILDING
    yield Finding(
        subject="APIs",
        level="wrong" if needed & set(off) else "warning",
        text=f"{', '.join(off)} {'is' if len(off) == 1 else 'are'} off",
        command=f"gcloud services enable {' '.join(off)} --project={facts.cloud.project}",
        fix=partial(_apply, services, f"turned on {', '.join(off)}"),
    )


def jobs_bucket_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield whether the bucket of runs is there, and has objects expire."""
    yield _bucket_finding(facts, facts.cloud.jobs_bucket, jobs_rules(facts.cloud.retention_days))


def builds_bucket_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield whether the bucket of builds is there, and has objects expire."""
    cloud = facts.cloud
    if cloud.builds_bucket != cloud.jobs_bucket:
        yield _bucket_finding(facts, cloud.builds_bucket, builds_rules(cloud.retention_days))


def repository_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield whether the repository of the cluster's images is there."""
    cloud, found = facts.cloud, artifact_repository(facts.cloud.image_repo)
    if found is None:
        text = f"{cloud.image_repo} is no repository of Artifact Registry; it is not looked at"
        yield Finding(subject="image repository", level="unknown", text=text)
        return
    repository = Repository(
        apis=facts.apis.need(),
        project=found.project,
        region=found.location,
        cluster=found.name.removeprefix("kn-"),
    )
    if repository.name == found.name:
        command = (
            f"gcloud artifacts repositories create {found.name} --repository-format=docker "
            f"--location={found.location} --project={found.project}"
        )
        yield _finding(facts, repository, missing=command)
        return
    there = facts.apis.need().find(
        f"look at repository {found.name}",
        lambda: facts.apis.need().artifacts.get_repository(name=found.resource),
    )
    subject = f"image repository {found.name}"
    if there is None:
        yield Finding(subject=subject, level="wrong", text="there is none")
    else:
        yield Finding(subject=subject, level="ok", text="it is there")


def _bucket_finding(facts: ClusterFacts, name: str, rules: tuple[Rule, ...]) -> Finding:
    apis, cloud = facts.apis.need(), facts.cloud
    bucket = Bucket(
        apis=apis,
        project=cloud.project,
        region=cloud.region,
        cluster=cloud.cluster,
        bucket=name,
        rules=rules,
    )
    command = (
        f"gcloud storage buckets create gs://{name} --project={cloud.project} "
        f"--location={cloud.region} --uniform-bucket-level-access"
    )
    try:
        change = bucket.compare()
    except CloudError as error:
        return _open_or(facts, bucket, error)
    return _finding_of_change(facts, bucket, change, missing=command)


def _open_or(facts: ClusterFacts, bucket: Bucket, error: CloudError) -> Finding:
    """Return that a bucket is there whose settings may not be looked at, if it is open to runs."""
    subject = f"{bucket.kind} {bucket.name}"
    apis = facts.apis.need()
    if _level(error) != "unknown":
        return finding_of(subject, error)
    try:
        apis.read(
            f"list objects of {bucket.name}",
            lambda: next(iter(apis.storage.list_blobs(bucket.bucket, max_results=1)), None),
        )
    except KineticError:
        return finding_of(subject, error, "unknown")
    text = "there, and open to you; its settings you may not look at"
    return Finding(subject=subject, level="ok", text=text)


def _finding(facts: ClusterFacts, resource: Resource, *, missing: str | None = None) -> Finding:
    try:
        change = resource.compare()
    except CloudError as error:
        return finding_of(f"{resource.kind} {resource.name}", error, _level(error))
    return _finding_of_change(facts, resource, change, missing=missing)


def _finding_of_change(
    facts: ClusterFacts, resource: Resource, change: Change, *, missing: str | None
) -> Finding:
    """Return what a comparison tells: something is there, or lacks something, or is not there.

    Args:
        facts: What is known of the cluster.
        resource: What was compared.
        change: What `kinetic up` would do.
        missing: The command that makes it.
    """
    subject = f"{change.kind} {change.name}"
    if change.action == "create":
        return Finding(
            subject=subject,
            level="wrong",
            text="there is none",
            command=missing,
            fix=partial(_make, facts, resource, f"made it {', '.join(change.details)}"),
        )
    if change.is_needed:
        # What the whole team uses is changed where that is shown beforehand: a shorter time after
        # which objects expire takes results away.
        return Finding(
            subject=subject,
            level="warning",
            text="; ".join(f"to be done: {each}" for each in change.details),
            command="kinetic up",
        )
    return Finding(subject=subject, level="ok", text=change.why or "as it has to be")


def _make(facts: ClusterFacts, resource: Resource, done: str) -> str:
    """Make something for a cluster that is there: a name that is misspelt makes nothing."""
    facts.described.need()
    return _apply(resource, done)


def _apply(resource: Resource, done: str) -> str:
    resource.apply(lambda _: None)
    return done


def _level(error: CloudError) -> Level:
    """Return whether an error tells of something wrong, or of something that cannot be asked."""
    refusals = (each for each in (error, error.__cause__) if isinstance(each, CloudRefusal))
    return "wrong" if all(each.reason in _TOLD for each in refusals) else "unknown"
