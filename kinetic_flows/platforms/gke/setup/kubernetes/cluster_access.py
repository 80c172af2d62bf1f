"""The cluster in which something is made: whether it is there, and its API."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.kubernetes.access import GkeCluster
from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused
from kinetic_flows.core.errors import CloudError
from kinetic_flows.platforms.gke.diagnosis import Cause, explain_refusal
from kinetic_flows.platforms.gke.setup.names import MANAGED_LABEL
from kinetic_flows.platforms.gke.setup.request import SetupRequest

Standing = Literal["missing", "coming", "there"]
"""Whether there is a cluster; `coming` where it is being made and its API does not answer yet."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is known of the cluster itself.

    Attributes:
        standing: Whether it is there.
        is_ours: Whether it was made by setting up, and so goes with everything in it.
    """

    standing: Standing
    is_ours: bool = False


class SetupCluster:
    """A cluster in which something is made; safe under threads.

    Args:
        name: Its name, which marks what is made in it.
        connect: Returns a client of its API; called when it is asked something first.
        look: Says whether it is there; asked until it is, and again when it was removed.
    """

    def __init__(
        self, name: str, connect: Callable[[], KubernetesClient], look: Callable[[], Look]
    ) -> None:
        self.name = name
        self._connect = connect
        self._look = look
        self._lock = threading.Lock()
        self._client: KubernetesClient | None = None
        self._found: Look | None = None

    @property
    def client(self) -> KubernetesClient:
        """Its API.

        Raises:
            ConfigurationError: There are no credentials for it.
        """
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def look(self) -> Look:
        """Return whether it is there.

        Raises:
            KineticError: It cannot be looked at.
        """
        with self._lock:
            if self._found is None:
                found = self._look()
                if found.standing != "there":
                    return found
                self._found = found
            return self._found

    def forget(self) -> None:
        """Look again, and connect anew, when something is asked next: it was removed."""
        with self._lock:
            client, self._client, self._found = self._client, None, None
        if client is not None:
            client.close()


def cluster_of(request: SetupRequest, apis: GoogleApis) -> SetupCluster:
    """Return the cluster of a request, reached with Google's credentials, whatever KUBECONFIG is.

    Args:
        request: What is wanted.
        apis: Google's APIs.
    """
    with _making:
        return _cluster(request.project, request.location, request.cluster, request.joins, apis)


_making = threading.Lock()
"""Held so that threads that ask together are given the same one."""


@lru_cache(maxsize=1)
def _cluster(project: str, location: str, name: str, joins: bool, apis: GoogleApis) -> SetupCluster:
    """Return the cluster; one for all that is made in it."""
    access = GkeCluster(
        project=project, location=location, name=name, endpoint=apis.endpoints.url("container")
    )

    def look() -> Look:
        found = apis.find(
            f"look at cluster {name}", lambda: apis.container.get_cluster(name=access.resource)
        )
        if found is None:
            return Look(standing="missing")
        is_ours = not joins and found.resource_labels.get(MANAGED_LABEL) == name
        return Look(standing=_standing(found.status.name, is_ours=is_ours), is_ours=is_ours)

    def connect() -> KubernetesClient:
        return KubernetesClient(replace(access, credentials=apis.credentials))

    return SetupCluster(name, connect, look)


def _standing(status: str, *, is_ours: bool) -> Standing:
    """Return whether there is a cluster to be asked, by what GKE says of it.

    One that could not be made has no address, and is made anew, as one of ours is that goes.
    """
    if status in ("PROVISIONING", "STATUS_UNSPECIFIED"):
        return "coming"
    is_gone = status == "ERROR" or (is_ours and status == "STOPPING")
    return "missing" if is_gone else "there"


def refused(refusal: KubernetesRefused, action: str) -> CloudError:
    """Return the error for something that the cluster refused.

    Args:
        refusal: Its answer.
        action: What was asked for, such as `make the Service kinetic-hosts`.
    """
    found = explain_refusal(refusal.status, refusal.body, action)
    hint = found.hint
    if found.cause is Cause.FORBIDDEN and refusal.status != 401:
        hint = "who sets a cluster up needs the IAM role roles/container.admin on its project"
    return CloudError(found.message, value=refusal.status, hint=hint)
