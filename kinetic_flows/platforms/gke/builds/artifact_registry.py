"""Artifact Registry's own API: whether a repository is there, and who may use it.

See https://cloud.google.com/artifact-registry/docs/reference/rpc.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from kinetic_flows.clients.deadlines import DeadlineExceeded, call_with_deadline
from kinetic_flows.clients.google.errors import LOGIN_HINT, is_credential_error, status_of
from kinetic_flows.clients.google.grpc import open_client
from kinetic_flows.core.errors import RegistryAccessError
from kinetic_flows.platforms.gke.builds.registry_setup import ArtifactRepository, RepositoryState

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

T = TypeVar("T")


class ArtifactRegistry:
    """Looks at repositories; changes nothing.

    Args:
        endpoint: `host:port` of another endpoint; with `http://` in front it is asked in plain
            text and without credentials; None for Google's.
        credentials: Who asks; None for Application Default Credentials.
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

    def _call(self, call: Callable[[], T]) -> T:
        try:
            return call_with_deadline(call, self._call_seconds)
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
            raise _Refused(status) from error

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
    """The API answered that it is not there, or not for us to see."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status
