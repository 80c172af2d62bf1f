"""The Google APIs that setting up and looking after a cluster ask, opened when first used."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from kinetic_flows.clients.deadlines import call_with_deadline
from kinetic_flows.clients.google.compute import Compute
from kinetic_flows.clients.google.grpc import Connection, open_client
from kinetic_flows.clients.google.identity import Identity, application_default, identify
from kinetic_flows.clients.google.refusals import CloudRefusal, refusal
from kinetic_flows.clients.retry import Transient, insist
from kinetic_flows.core.settings import cloud_names

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.artifactregistry_v1 import ArtifactRegistryClient
    from google.cloud.billing_v1 import CloudBillingClient
    from google.cloud.container_v1 import ClusterManagerClient
    from google.cloud.iam_admin_v1 import IAMClient
    from google.cloud.resourcemanager_v3 import ProjectsClient
    from google.cloud.service_usage_v1 import ServiceUsageClient
    from google.cloud.storage import Client as StorageClient

    from kinetic_flows.core.settings.cloud import CloudSettings

T = TypeVar("T")

READ_PAUSES_SECONDS = (0.5, 1.5, 4.0)
"""Pauses before a question is asked again that met a busy or unreachable API."""


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Where the APIs are, where that is not Google's own place.

    Attributes:
        apis: Endpoints by the first word of an API's host; see the setting `api_endpoints`.
        artifact_registry: That of Artifact Registry; None for Google's.
        storage: URL of Cloud Storage; None for Google's.
    """

    apis: Mapping[str, str] = field(default_factory=dict)
    artifact_registry: str | None = None
    storage: str | None = None

    @classmethod
    def of(cls, cloud: CloudSettings) -> Endpoints:
        """Return those of settings."""
        return cls(
            apis=cloud.api_endpoints,
            artifact_registry=cloud.artifact_registry_endpoint,
            storage=cloud.storage_endpoint,
        )

    def url(self, api: str) -> str:
        """Return the URL of an API that is asked by REST."""
        return cloud_names.api_url(api, self.apis)


class GoogleApis:
    """Clients of Google's APIs, with the same credentials; safe under threads.

    Nothing is sent, and no SDK is imported, before the first call. Calls are made through `call`,
    `read` and `find`, which bound how long they take and turn Google's errors into ours.

    Args:
        project: The project that is set up; None where there is none yet.
        endpoints: Where the APIs are; None for Google's.
        credentials: Google credentials; None for Application Default Credentials.
        call_seconds: Limit for a call.
        pauses_seconds: Pauses before a question is asked again.
        poll_seconds: Pause before an operation is looked at again, for the first time.
    """

    def __init__(
        self,
        project: str | None,
        *,
        endpoints: Endpoints | None = None,
        credentials: Credentials | None = None,
        call_seconds: float = 60.0,
        pauses_seconds: tuple[float, ...] = READ_PAUSES_SECONDS,
        poll_seconds: float = 0.25,
    ) -> None:
        self.project = project
        self.endpoints = endpoints or Endpoints()
        self.poll_seconds = poll_seconds
        self._given = credentials
        self._call_seconds = call_seconds
        self._pauses_seconds = pauses_seconds
        self._identity: Identity | None = None
        self._connections: dict[str, Connection[Any]] = {
            name: Connection(functools.partial(opener, self)) for name, opener in _OPENERS.items()
        }
        self._credentials = Connection(self._load)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        for connection in self._connections.values():
            connection.close()

    @property
    def credentials(self) -> Credentials:
        """The credentials.

        Raises:
            ConfigurationError: There are none.
        """
        found: Credentials = self._credentials.client()
        return found

    @property
    def identity(self) -> Identity:
        """Who the credentials are; asked once.

        Raises:
            CloudRefusal: Google does not accept them, or cannot be reached.
        """
        if self._identity is None:
            self._identity = self.read(
                "find out who the credentials are",
                lambda: identify(self.credentials, self.endpoints.url("oauth2")),
            )
        return self._identity

    @property
    def container(self) -> ClusterManagerClient:
        """Google Kubernetes Engine: https://cloud.google.com/kubernetes-engine/docs/reference/rest."""
        client: ClusterManagerClient = self._connections["container"].client()
        return client

    @property
    def projects(self) -> ProjectsClient:
        """Resource Manager's projects: https://cloud.google.com/resource-manager/reference/rest."""
        client: ProjectsClient = self._connections["cloudresourcemanager"].client()
        return client

    @property
    def services(self) -> ServiceUsageClient:
        """Service Usage: https://cloud.google.com/service-usage/docs/reference/rest."""
        client: ServiceUsageClient = self._connections["serviceusage"].client()
        return client

    @property
    def iam(self) -> IAMClient:
        """IAM's service accounts: https://cloud.google.com/iam/docs/reference/rest."""
        client: IAMClient = self._connections["iam"].client()
        return client

    @property
    def billing(self) -> CloudBillingClient:
        """Cloud Billing: https://cloud.google.com/billing/docs/reference/rest."""
        client: CloudBillingClient = self._connections["cloudbilling"].client()
        return client

    @property
    def artifacts(self) -> ArtifactRegistryClient:
        """Artifact Registry: https://cloud.google.com/artifact-registry/docs/reference/rest."""
        client: ArtifactRegistryClient = self._connections["artifactregistry"].client()
        return client

    @property
    def storage(self) -> StorageClient:
        """Cloud Storage."""
        client: StorageClient = self._connections["storage"].client()
        return client

    @property
    def compute(self) -> Compute:
        """Compute Engine, by REST."""
        return Compute(self.project, self.credentials, url=self.endpoints.url("compute"))

    def call(self, what: str, ask: Callable[[], T]) -> T:
        """Make a call once, and return what it returns.

        Args:
            what: What is wanted, as it stands behind `cannot`: `create node pool l4`.
            ask: Makes the call with one of the clients.

        Raises:
            CloudRefusal: Google refuses, or cannot be reached.
            ConfigurationError: There are no credentials.
        """
        try:
            return call_with_deadline(ask, self._call_seconds)
        except Exception as error:
            made = refusal(error, what=what, project=self.project, member=self._member)
            if made is error:
                raise
            raise made from error

    def read(self, what: str, ask: Callable[[], T]) -> T:
        """Ask something that changes nothing, so that it is asked again where that may help.

        Args:
            what: What is wanted, as it stands behind `cannot`: `look at cluster x`.
            ask: Makes the call with one of the clients.

        Raises:
            CloudRefusal: Google refuses, or cannot be reached.
            ConfigurationError: There are no credentials.
        """

        def attempt() -> T:
            try:
                return self.call(what, ask)
            except CloudRefusal as error:
                if error.reason in ("unreachable", "busy"):
                    raise Transient(error) from error.__cause__
                raise

        return insist(attempt, self._pauses_seconds)

    def find(self, what: str, ask: Callable[[], T]) -> T | None:
        """Do what `read` does; None when what is asked about is not there."""
        try:
            return self.read(what, ask)
        except CloudRefusal as error:
            if error.reason == "missing":
                return None
            raise

    @property
    def _member(self) -> str | None:
        return self._identity.member if self._identity else None

    def _load(self) -> Credentials:
        return self._given or application_default(self.project)


