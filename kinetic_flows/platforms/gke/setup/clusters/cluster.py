"""The GKE cluster, made or joined, and which clusters a project has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.kubernetes.node_pools import gke_node_pools
from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.platforms.gke.setup import costs, names
from kinetic_flows.platforms.gke.setup.clusters import cluster_messages as messages
from kinetic_flows.platforms.gke.setup.clusters.pool_messages import limits
from kinetic_flows.platforms.gke.setup.clusters.turns import GkeTarget, Step, pool_of
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import cluster_of
from kinetic_flows.platforms.gke.setup.model import Change, Resource, Tell, Wanted
from kinetic_flows.platforms.gke.setup.request import (
    DEFAULT_MACHINE_TYPE,
    DEFAULT_MAX_NODES,
    ClusterMode,
    SetupRequest,
)

if TYPE_CHECKING:
    from google.cloud.container_v1 import Cluster, ListClustersResponse

    from kinetic_flows.clients.google.apis import GoogleApis

KIND = "cluster"
MINUTES = "it takes 5 to 10 minutes"
_A = {"autopilot": "an Autopilot", "standard": "a Standard"}
OF_OTHERS = "made elsewhere: it is used as it is, and neither changed nor removed"


def resources(wanted: Wanted) -> tuple[Resource, ...]:
    """Return the cluster that is wanted."""
    return (GkeClusterResource(request=wanted.request, apis=wanted.apis),)


def check_place(request: SetupRequest) -> None:
    """Refuse a cluster that GKE does not make there.

    Raises:
        UsageError: An Autopilot cluster is wanted in a zone.
    """
    if request.mode == "autopilot" and request.location != request.region and not request.joins:
        raise UsageError(
            f"an Autopilot cluster is in a region, and {request.location!r} is a zone",
            value=request.location,
            hint=f"give the region: --zone {request.region}",
        )


@dataclass(frozen=True, kw_only=True)
class GkeClusterResource:
    """The cluster that runs are on.

    Attributes:
        request: What is wanted.
        apis: Google's APIs.
    """

    request: SetupRequest
    apis: GoogleApis
    kind: str = KIND

    @property
    def name(self) -> str:
        """Its name."""
        return self.request.cluster

    @property
    def target(self) -> GkeTarget:
        """The cluster in the Kubernetes Engine API."""
        return GkeTarget(apis=self.apis, location=self.request.location, name=self.name)

    def creation(self) -> Change:
        """Return what is made where there is no cluster."""
        check_place(self.request)
        if self.request.joins:
            raise _nothing_to_join(self.request)
        return self._change("create", *_description(self.request))

    def compare(self) -> Change:
        """Return what the cluster is to be made or changed in.

        Raises:
            ConfigurationError: What is there under this name is not ours, or another kind of
                cluster, or in another place.
            CloudError: It cannot be looked at.
        """
        check_place(self.request)
        found = self.target.look()
        if found is None or (found.status.name == "STOPPING" and not self.request.joins):
            self._check_elsewhere()
            return self.creation()
        _check_kind(self.request, found)
        lacking = list(messages.lacks(self.request, found))
        if self.request.joins:
            commands = [_command(self.request, lack) for lack in lacking]
            return self._change("leave", *commands, why=OF_OTHERS)
        if found.status.name == "ERROR":
            failed = f"it could not be made: {found.status_message or 'GKE does not say why'}"
            return self._change("change", failed, "it is removed and made anew")
        if found.status.name == "PROVISIONING":
            return self._change("change", f"it is being made; {MINUTES}")
        if not lacking:
            why = found.status_message if found.status.name == "DEGRADED" else ""
            return self._change("keep", why=why)
        return self._change("change", *(lack.text for lack in lacking))

    def apply(self, tell: Tell) -> None:
        """Make the cluster, or change it; a joined one is only looked for."""
        self.target.take(self._next_step, tell)

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002 - it holds nobody's data
        """Return whether the cluster is removed: only one that was made here is.

        Raises:
            ConfigurationError: It is in another place, where all that belongs to it is needed.
            CloudError: It cannot be looked at.
        """
        found = self.target.look()
        if found is None:
            self._check_elsewhere()
            return self._change("keep")
        if self.request.joins or not messages.is_made_here(found):
            return self._change("leave", why="made elsewhere")
        pools = ", ".join(pool.name for pool in found.node_pools) or "none"
        return Change(
            kind=self.kind,
            name=self.name,
            action="remove",
            details=(f"its node pools go with it: {pools}",),
        )

    def remove(self, tell: Tell) -> None:
        """Remove the cluster, if it was made here."""
        if not self.request.joins:
            self.target.take(self._removal, tell)
            cluster_of(self.request, self.apis).forget()

    def _change(self, action: Any, *details: str, why: str = "") -> Change:
        cost = None if self.request.joins else costs.cluster_cost(self.request)
        return Change(
            kind=self.kind, name=self.name, action=action, details=details, cost=cost, why=why
        )

    def _next_step(self, found: Cluster | None) -> Step | None:
        request, client = self.request, self.apis.container
        if found is None:
            if request.joins:
                raise _nothing_to_join(request)
            made = {"parent": self.target.parent, "cluster": messages.wanted_cluster(request)}
            return Step(
                what=f"make cluster {self.name}",
                start=partial(client.create_cluster, request=made),
            )
        _check_kind(request, found)
        if request.joins:
            return None
        if found.status.name == "ERROR":
            return self._removal(found)
        for lack in messages.lacks(request, found):
            if lack.update is not None:
                change = {"name": self.target.path, "update": lack.update}
                return Step(
                    what=f"change cluster {self.name} ({lack.text})",
                    start=partial(client.update_cluster, request=change),
                    doing=f"being changed, as {lack.text}",
                )
        return None

    def _removal(self, found: Cluster | None) -> Step | None:
        if found is None or not messages.is_made_here(found):
            return None
        remove = partial(self.apis.container.delete_cluster, name=self.target.path)
        return Step(what=f"remove cluster {self.name}", start=remove, doing="being removed")

    def _check_elsewhere(self) -> None:
        """Refuse a second cluster of a name that all that belongs to it has in its own name.

        Raises:
            ConfigurationError: There is one, in another place.
        """
        for other in list_clusters(self.apis, self.request.project):
            if other.name == self.name and other.location != self.request.location:
                raise ConfigurationError(
                    f"cluster {self.name!r} is in {other.location}, not in "
                    f"{self.request.location}, and a cluster cannot be moved",
                    value=self.request.location,
                    hint=f"give --zone {other.location}, or another name with --cluster",
                )


@dataclass(frozen=True, kw_only=True)
class FoundCluster:
    """A cluster that a project has.

    Attributes:
        name: Its name.
        location: Its zone or region.
        mode: What kind of cluster it is.
        status: What GKE says of it: `RUNNING`.
        version: Its Kubernetes version.
        is_made_here: Whether it was made by us.
        nodes: How many nodes it has now.
        pools: Its node pools, those without nodes too.
        network: The VPC network that it is in.
        private_nodes: Whether its new nodes have no addresses of their own.
        machine_type: That of its pool without accelerators, where we made one.
        max_nodes: How many nodes that pool may have.
        lacks: What runs need that it does not have, a line each.
    """

    name: str
    location: str
    mode: ClusterMode
    status: str
    version: str
    is_made_here: bool
    nodes: int
    pools: tuple[NodePool, ...]
    network: str
    private_nodes: bool
    machine_type: str
    max_nodes: int
    lacks: tuple[str, ...]

    def __str__(self) -> str:
        kind = "Autopilot" if self.mode == "autopilot" else f"{self.nodes} nodes now"
        has = [pool.name for pool in self.pools if pool.accelerator]
        accelerators = f"; accelerators: {', '.join(has)}" if has else ""
        status = "" if self.status == "RUNNING" else f", {self.status.lower()}"
        return f"{self.name} in {self.location}{status} ({kind}{accelerators})"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, for machines."""
        return {
            "name": self.name,
            "location": self.location,
            "mode": self.mode,
            "status": self.status,
            "version": self.version,
            "is_made_here": self.is_made_here,
            "nodes": self.nodes,
            "node_pools": [pool.name for pool in self.pools],
            "lacks": list(self.lacks),
        }


