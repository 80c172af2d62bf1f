"""Where Prefect's API is for a cluster that is set up: for this machine, and for pods."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.kubernetes.client import KubernetesRefused
from kinetic_flows.clients.prefect.condition import ask_condition
from kinetic_flows.clients.prefect.logins import AUTH_STRING, Login
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.clients.prefect.server_access import choose_api
from kinetic_flows.core.errors import CloudError, ConfigurationError, PrefectServerError
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import (
    SetupCluster,
    cluster_of,
    refused,
)
from kinetic_flows.platforms.gke.setup.names import PODS_URL
from kinetic_flows.platforms.gke.setup.prefect.prefect_connection import open_server
from kinetic_flows.platforms.gke.setup.prefect.prefect_place import PrefectPlace
from kinetic_flows.platforms.gke.setup.prefect.prefect_server import server_auth
from kinetic_flows.platforms.gke.setup.request import SetupRequest

API_URL = "PREFECT_API_URL"


def place_of(
    request: SetupRequest,
    *,
    apis: GoogleApis,
    server: BackgroundServer,
    login: Login | None = None,
) -> PrefectPlace:
    """Return where Prefect's API is that a request chooses; asks and starts nothing.

    Args:
        request: What is wanted.
        apis: Google's APIs, by which a cluster is reached.
        server: The background server of this machine.
        login: The API that was logged in to, where it is elsewhere.

    Raises:
        ConfigurationError: It is elsewhere, and nothing says where; or a worker is wanted that
            could not reach it.
    """
    if request.prefect == "cluster":
        return InTheCluster(cluster_of(request, apis))
    if request.prefect == "cloud":
        if login is None:
            raise ConfigurationError(
                "nothing says where Prefect's API is",
                hint="set PREFECT_API_URL, or log in: `kinetic prefect cloud login`",
            )
        return ByUrl(login=login)
    if request.worker:
        raise ConfigurationError(
            "a worker in the cluster cannot reach the background server of this machine",
            value=request.prefect,
            hint="choose --prefect cluster, or leave out --worker",
        )
    return OnThisMachine(server=server)


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

    def variables(self) -> Mapping[str, str]:
        """Return the server's URL and its password, starting it if need be."""
        return self.server.environment(self.server.ensure())


@dataclass(frozen=True, kw_only=True)
class ByUrl:
    """Prefect Cloud, or a server that everybody reaches by its URL.

    Attributes:
        login: The API, and what lets one in.
    """

    login: Login

    @property
    def pods_url(self) -> str | None:
        """The same URL."""
        return self.login.url

    def pods_credentials(self) -> Mapping[str, str]:
        """Return the credentials."""
        return self.login.variables()

    def find(self) -> str | None:
        """Return the URL."""
        return self.open()

    def open(self) -> str:
        """Let this process use it."""
        login = self.login
        choose_api(login.url, key=login.key, auth_string=login.auth_string)
        return login.url

    def variables(self) -> Mapping[str, str]:
        """Return its URL and the credentials."""
        return {API_URL: self.login.url, **self.login.variables()}


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
        return {AUTH_STRING: found} if found else {}

    def find(self) -> str | None:
        """Return the forwarded API, if there is a server that answers."""
        if self._cluster.look().standing != "there" or self._auth() is None:
            return None
        try:
            return ask_condition(self.open()).url
        except (CloudError, PrefectServerError):
            return None

    def open(self) -> str:
        """Forward a port to the server, for as long as this process lives."""
        with self._lock:
            if self._url is None:
                self._url = self._opened()
            return self._url

    def variables(self) -> Mapping[str, str]:
        """Return the forwarded API, good while this process lives, and its password."""
        return {API_URL: self.open(), **self.pods_credentials()}

    def _opened(self) -> str:
        server = open_server(self._cluster.client, self._cluster.name)
        choose_api(server.api_url, auth_string=server.auth_string)
        return server.api_url

    def _auth(self) -> str | None:
        try:
            return server_auth(self._cluster.client)
        except KubernetesRefused as refusal:
            raise refused(refusal, "read the password of the Prefect server") from refusal
