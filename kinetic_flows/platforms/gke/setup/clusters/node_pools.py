"""Node pools: the one without accelerators, and one for each accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.platforms.gke.setup import costs, names
from kinetic_flows.platforms.gke.setup.clusters import cluster_messages
from kinetic_flows.platforms.gke.setup.clusters import pool_messages as messages
from kinetic_flows.platforms.gke.setup.clusters.cluster import OF_OTHERS, node_pools
from kinetic_flows.platforms.gke.setup.clusters.pool_options import pool_name
from kinetic_flows.platforms.gke.setup.clusters.quota import read_quotas, shortages
from kinetic_flows.platforms.gke.setup.clusters.turns import GkeTarget, Step, pool_of
from kinetic_flows.platforms.gke.setup.clusters.zones import check_zones
from kinetic_flows.platforms.gke.setup.model import Action, Change, Resource, Tell, Wanted
from kinetic_flows.platforms.gke.setup.request import PoolRequest, SetupRequest

if TYPE_CHECKING:
    from google.cloud.container_v1 import Cluster
    from google.cloud.container_v1 import NodePool as PoolMessage

    from kinetic_flows.clients.google.apis import GoogleApis

KIND = "node pool"


def resources(wanted: Wanted) -> tuple[Resource, ...]:
    """Return the node pools that are wanted; an Autopilot cluster has none."""
    request, apis = wanted.request, wanted.apis
    if request.joins:
        return (JoinedPools(request=request, apis=apis),)
    if request.mode == "autopilot" and not request.pools:
        return ()
    without = NodePoolResource(request=request, apis=apis)
    pools = (NodePoolResource(request=request, apis=apis, pool=pool) for pool in request.pools)
    return (without, *pools)


def check_mode(mode: str, cluster: str) -> None:
    """Refuse node pools of a cluster that has none.

    Raises:
        UsageError: It is an Autopilot cluster.
    """
    if mode == "autopilot":
        raise UsageError(
            f"cluster {cluster!r} is an Autopilot cluster, which has no node pools to be made",
            value=cluster,
            hint="leave --accelerator out: GKE makes nodes with the accelerator that a run asks "
            "for, and takes them away",
        )


@dataclass(frozen=True, kw_only=True)
class NodePoolResource:
    """A node pool. It goes when its cluster goes: `kinetic nodepools remove` removes one alone.

    Attributes:
        request: What is wanted of the cluster.
        apis: Google's APIs.
        pool: What is wanted of it; None for the pool without accelerators.
    """

    request: SetupRequest
    apis: GoogleApis
    pool: PoolRequest | None = None
    kind: str = KIND

    @property
    def name(self) -> str:
        """Its name."""
        return pool_name(self.pool) if self.pool else names.DEFAULT_POOL

    @property
    def target(self) -> GkeTarget:
        """The cluster that it is in."""
        request = self.request
        return GkeTarget(apis=self.apis, location=request.location, name=request.cluster)

    def creation(self) -> Change:
        """Return what is made where there is no such pool."""
        check_mode(self.request.mode, self.request.cluster)
        return self._change("create", *self._description())

    def compare(self) -> Change:
        """Return what the pool is to be made or changed in.

        Raises:
            ConfigurationError: What is there under this name is another kind of pool, or the zone
                has no such machines.
            UsageError: The cluster has no node pools.
            CloudError: It cannot be looked at.
        """
        cluster = self.target.look()
        if cluster is not None:
            check_mode(cluster_messages.mode_of(cluster), self.request.cluster)
        found = pool_of(cluster, self.name)
        if found is None or found.status.name == "STOPPING":
            other = self._same(cluster)
            if other:
                return self._change("keep", f"node pool {other} has the same accelerator")
            return self._creation_in_project()
        return self._as_there(found).difference(self._wanted(cluster), found)

    def apply(self, tell: Tell) -> None:
        """Make the pool, or change how it is scaled."""
        self.target.take(self._next_step, tell)

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002 - it holds nobody's data
        """Return that nothing is to be done: the cluster's removal tells of its pools."""
        return self._change("keep")

    def remove(self, tell: Tell) -> None:
        """Do nothing: it goes with its cluster."""

    def _change(self, action: Action, *details: str, why: str = "") -> Change:
        cost = costs.pool_cost(self.pool) if self.pool else costs.cpu_pool_cost(self.request)
        return Change(
            kind=self.kind, name=self.name, action=action, details=details, cost=cost, why=why
        )

    def _description(self) -> Iterator[str]:
        least, most = self._limits()
        if self.pool is None:
            yield f"CPU only, {self.request.machine_type}, {least} to {most} nodes"
            return
        wanted = self.pool.accelerator
        way = " on Spot VMs" if wanted.spot else " by flex-start" if wanted.flex else ""
        if wanted.hosts > 1:
            yield f"{wanted.description}{way}, all of them or none"
        else:
            yield f"{wanted.description}{way}, {least} to {most} nodes"
        if self.pool.reservation:
            yield f"nodes of reservation {self.pool.reservation}"

    def _limits(self) -> tuple[int, int]:
        return (0, self.pool.max_nodes) if self.pool else (1, self.request.max_nodes)

    def _creation_in_project(self) -> Change:
        """Return what is made, with what the project's quotas say of it."""
        made = self.creation()
        if self.pool is None:
            return made
        check_zones(self.apis, self.request, self.pool)
        quotas = read_quotas(self.apis, self.request.region) or ()
        short = shortages([self.pool], quotas, self.request.project)
        return self._change("create", *made.details, *(f"warning: {words}" for _, words in short))

    def difference(self, wanted: PoolMessage, found: PoolMessage) -> Change:
        """Return what a pool is to be changed in.

        Args:
            wanted: As it is wanted.
            found: As it is.

        Raises:
            ConfigurationError: It is another kind of pool.
        """
        differing = list(messages.fixed_differences(wanted, found))
        is_ours = messages.is_made_here(found, self.request.cluster)
        if is_ours and found.status.name == "ERROR":
            failed = f"it could not be made: {found.status_message or 'GKE does not say why'}"
            return self._change("change", failed, "it is removed and made anew")
        if differing:
            raise _cannot_be_changed(self, differing)
        if not is_ours:
            return self._change("leave", why=OF_OTHERS)
        if found.status.name == "PROVISIONING":
            return self._change("change", "it is being made")
        scaling = self._scaling(found)
        why = found.status_message if found.status.name == "RUNNING_WITH_ERROR" else ""
        return self._change("change", scaling) if scaling else self._change("keep", why=why)

    def _scaling(self, found: PoolMessage) -> str:
        """Return what the scaling is changed in, in words; empty where it is as wanted."""
        now, wanted = messages.limits(found), self._limits()
        if now == wanted:
            return ""
        are = f"{now[0]} to {now[1]} nodes" if now else "a fixed number of nodes"
        return f"{wanted[0]} to {wanted[1]} nodes, now {are}"

    def _as_there(self, found: PoolMessage) -> NodePoolResource:
        """Return what is wanted with the limit of the pool that is there, where nobody said one."""
        now = messages.limits(found)
        if self.pool is None or not self.pool.keeps_limit or now is None:
            return self
        return replace(self, pool=replace(self.pool, max_nodes=now[1]))

    def _wanted(self, cluster: Cluster | None) -> PoolMessage:
        if self.pool is None:
            return messages.cpu_pool(self.request)
        account = None
        if cluster is not None and not cluster_messages.is_made_here(cluster):
            # Of somebody else's cluster, nodes are what its other nodes are.
            account = next((each.config.service_account for each in cluster.node_pools), None)
        return messages.accelerator_pool(self.request, self.pool, account=account)

    def _same(self, cluster: Cluster | None) -> str | None:
        """Return the name of a pool that has what is wanted, under whatever name."""
        if cluster is None or self.pool is None or self.pool.reservation:
            return None
        accelerator = self.pool.accelerator
        for message, each in zip(cluster.node_pools, node_pools(cluster), strict=True):
            if message.status.name in ("STOPPING", "ERROR"):
                continue
            ways = (each.spot, each.flex) == (accelerator.spot, accelerator.flex)
            is_same = each.offers(accelerator) and ways
            if is_same and each.count_per_host == accelerator.count_per_host:
                return each.name
        return None

    def _next_step(self, cluster: Cluster | None) -> Step | None:
        if cluster is None:
            raise no_cluster(self.request)
        check_mode(cluster_messages.mode_of(cluster), self.request.cluster)
        found = pool_of(cluster, self.name)
        if found is None:
            return None if self._same(cluster) else self._making(cluster)
        return self._as_there(found).step_from(cluster, found)

    def step_from(self, cluster: Cluster, found: PoolMessage) -> Step | None:
        """Return what is done next with a pool that is there; None for nothing.

        Args:
            cluster: The cluster.
            found: The pool.
        """
        if not self.difference(self._wanted(cluster), found).is_needed:
            return None
        if found.status.name == "ERROR":
            return removal(self.target, self.name)
        if not self._scaling(found):
            return None  # it was being made
        least, most = self._limits()
        scaled = {
            "name": f"{self.target.path}/nodePools/{self.name}",
            "autoscaling": messages.autoscaling_as(found, least, most),
        }
        return Step(
            what=f"scale node pool {self.name} from {least} to {most} nodes",
            start=partial(self.apis.container.set_node_pool_autoscaling, request=scaled),
            doing=f"being scaled from {least} to {most} nodes",
        )

    def _making(self, cluster: Cluster) -> Step:
        made = {"parent": self.target.path, "node_pool": self._wanted(cluster)}
        return Step(
            what=f"make node pool {self.name}",
            start=partial(self.apis.container.create_node_pool, request=made),
        )