def list_clusters(apis: GoogleApis, project: str) -> tuple[FoundCluster, ...]:
    """Return the clusters of a project, by name.

    Args:
        apis: Google's APIs.
        project: The project.

    Raises:
        CloudError: They cannot be listed.
    """
    listed: ListClustersResponse = apis.read(
        f"list the clusters of {project}",
        lambda: apis.container.list_clusters(parent=f"projects/{project}/locations/-"),
    )
    found = (describe(cluster, project) for cluster in listed.clusters)
    return tuple(sorted(found, key=lambda each: (each.name, each.location)))


def describe(cluster: Cluster, project: str) -> FoundCluster:
    """Return what there is to be said of a cluster.

    Args:
        cluster: The cluster as the Kubernetes Engine API has it.
        project: Its project.
    """
    joined = SetupRequest(
        project=project, location=cluster.location, cluster=cluster.name, joins=True
    )
    pool = pool_of(cluster, names.DEFAULT_POOL)
    scaled = limits(pool) if pool else None
    return FoundCluster(
        name=cluster.name,
        location=cluster.location,
        mode=messages.mode_of(cluster),
        status=cluster.status.name,
        version=cluster.current_master_version,
        is_made_here=messages.is_made_here(cluster),
        nodes=cluster.current_node_count,
        pools=node_pools(cluster),
        network=cluster.network,
        private_nodes=cluster.network_config.default_enable_private_nodes,
        machine_type=pool.config.machine_type if pool else DEFAULT_MACHINE_TYPE,
        max_nodes=scaled[1] if scaled else DEFAULT_MAX_NODES,
        lacks=tuple(lack.text for lack in messages.lacks(joined, cluster)),
    )


