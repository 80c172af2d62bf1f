"""Where Prefect's API is for a cluster that is set up: for this machine, and for pods."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from kinetic_flows.clients.kubernetes.client import KubernetesRefused
from kinetic_flows.clients.kubernetes.port_forward import PodPort, PortForward
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.clients.prefect.server_access import remember_access
from kinetic_flows.core.errors import CloudError
from kinetic_flows.platforms.gke.setup.cluster_access import SetupCluster, refused
from kinetic_flows.platforms.gke.setup.names import PREFECT_NAMESPACE
from kinetic_flows.platforms.gke.setup.prefect_server import (
    PODS_URL,
    SERVER_POD,
    SERVER_PORT,
    server_auth,
)


@dataclass(frozen=True, kw_only=True)
class OnThisMachine:
    """The background server, which pods cannot reach.

    Attributes:
        server: The server.
    """

    server: BackgroundServer

    @property
    def pods_url(self) -> str | None:
        """None: nothing elsewhere reaches it."""
        return None

    def pods_credentials(self) -> Mapping[str, str]:
        """Return nothing."""
        return {}

    def find(self) -> str | None:
        """Return the running server's."""
        found = self.server.status()
        return found.api_url if found else None

    def open(self) -> str:
        """Start the server if need be."""
        return self.server.ensure().api_url


@dataclass(frozen=True, kw_only=True)
class ByUrl:
    """Prefect Cloud, or a server that everybody reaches by its URL.

    Attributes:
        url: The API's.
        credentials: Variables with which pods are let in: `PREFECT_API_KEY` or
            `PREFECT_API_AUTH_STRING`. This process has them in Prefect's own settings.
    """

    url: str
    credentials: Mapping[str, str]

    @property
    def pods_url(self) -> str | None:
        """The same URL."""
        return self.url

    def pods_credentials(self) -> Mapping[str, str]:
        """Return the credentials."""
        return self.credentials

    def find(self) -> str | None:
        """Return the URL."""
        return self.url

    def open(self) -> str:
        """Return the URL."""
        return self.url


class InTheCluster:
    """The server in the cluster, which this process reaches by a forwarded port of its own.

    Args:
        cluster: The cluster.
    """

    def __init__(self, cluster: SetupCluster) -> None:
        self._cluster = cluster
        self._url: str | None = None
        self._lock = threading.Lock()

    @property
    def pods_url(self) -> str | None:
        """Its Service."""
        return PODS_URL

    def pods_credentials(self) -> Mapping[str, str]:
        """Return what the server asks of everybody; nothing while it is not made."""
        found = self._auth()
        return {"PREFECT_API_AUTH_STRING": found} if found else {}

    def find(self) -> str | None:
        """Return the forwarded API, if there is a server that answers."""
        if self._cluster.look().standing != "there" or self._auth() is None:
            return None
        try:
            return self.open()
        except CloudError:
            return None

    def open(self) -> str:
        """Forward a port to the server, for as long as this process lives."""
        with self._lock:
            if self._url is None:
                self._url = self._opened()
            return self._url

    def _opened(self) -> str:
        auth = self._auth()
        if auth is None:
            raise CloudError(
                f"there is no Prefect server in cluster {self._cluster.name}",
                value=self._cluster.name,
                hint="make it with `kinetic up --prefect cluster`",
            )
        try:
            port = PortForward(self._cluster.client, server_port()).open()
        except KubernetesRefused as refusal:
            raise refused(refusal, f"forward {server_port()}") from refusal
        url = f"http://127.0.0.1:{port}/api"
        remember_access(url, auth)
        return url

    def _auth(self) -> str | None:
        try:
            return server_auth(self._cluster)
        except KubernetesRefused as refusal:
            raise refused(refusal, "read the password of the Prefect server") from refusal


def server_port() -> PodPort:
    """Return where a server in the cluster listens."""
    return PodPort(namespace=PREFECT_NAMESPACE, pod=SERVER_POD, port=SERVER_PORT)