@dataclass(frozen=True, kw_only=True)
class JoinedPools:
    """The node pools that were made here in somebody else's cluster.

    Attributes:
        request: What is wanted of the cluster.
        apis: Google's APIs.
    """

    request: SetupRequest
    apis: GoogleApis
    kind: str = "node pools"

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.request.cluster

    @property
    def target(self) -> GkeTarget:
        """The cluster that they are in."""
        return GkeTarget(apis=self.apis, location=self.request.location, name=self.name)

    def creation(self) -> Change:
        """Return that nothing is to be done."""
        return Change(kind=self.kind, name=self.name, action="keep")

    def compare(self) -> Change:
        """Return that nothing is to be done: `kinetic nodepools add` makes them.

        Raises:
            UsageError: Some are wanted with the cluster.
        """
        if self.request.pools:
            wanted = " ".join(str(pool.accelerator) for pool in self.request.pools)
            raise UsageError(
                f"cluster {self.name!r} was made elsewhere: it is left as it is, and "
                "--accelerator makes node pools",
                value=wanted,
                hint=f"leave --accelerator out, and make them with: kinetic nodepools add {wanted}",
            )
        return self.creation()

    def apply(self, tell: Tell) -> None:
        """Do nothing."""

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002 - they hold nobody's data
        """Return which of them are removed."""
        cluster = self.target.look()
        made = self._made(cluster) if cluster else []
        if not made:
            return self.creation()
        return Change(kind=self.kind, name=", ".join(made), action="remove")

    def remove(self, tell: Tell) -> None:
        """Remove them."""
        self.target.take(self._next_step, tell)

    def _made(self, cluster: Cluster) -> list[str]:
        pools = cluster.node_pools
        return [each.name for each in pools if messages.is_made_here(each, cluster.name)]

    def _next_step(self, cluster: Cluster | None) -> Step | None:
        made = self._made(cluster) if cluster else []
        return removal(self.target, made[0]) if made else None


def removal(target: GkeTarget, pool: str) -> Step:
    """Return what removes a node pool.

    Args:
        target: The cluster.
        pool: The pool's name.
    """
    path = f"{target.path}/nodePools/{pool}"
    delete: Any = partial(target.apis.container.delete_node_pool, name=path)
    return Step(what=f"remove node pool {pool}", start=delete, doing="being removed")


def no_cluster(request: SetupRequest) -> ConfigurationError:
    """Return what to raise where there is no cluster to have node pools."""
    return ConfigurationError(
        f"project {request.project} has no cluster {request.cluster!r} in {request.location}",
        value=request.cluster,
        hint="make it with `kinetic up`, or name another with --cluster and --zone",
    )


def _cannot_be_changed(resource: NodePoolResource, differing: list[str]) -> ConfigurationError:
    if resource.pool is None:
        hint = "leave --machine-type as it is, or give the cluster another name with --cluster"
    else:
        hint = f"remove it first: kinetic nodepools remove {resource.name}"
    return ConfigurationError(
        f"node pool {resource.name!r} is another one, and cannot be changed in this "
        f"({'; '.join(differing)})",
        value=resource.name,
        hint=hint,
    )