def node_pools(cluster: Cluster) -> tuple[NodePool, ...]:
    """Return a cluster's node pools, as accelerators are compared with them."""
    described = type(cluster).to_dict(
        cluster, preserving_proto_field_name=False, use_integers_for_enums=False
    )
    return gke_node_pools(described)


def _description(request: SetupRequest) -> Iterator[str]:
    if request.mode == "autopilot":
        yield f"Autopilot in {request.location}: nodes are made as runs ask for them"
    else:
        is_regional = request.location == request.region
        kind = "Standard, regional" if is_regional else "Standard, zonal"
        yield f"{kind}, in {request.location}; channel REGULAR, Dataplane V2, Workload Identity"
    if request.private_nodes:
        yield "nodes without addresses of their own"
    yield MINUTES


def _check_kind(request: SetupRequest, found: Cluster) -> None:
    """Refuse a cluster that is not ours, or of another kind than is wanted.

    Raises:
        ConfigurationError: It is.
    """
    if request.joins:
        return
    if not messages.is_made_here(found):
        raise ConfigurationError(
            f"cluster {found.name!r} in {found.location} was made elsewhere",
            value=found.name,
            hint="use it as it is with --join, or give another name with --cluster",
        )
    mode = messages.mode_of(found)
    if mode != request.mode:
        raise ConfigurationError(
            f"cluster {found.name!r} is {_A[mode]} cluster, and cannot be made {_A[request.mode]} "
            "one",
            value=found.name,
            hint="give another name with --cluster, or remove it first: kinetic down",
        )


def _nothing_to_join(request: SetupRequest) -> ConfigurationError:
    return ConfigurationError(
        f"project {request.project} has no cluster {request.cluster!r} in {request.location}",
        value=request.cluster,
        hint=f"list what it has with: gcloud container clusters list --project={request.project}; "
        "or leave out --join to have one made",
    )


def _command(request: SetupRequest, lack: messages.Lack) -> str:
    return (
        f"{lack.text}; whoever looks after it can turn it on: gcloud container clusters update "
        f"{request.cluster} --location={request.location} --project={request.project} "
        f"{lack.command}"
    )
