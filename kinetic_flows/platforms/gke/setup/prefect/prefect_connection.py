"""The way from this machine to a Prefect server in the cluster: a port, and a password."""

from __future__ import annotations

from dataclasses import dataclass, field

from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused
from kinetic_flows.clients.kubernetes.port_forward import PodPort, PortForward, Tell
from kinetic_flows.core.errors import CloudError
from kinetic_flows.platforms.gke.diagnosis import Cause, explain_refusal
from kinetic_flows.platforms.gke.setup.names import PREFECT_NAMESPACE
from kinetic_flows.platforms.gke.setup.prefect.prefect_server import (
    SERVER_POD,
    SERVER_PORT,
    server_auth,
)

SERVER = PodPort(namespace=PREFECT_NAMESPACE, pod=SERVER_POD, port=SERVER_PORT)
"""Where a server in the cluster listens."""


@dataclass(frozen=True, kw_only=True)
class OpenedServer:
    """A server in a cluster that can be reached here.

    Attributes:
        port: The port of this machine.
        auth_string: What it asks of everybody.
        forward: What forwards the port.
    """

    port: int
    auth_string: str = field(repr=False)
    forward: PortForward = field(repr=False)

    @property
    def api_url(self) -> str:
        """The API."""
        return f"http://127.0.0.1:{self.port}/api"

    def close(self) -> None:
        """Close the way."""
        self.forward.close()


def open_server(
    client: KubernetesClient, cluster: str, *, port: int = 0, tell: Tell = lambda _: None
) -> OpenedServer:
    """Open the way to the server of a cluster.

    Args:
        client: The cluster.
        cluster: Its name, for people.
        port: The port of this machine; 0 for any that is free.
        tell: Told when the server cannot be reached any more, and when it can again.

    Raises:
        CloudError: There is no server, or this user may not reach it.
        ConfigurationError: The port is taken.
        KubernetesUnreachable: The cluster does not answer.
    """
    try:
        auth_string = server_auth(client)
        if auth_string is None:
            raise _none(cluster)
        forward = PortForward(client, SERVER, tell)
        return OpenedServer(port=forward.open(port), auth_string=auth_string, forward=forward)
    except KubernetesRefused as refusal:
        raise _refused(refusal, cluster) from refusal


def _none(cluster: str) -> CloudError:
    return CloudError(
        f"there is no Prefect server in cluster {cluster}",
        value=cluster,
        hint="make it with `kinetic up --prefect cluster`",
    )


def _refused(refusal: KubernetesRefused, cluster: str) -> CloudError:
    if refusal.status == 404:
        return CloudError(
            f"the Prefect server of cluster {cluster} does not run at the moment",
            value=cluster,
            hint=f"see why: kubectl describe pod {SERVER_POD} --namespace {PREFECT_NAMESPACE}",
        )
    found = explain_refusal(refusal.status, refusal.body, "reach its Prefect server")
    may_not = found.cause is Cause.FORBIDDEN and refusal.status != 401
    if refusal.status == 403 or may_not:
        return CloudError(
            f"you may not reach the Prefect server of cluster {cluster}: {found.message}",
            value=cluster,
            hint="have whoever set it up name you: `kinetic up --member user:YOUR-ADDRESS`",
        )
    return CloudError(found.message, value=refusal.status, hint=found.hint)