def _open_container(apis: GoogleApis) -> Any:
    from google.cloud.container_v1 import ClusterManagerClient

    return _opened(apis, ClusterManagerClient, apis.endpoints.apis.get("container"))


def _open_projects(apis: GoogleApis) -> Any:
    from google.cloud.resourcemanager_v3 import ProjectsClient

    return _opened(apis, ProjectsClient, apis.endpoints.apis.get("cloudresourcemanager"))


def _open_services(apis: GoogleApis) -> Any:
    from google.cloud.service_usage_v1 import ServiceUsageClient

    return _opened(apis, ServiceUsageClient, apis.endpoints.apis.get("serviceusage"))


def _open_iam(apis: GoogleApis) -> Any:
    from google.cloud.iam_admin_v1 import IAMClient

    return _opened(apis, IAMClient, apis.endpoints.apis.get("iam"))


def _open_billing(apis: GoogleApis) -> Any:
    from google.cloud.billing_v1 import CloudBillingClient

    return _opened(apis, CloudBillingClient, apis.endpoints.apis.get("cloudbilling"))


def _open_artifacts(apis: GoogleApis) -> Any:
    from google.cloud.artifactregistry_v1 import ArtifactRegistryClient

    return _opened(apis, ArtifactRegistryClient, apis.endpoints.artifact_registry)


def _open_storage(apis: GoogleApis) -> Any:
    from kinetic_flows.clients.google.storage import open_storage

    return open_storage(apis.project, apis.endpoints.storage, apis.credentials)


_OPENERS: Mapping[str, Callable[[GoogleApis], Any]] = {
    "artifactregistry": _open_artifacts,
    "cloudbilling": _open_billing,
    "cloudresourcemanager": _open_projects,
    "container": _open_container,
    "iam": _open_iam,
    "serviceusage": _open_services,
    "storage": _open_storage,
}


def _opened(apis: GoogleApis, client: Any, endpoint: str | None) -> Any:
    transport = client.get_transport_class("grpc")
    return open_client(client, transport, endpoint=endpoint, credentials=apis.credentials)
