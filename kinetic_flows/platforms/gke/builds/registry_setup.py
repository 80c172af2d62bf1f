"""What a repository of Artifact Registry needs before base images can go there and be used. Pure.

See https://cloud.google.com/artifact-registry/docs/access-control.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kinetic_flows.core.image_reference import artifact_registry_location, parse_reference
from kinetic_flows.images.tags import base_image

WRITER = "roles/artifactregistry.writer"
READER = "roles/artifactregistry.reader"
PUSHING_ROLES = frozenset(
    {
        WRITER,
        "roles/artifactregistry.createOnPushWriter",
        "roles/artifactregistry.repoAdmin",
        "roles/artifactregistry.createOnPushRepoAdmin",
        "roles/artifactregistry.admin",
    }
)
PULLING_ROLES = PUSHING_ROLES | {READER}
UNKNOWN_BUILDER = "BUILD_SERVICE_ACCOUNT"
"""What stands in a command for an account that is not known."""

EVERYONE = frozenset({"allUsers", "allAuthenticatedUsers"})

_DEFAULT_ACCOUNT = re.compile(r"^(?P<number>\d+)(?:-compute@developer|@cloudbuild)\.")


@dataclass(frozen=True, kw_only=True)
class ArtifactRepository:
    """A repository of Artifact Registry by its parts."""

    location: str
    project: str
    name: str

    @property
    def resource(self) -> str:
        """Its name in Google's API."""
        return f"projects/{self.project}/locations/{self.location}/repositories/{self.name}"


@dataclass(frozen=True, kw_only=True)
class RepositoryState:
    """What is known of a repository.

    Attributes:
        exists: Whether it is there.
        members: Who has which role on it, by role; None when we may not look.
    """

    exists: bool
    members: Mapping[str, frozenset[str]] | None = None


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What is left to do.

    Attributes:
        exists: Whether the repository is there.
        was_checked: Whether rights could be looked at.
        commands: The commands that do it; a role on the whole project serves as well.
    """

    exists: bool
    was_checked: bool
    commands: tuple[str, ...]


def artifact_repository(repository: str) -> ArtifactRepository | None:
    """Return where base images go in Artifact Registry; None for other registries."""
    image = parse_reference(base_image(repository, "cpu"))
    location = artifact_registry_location(image.registry)
    if location is None:
        return None
    first, second, *rest = image.repository.split("/")
    if "." in first:  # a project of an organisation's domain, `example.com:name`
        return ArtifactRepository(location=location, project=f"{first}:{second}", name=rest[0])
    return ArtifactRepository(location=location, project=first, name=second)


def plan_setup(
    repository: ArtifactRepository, state: RepositoryState, *, builder: str, nodes: str
) -> Setup:
    """Return the commands that are needed.

    Args:
        repository: The repository.
        state: What is known of it.
        builder: Service account of the builds, which push.
        nodes: Service account of the cluster's nodes, which pull.
    """
    commands = [] if state.exists else [_create(repository)]
    for account, role, enough in (
        (builder, WRITER, PUSHING_ROLES),
        (nodes, READER, PULLING_ROLES),
    ):
        if not _has(state, f"serviceAccount:{account}", enough):
            commands.append(_grant(repository, account, role))
    return Setup(
        exists=state.exists,
        was_checked=not state.exists or state.members is not None,
        commands=tuple(commands),
    )


def node_account(builder: str) -> str:
    """Return the service account of nodes that are given no other: Compute Engine's default.

    See https://cloud.google.com/kubernetes-engine/docs/how-to/service-accounts.

    Args:
        builder: The default account of builds, which has the project's number in it.
    """
    match = _DEFAULT_ACCOUNT.match(builder)
    if match is None:
        return "NODE_SERVICE_ACCOUNT"
    return f"{match['number']}-compute@developer.gserviceaccount.com"


def _has(state: RepositoryState, member: str, roles: frozenset[str]) -> bool:
    granted = state.members or {}
    wanted = EVERYONE | {member}
    return any(wanted & granted.get(role, frozenset()) for role in roles)


def _create(repository: ArtifactRepository) -> str:
    return (
        f"gcloud artifacts repositories create {repository.name} --repository-format=docker "
        f"--location={repository.location} --project={repository.project}"
    )


def _grant(repository: ArtifactRepository, account: str, role: str) -> str:
    return (
        f"gcloud artifacts repositories add-iam-policy-binding {repository.name} "
        f"--location={repository.location} --project={repository.project} "
        f"--member=serviceAccount:{account} --role={role}"
    )
