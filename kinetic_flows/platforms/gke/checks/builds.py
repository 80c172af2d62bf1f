"""Whether the service account of builds is there, and may do what a build does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.findings import Finding
from kinetic_flows.platforms.gke.builds.artifact_registry import (
    PUSHING_ROLES,
    artifact_repository,
)
from kinetic_flows.platforms.gke.checks import commands
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts
from kinetic_flows.platforms.gke.setup.project import grants
from kinetic_flows.platforms.gke.setup.project.grants import Grant
from kinetic_flows.platforms.gke.setup.project.policies import BucketHolder, GrpcHolder, Holder

BROAD = frozenset({"roles/owner", "roles/editor", "roles/cloudbuild.builds.builder"})
"""Roles that have all of what a build needs.
https://cloud.google.com/build/docs/cloud-build-service-account"""


@dataclass(frozen=True, kw_only=True)
class Need:
    """A role that builds need on something.

    Attributes:
        holder: What they need it on.
        role: The least role.
        enough: Other roles that have as much.
        grant: Returns the command that gives a member a role there.
    """

    holder: Holder
    role: str
    enough: frozenset[str] = frozenset()
    grant: Callable[[str, str], str]


def account_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield how the service account of builds is."""
    cloud = facts.cloud
    if cloud.builder == "direct":
        text = "not needed: images are put together here (builder=direct)"
        yield Finding(subject="build account", level="ok", text=text)
        return
    account = facts.build_account
    if account is None:
        text = "Cloud Build's default account; what it may do is not looked at"
        yield Finding(subject="build account", level="ok", text=text)
        return
    apis, email = facts.apis.need(), account.rpartition("/")[2]
    subject = f"build account {email}"
    found = apis.find(
        f"look at service account {email}",
        lambda: apis.iam.get_service_account(name=account),
    )
    if found is None:
        yield Finding(
            subject=subject, level="wrong", text="there is no such account", command="kinetic up"
        )
    elif found.disabled:
        yield Finding(
            subject=subject,
            level="wrong",
            text="it is disabled: no build can run as it",
            command=f"gcloud iam service-accounts enable {email} --project={cloud.project}",
        )
    else:
        yield from _role_findings(facts, apis, email, subject)


def _role_findings(
    facts: ClusterFacts, apis: GoogleApis, email: str, subject: str
) -> Iterator[Finding]:
    """Yield which roles builds lack, as far as roles of Google's own tell."""
    member = f"serviceAccount:{email}"
    needs = tuple(_needs(facts, apis))
    on_project = needs[0].holder.read().grants()
    held_anywhere = {each.role for each in on_project if each.member == member}
    is_well = True
    for need in needs:
        enough = BROAD | need.enough | {need.role}
        own = _grants_on(need.holder) if need is not needs[0] else ()
        held = held_anywhere | {each.role for each in own if each.member == member}
        if not held & enough:
            is_well = False
            yield Finding(
                subject=subject,
                level="warning",
                text=f"it has no {need.role} on {need.holder.title}, nor a wider role of Google's",
                command=need.grant(member, need.role),
            )
    if is_well:
        yield Finding(subject=subject, level="ok", text=f"has all {len(needs)} roles of a build")


def _grants_on(holder: Holder) -> tuple[Grant, ...]:
    """Return who has which role on something; on what is not there, nobody has any."""
    try:
        return holder.read().grants()
    except CloudRefusal as error:
        if error.reason == "missing":
            return ()
        raise


def _needs(facts: ClusterFacts, apis: GoogleApis) -> Iterator[Need]:
    cloud = facts.cloud
    yield Need(
        holder=GrpcHolder(
            apis=apis,
            title=f"project {cloud.project}",
            resource=f"projects/{cloud.project}",
            client=lambda: apis.projects,
        ),
        role=grants.LOG_WRITER,
        enough=frozenset({"roles/logging.admin"}),
        grant=partial(commands.grant_on_project, cloud.project),
    )
    yield Need(
        holder=BucketHolder(apis=apis, bucket=cloud.builds_bucket),
        role=grants.OBJECT_USER,
        enough=frozenset({"roles/storage.objectAdmin", "roles/storage.admin"}),
        grant=partial(commands.grant_on_bucket, cloud.builds_bucket),
    )
    repository = artifact_repository(cloud.image_repo)
    if repository is not None:
        yield Need(
            holder=GrpcHolder(
                apis=apis,
                title=f"repository {repository.name}",
                resource=repository.resource,
                client=lambda: apis.artifacts,
            ),
            role=grants.WRITER,
            enough=PUSHING_ROLES,
            grant=partial(commands.grant_on_repository, repository),
        )
