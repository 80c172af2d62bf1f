"""Artifact Registry: whether a repository is there, who may use it, and what it lacks.

See https://cloud.google.com/artifact-registry/docs/reference/rpc and
https://cloud.google.com/artifact-registry/docs/access-control.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from kinetic_flows.clients.deadlines import DeadlineExceeded, call_with_deadline
from kinetic_flows.clients.google.errors import is_credential_error, status_of
from kinetic_flows.clients.google.grpc import open_client
from kinetic_flows.clients.google.login import LOGIN_HINT
from kinetic_flows.core.errors import RegistryAccessError
from kinetic_flows.core.image_reference import artifact_registry_location, parse_reference
from kinetic_flows.images.tags import base_image

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

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
CREATION_SECONDS = 90.0
"""How long Artifact Registry may take to make a repository; it says that it has in seconds."""

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


T = TypeVar("T")


class ArtifactRegistry:
    """Looks at repositories, and makes them when it is asked to.

    Args:
        endpoint: `host:port` of another endpoint; with `http://` in front it is asked in plain
            text and without credentials; None for Google's.
        credentials: Those to ask with; None for Application Default Credentials.
        call_seconds: Limit for a call.
    """

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        credentials: Credentials | None = None,
        call_seconds: float = 20.0,
    ) -> None:
        self._endpoint = endpoint
        self._credentials = credentials
        self._call_seconds = call_seconds

    def look_at(self, repository: ArtifactRepository) -> RepositoryState | None:
        """Return what is known of a repository; None when we may not look at it at all.

        Raises:
            RegistryAccessError: Artifact Registry cannot be reached.
        """
        name, options = repository.resource, {"timeout": self._call_seconds / 2}
        client = self._call(self._connect)
        try:
            self._call(lambda: client.get_repository(name=name, **options))
        except _Refused as refused:
            return RepositoryState(exists=False) if refused.status == 404 else None
        try:
            request = {"resource": name}
            policy = self._call(lambda: client.get_iam_policy(request=request, **options))
        except _Refused:
            return RepositoryState(exists=True)
        members = {binding.role: frozenset(binding.members) for binding in policy.bindings}
        return RepositoryState(exists=True, members=members)

    def create(self, repository: ArtifactRepository) -> None:
        """Make a repository for images; one that is there already stays as it is.

        Raises:
            RegistryAccessError: It is not ours to make, or Artifact Registry cannot be reached.
        """
        from google.cloud.artifactregistry_v1 import Repository

        parent, _, name = repository.resource.rpartition("/repositories/")
        client = self._call(self._connect)

        def make() -> None:
            client.create_repository(
                parent=parent,
                repository_id=name,
                repository=Repository(format_=Repository.Format.DOCKER),
                timeout=self._call_seconds / 2,
            ).result(timeout=CREATION_SECONDS)

        try:
            self._call(make, CREATION_SECONDS)
        except _Refused as refused:
            if refused.status == 409:
                return
            raise RegistryAccessError(
                f"the repository {repository.name} could not be made in project "
                f"{repository.project}: {refused.words}",
                value=repository.resource,
                hint=f"have it made by somebody who may: {_create(repository)}",
            ) from refused

    def _call(self, call: Callable[[], T], seconds: float | None = None) -> T:
        try:
            return call_with_deadline(call, seconds or self._call_seconds)
        except Exception as error:
            status = status_of(error)
            words = " ".join(str(error).split())[:300]
            if status == 401 or is_credential_error(error):
                raise RegistryAccessError(
                    f"Artifact Registry does not accept the credentials: {words}", hint=LOGIN_HINT
                ) from error
            if status is None or status >= 500 or isinstance(error, DeadlineExceeded):
                raise RegistryAccessError(
                    f"Artifact Registry cannot be reached: {words or type(error).__name__}",
                    hint="check the network and run again",
                ) from error
            raise _Refused(status, words) from error

    def _connect(self) -> Any:
        from google.cloud.artifactregistry_v1 import ArtifactRegistryClient
        from google.cloud.artifactregistry_v1.services.artifact_registry.transports import (
            ArtifactRegistryGrpcTransport,
        )

        return open_client(
            ArtifactRegistryClient,
            ArtifactRegistryGrpcTransport,
            endpoint=self._endpoint,
            credentials=self._credentials,
        )


class _Refused(Exception):
    """The API answered that it is not there, or not for us to see or make."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(status, words)
        self.status = status
        self.words = words
