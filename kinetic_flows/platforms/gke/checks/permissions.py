"""Which permissions who launches has to have, and which of them are missing.

https://cloud.google.com/iam/docs/testing-permissions
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.findings import Finding, Level, NotAsked
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.platforms.gke.builds.artifact_registry import artifact_repository
from kinetic_flows.platforms.gke.checks import commands
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts
from kinetic_flows.platforms.gke.setup.project import grants


@dataclass(frozen=True, kw_only=True)
class Permission:
    """A permission of IAM, with the least role of Google's that has it.

    https://cloud.google.com/iam/docs/roles-permissions

    Attributes:
        name: Its name.
        role: The role.
        purpose: What it is needed for.
        level: How it is without it.
    """

    name: str
    role: str
    purpose: str
    level: Level = "wrong"


REACHING = Permission(
    name="container.clusters.get",
    role=grants.CLUSTER_VIEWER,
    purpose="reach the cluster",
)
BUILDING = tuple(
    Permission(name=name, role=grants.BUILD_EDITOR, purpose="build images")
    for name in ("cloudbuild.builds.create", "cloudbuild.builds.get")
)
COUNTING = Permission(
    name="serviceusage.services.use",
    role=grants.CONSUMER,
    purpose="have calls count on the project",
)
KEEPING = tuple(
    Permission(name=f"storage.objects.{verb}", role=grants.OBJECT_USER, purpose=purpose)
    for verb, purpose in (
        ("create", "bring code and arguments"),
        ("get", "fetch results"),
        ("list", "find what is there"),
        ("delete", "clean up"),
    )
)
PUSHING = tuple(
    Permission(name=f"artifactregistry.repositories.{verb}", role=grants.WRITER, purpose=purpose)
    for verb, purpose in (
        ("downloadArtifacts", "look images up"),
        ("uploadArtifacts", "push images"),
    )
)
ACTING = Permission(
    name="iam.serviceAccounts.actAs",
    role=grants.ACTS_AS,
    purpose="have builds run as it",
)


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Something that permissions are had on.

    Attributes:
        title: What it is called: `project my-project`.
        grant: Returns the command that gives a member a role on it.
        ask: Returns those of the permissions that are had.
    """

    title: str
    grant: Callable[[str, str], str]
    ask: Callable[[list[str]], Iterable[str]]


def project_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield which permissions on the project are missing."""
    apis, cloud = facts.apis.need(), facts.cloud
    name = f"projects/{cloud.project}"
    holder = Holder(
        title=f"project {cloud.project}",
        grant=partial(commands.grant_on_project, cloud.project),
        ask=lambda wanted: (
            apis.projects.test_iam_permissions(resource=name, permissions=wanted).permissions
        ),
    )
    yield from _findings(apis, holder, _on_project(cloud))


def bucket_findings(facts: ClusterFacts, bucket: str) -> Iterator[Finding]:
    """Yield which permissions on a bucket are missing."""
    apis = facts.apis.need()
    what = f"look at bucket {bucket}"
    try:
        there = apis.find(what, lambda: apis.storage.get_bucket(bucket, timeout=5.0))
    except CloudRefusal as error:
        if error.reason != "permission":
            raise
    else:
        if there is None:
            raise NotAsked(f"the bucket {bucket}")
    holder = Holder(
        title=f"bucket {bucket}",
        grant=partial(commands.grant_on_bucket, bucket),
        ask=lambda wanted: apis.storage.bucket(bucket).test_iam_permissions(wanted, timeout=5.0),
    )
    yield from _findings(apis, holder, KEEPING)


def repository_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield which permissions on the repository of images are missing."""
    repository = artifact_repository(facts.cloud.image_repo)
    if repository is None:
        return
    apis = facts.apis.need()
    holder = Holder(
        title=f"repository {repository.name}",
        grant=partial(commands.grant_on_repository, repository),
        ask=lambda wanted: (
            apis.artifacts.test_iam_permissions(
                request={"resource": repository.resource, "permissions": wanted}
            ).permissions
        ),
    )
    yield from _findings(apis, holder, PUSHING)


def build_account_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield whether builds may run as their service account."""
    account = facts.build_account
    if account is None or not _builds(facts.cloud):
        return
    apis = facts.apis.need()
    email = account.rpartition("/")[2]
    holder = Holder(
        title=f"account {email}",
        grant=partial(commands.grant_on_account, email, facts.cloud.project),
        ask=lambda wanted: (
            apis.iam.test_iam_permissions(
                request={"resource": account, "permissions": wanted}
            ).permissions
        ),
    )
    yield from _findings(apis, holder, (ACTING,))


def _on_project(cloud: CloudSettings) -> tuple[Permission, ...]:
    # By itself, a call is handed to a worker then.
    level: Level = "warning" if cloud.dispatch == "auto" else "wrong"
    reaching = () if cloud.dispatch == "worker" else (replace(REACHING, level=level),)
    return (*reaching, *(BUILDING if _builds(cloud) else ()), COUNTING)


def _builds(cloud: CloudSettings) -> bool:
    """Whether Cloud Build may be asked to build images."""
    return cloud.builder != "direct"


def _findings(
    apis: GoogleApis, holder: Holder, wanted: tuple[Permission, ...]
) -> Iterator[Finding]:
    """Yield a finding for each role that has permissions which are missing."""
    names = [each.name for each in wanted]
    subject = f"rights on {holder.title}"
    try:
        had = set(apis.read(f"ask for {subject}", lambda: holder.ask(names)))
    except CloudRefusal as error:
        if error.reason == "missing":
            raise NotAsked(f"the {holder.title}") from error
        raise
    missing = [each for each in wanted if each.name not in had]
    if not missing:
        yield Finding(subject=subject, level="ok", text=f"all {len(wanted)} that runs need")
    for role in dict.fromkeys(each.role for each in missing):
        lacking = [each for each in missing if each.role == role]
        purposes = dict.fromkeys(each.purpose for each in lacking)
        member = apis.identity.member or "user:YOU"
        yield Finding(
            subject=subject,
            level=lacking[0].level,
            text=f"{', '.join(each.name for each in lacking)} is missing, needed to "
            f"{' and '.join(purposes)}; {role} has it",
            command=holder.grant(member, role),
        )
