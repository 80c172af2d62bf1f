"""The network of the nodes, and the Cloud NAT by which those without addresses reach others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.google.operations import wait_for_compute
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.clients.retry import Transient, insist
from kinetic_flows.core.errors import CloudError
from kinetic_flows.core.settings import cloud_names
from kinetic_flows.platforms.gke.setup import costs, names
from kinetic_flows.platforms.gke.setup.clusters.cluster import list_clusters
from kinetic_flows.platforms.gke.setup.model import Action, Change, Tell

NETWORK = "default"
"""The network that clusters are in which name none."""

PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Before the network is looked for again, which a project may get some time after the API is on.
https://github.com/hashicorp/terraform-provider-google/issues/26363
"""

ALL_SUBNETWORKS = "ALL_SUBNETWORKS_ALL_IP_RANGES"


@dataclass(frozen=True, kw_only=True)
class Network:
    """The network `default`, which projects come with unless an organisation forbids it.

    It is looked at, and neither made, changed nor removed.

    Attributes:
        apis: Google's APIs.
        project: The project.
        name: Its name.
    """

    apis: GoogleApis
    project: str
    name: str = NETWORK
    kind: str = "network"

    def creation(self) -> Change:
        """Return that it is looked at when Compute Engine's API is on, which makes it."""
        return Change(
            kind=self.kind,
            name=self.name,
            action="unknown",
            why="the project gets it when Compute Engine's API is turned on",
        )

    def compare(self) -> Change:
        """Look whether it is there.

        Raises:
            CloudError: It is not.
        """
        if not self._is_there():
            raise self._missing()
        return Change(kind=self.kind, name=self.name, action="keep")

    def apply(self, tell: Tell) -> None:
        """Wait until it is there."""

        def attempt() -> None:
            if not self._is_there():
                tell("Google is making it")
                raise Transient(self._missing())

        insist(attempt, PAUSES_SECONDS)

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002
        """Return that it stays; nothing of it is ours."""
        return Change(kind=self.kind, name=self.name, action="keep")

    def remove(self, tell: Tell) -> None:
        """Do nothing."""

    def _is_there(self) -> bool:
        found = self.apis.find(
            f"look at network {self.name}", lambda: self.apis.compute.network(self.name)
        )
        return found is not None

    def _missing(self) -> CloudError:
        return CloudError(
            f"project {self.project} has no network {self.name!r}, which the cluster is to be in",
            value=self.name,
            hint=f"make it with: gcloud compute networks create {self.name} "
            f"--subnet-mode=auto --project={self.project}; or make the cluster yourself in "
            "the network that you have, and join it",
        )


@dataclass(frozen=True, kw_only=True)
class CloudNat:
    """A Cloud Router with a Cloud NAT for all subnetworks of a region.

    Two of them cannot serve the same subnetworks, so one that does already is taken as it is.
    https://cloud.google.com/nat/docs/overview

    Attributes:
        apis: Google's APIs.
        project: The project.
        region: The region.
        cluster: The cluster it is for.
        nodes: How many nodes it may serve at a time.
        network: The network it is in.
    """

    apis: GoogleApis
    project: str
    region: str
    cluster: str
    nodes: int
    network: str = NETWORK
    kind: str = "Cloud NAT"

    @property
    def name(self) -> str:
        """The router's name, and the NAT's."""
        return names.router_name(self.cluster)

    def creation(self) -> Change:
        """Return that it is made."""
        return self._change("create", details=(f"for all subnetworks of {self.region}",))

    def compare(self) -> Change:
        """Look whether it, or one that serves the same, is there."""
        routers = self._routers()
        own = _named(routers, self.name)
        other = self._serving(routers)
        if other is not None and other["name"] != self.name:
            why = f"router {other['name']} has one for the same"
            return Change(kind=self.kind, name=self.name, action="keep", why=why)
        if own is None:
            return self.creation()
        if own.get("nats"):
            return self._change("keep")
        return self._change("change", details=("give the router its NAT",))

    def apply(self, tell: Tell) -> None:
        """Make it, and wait until it is there."""
        if not self.compare().is_needed:
            return
        compute = self.apis.compute
        own = _named(self._routers(), self.name)
        what = f"create router {self.name}"
        try:
            if own is None:
                operation = self.apis.call(
                    what, lambda: compute.insert_router(self.region, self._router())
                )
            else:
                nats = {"nats": self._router()["nats"]}
                operation = self.apis.call(
                    what, lambda: compute.patch_router(self.region, self.name, nats)
                )
        except CloudRefusal as error:
            if error.reason != "name-taken":  # by a run of this at the same time
                raise
            return
        wait_for_compute(self.apis, operation, what, tell)

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002
        """Look whether it is there, and was made here."""
        own = _named(self._routers(), self.name)
        if own is None:
            return Change(kind=self.kind, name=self.name, action="keep")
        if not self._is_ours(own):
            return self._change("leave", why="it was not made by kinetic up")
        if users := self._used_by():
            why = f"nodes without addresses of cluster {', '.join(users)} need it"
            return self._change("leave", why=why)
        return self._change("remove")

    def remove(self, tell: Tell) -> None:
        """Remove it, if it was made here, and wait until it is gone."""
        own = _named(self._routers(), self.name)
        if own is None or not self._is_ours(own):
            return
        what = f"delete router {self.name}"
        operation = self.apis.find(
            what, lambda: self.apis.compute.delete_router(self.region, self.name)
        )
        if operation is not None:
            wait_for_compute(self.apis, operation, what, tell)

    def _used_by(self) -> tuple[str, ...]:
        """Return the other clusters whose nodes reach others by it."""
        try:
            found = list_clusters(self.apis, self.project)
        except CloudRefusal as error:
            if error.reason != "api-off":
                raise
            return ()
        return tuple(
            each.name
            for each in found
            if each.private_nodes
            and each.name != self.cluster
            and each.network == self.network
            and cloud_names.region(each.location) == self.region
        )

    def _routers(self) -> list[dict[str, Any]]:
        return self.apis.read(
            f"look at the routers of {self.region}",
            lambda: self.apis.compute.routers(self.region),
        )

    def _serving(self, routers: list[dict[str, Any]]) -> dict[str, Any] | None:
        for router in routers:
            in_network = str(router.get("network", "")).rpartition("/")[2] == self.network
            ranges = {nat.get("sourceSubnetworkIpRangesToNat") for nat in router.get("nats", ())}
            if in_network and ALL_SUBNETWORKS in ranges:
                return router
        return None

    def _router(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "description": names.description(self.cluster),
            "network": f"projects/{self.project}/global/networks/{self.network}",
            "nats": [
                {
                    "name": self.name,
                    "natIpAllocateOption": "AUTO_ONLY",
                    "sourceSubnetworkIpRangesToNat": ALL_SUBNETWORKS,
                }
            ],
        }

    def _is_ours(self, router: dict[str, Any]) -> bool:
        return names.is_marked(str(router.get("description", "")), self.cluster)

    def _change(self, action: Action, *, details: tuple[str, ...] = (), why: str = "") -> Change:
        return Change(
            kind=self.kind,
            name=self.name,
            action=action,
            details=details,
            why=why,
            cost=costs.nat_cost(self.nodes),
        )


def _named(routers: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((router for router in routers if router["name"] == name), None)
