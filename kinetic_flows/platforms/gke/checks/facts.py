"""What the checks of a cluster share: credentials, the cluster's description, its API server."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.google.apis import Endpoints, GoogleApis
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.clients.kubernetes.access import (
    ClusterAccess,
    ClusterAccessDenied,
    GkeCluster,
    describe_gke_cluster,
    find_access,
)
from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused
from kinetic_flows.core.accelerators import Accelerator, parse_accelerator
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.findings import Fact
from kinetic_flows.core.job import DispatchedBy
from kinetic_flows.core.settings.accelerator_names import names_in
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.platforms.checking import Surroundings
from kinetic_flows.platforms.gke.diagnosis import launch_error
from kinetic_flows.platforms.gke.platform import gke_cluster
from kinetic_flows.platforms.gke.rights import may_create_jobs

ASK_SECONDS = 4.5
"""Limit for a question to one of Google's APIs, which is asked once."""


@dataclass(frozen=True, kw_only=True)
class ClusterFacts:
    """What is asked once for all checks.

    Attributes:
        cloud: The settings of Google Cloud.
        accelerator: What functions run on that say nothing of it.
        api_url: The Prefect API.
        apis: Google's APIs, with credentials that Google takes.
        access: How the cluster is reached.
        described: The cluster, as GKE describes it.
        client: The cluster's API server, whether it answers or not.
        reached: The API server, which has answered; and its version.
        dispatch: Who launches runs: this client, or a worker.
        at_end: Closes connections when everything is asked.
    """

    cloud: CloudSettings
    accelerator: Accelerator
    api_url: Fact[str]
    apis: Fact[GoogleApis]
    access: Fact[ClusterAccess]
    described: Fact[Mapping[str, Any]]
    client: Fact[KubernetesClient]
    reached: Fact[tuple[KubernetesClient, str]]
    dispatch: Fact[DispatchedBy]
    at_end: ExitStack

    @property
    def build_account(self) -> str | None:
        """The service account of builds, by its name in Google's API; None for the default one."""
        account = self.cloud.build_service_account
        if account is None or account.startswith("projects/"):
            return account
        project = account.rpartition("@")[2].removesuffix(".iam.gserviceaccount.com")
        own = self.cloud.project if "." in project else project
        return f"projects/{own}/serviceAccounts/{account}"

    @property
    def service_account(self) -> str | None:
        """The Kubernetes service account of runs' pods; None for the default one."""
        account = self.cloud.job_variables.get("service_account_name")
        return str(account) if account else None


def cluster_facts(surroundings: Surroundings) -> ClusterFacts:
    """Return what is to be known of a cluster; nothing is asked yet."""
    cloud = surroundings.settings.required_cloud()
    apis = Fact("Google credentials", lambda: _open_apis(cloud, surroundings.at_end))
    configured = Fact("the cluster's credentials", lambda: _gke_cluster(cloud))
    described = Fact(
        "a description of the cluster",
        lambda: _described(apis, configured.need()),
    )
    access = Fact(
        "a way to the cluster",
        lambda: find_access(surroundings.environ, configured.need()),
    )
    at_end = surroundings.at_end
    client = Fact("the cluster", lambda: _open_client(access, described, at_end))
    reached = Fact("an answer of the cluster's API server", lambda: _reach(client))
    return ClusterFacts(
        cloud=cloud,
        accelerator=parse_accelerator(names_in(surroundings.settings.accelerator)[0]),
        api_url=surroundings.api_url,
        apis=apis,
        access=access,
        described=described,
        client=client,
        reached=reached,
        dispatch=Fact("knowing who launches runs", lambda: _dispatch(cloud, reached)),
        at_end=at_end,
    )


def _described(apis: Fact[GoogleApis], cluster: GkeCluster) -> Mapping[str, Any]:
    apis.need()
    return describe_gke_cluster(cluster)


def _gke_cluster(cloud: CloudSettings) -> GkeCluster:
    return gke_cluster(cloud, cloud.credentials.load() if cloud.credentials else None)


def _open_apis(cloud: CloudSettings, at_end: ExitStack) -> GoogleApis:
    """Return Google's APIs; whose the credentials are may stay unknown, as long as they are good.

    Raises:
        ConfigurationError: There are no credentials.
        CloudRefusal: Google does not take them, or gives no token for them.
    """
    apis = GoogleApis(
        cloud.project,
        endpoints=Endpoints.of(cloud),
        credentials=cloud.credentials.load() if cloud.credentials else None,
        call_seconds=ASK_SECONDS,
        pauses_seconds=(),
    )
    at_end.callback(apis.close)
    try:
        _ = apis.identity
    except CloudRefusal as error:
        if error.reason == "login" or not apis.credentials.valid:
            raise
    return apis


def _open_client(
    access: Fact[ClusterAccess], described: Fact[Mapping[str, Any]], at_end: ExitStack
) -> KubernetesClient:
    found = access.need()
    if isinstance(found, GkeCluster):
        # Where the cluster is, GKE says; the client would ask it in a thread that is waited for
        # when the process ends, however long it takes.
        described.need()
    client = KubernetesClient(found)
    at_end.callback(client.close)
    return client


def _dispatch(cloud: CloudSettings, reached: Fact[tuple[KubernetesClient, str]]) -> DispatchedBy:
    """Return who launches runs, as the platform decides it."""
    if cloud.dispatch != "auto":
        return cloud.dispatch
    try:
        client, _ = reached.get()
    except (ConfigurationError, ClusterAccessDenied):
        return "worker"
    return "client" if may_create_jobs(client, cloud.namespace) else "worker"


def _reach(client: Fact[KubernetesClient]) -> tuple[KubernetesClient, str]:
    opened = client.need()
    try:
        return opened, str(opened.ask("GET", "/version").get("gitVersion") or "")
    except KubernetesRefused as refusal:
        if refusal.status == 403:
            return opened, ""
        raise launch_error(refusal, "look at it") from refusal
