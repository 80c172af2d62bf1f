"""The node pools of a cluster that is there: adding to them, and removing of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.kubernetes.access import GkeCluster
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.core.errors import ConfigurationError, UsageError
from kinetic_flows.platforms.gke.pool_use import PoolUse, read_use
from kinetic_flows.platforms.gke.setup import names
from kinetic_flows.platforms.gke.setup.clusters.cluster_messages import is_made_here, mode_of
from kinetic_flows.platforms.gke.setup.clusters.node_pools import (
    NodePoolResource,
    check_mode,
    no_cluster,
    removal,
)
from kinetic_flows.platforms.gke.setup.clusters.pool_list import FoundPool, found_pools, named_pool
from kinetic_flows.platforms.gke.setup.clusters.turns import GkeTarget, Step, pool_of
from kinetic_flows.platforms.gke.setup.kubernetes.kueue import queue_of
from kinetic_flows.platforms.gke.setup.model import Change, Stage, Tell, Wanted
from kinetic_flows.platforms.gke.setup.request import PoolRequest, SetupRequest

if TYPE_CHECKING:
    from google.cloud.container_v1 import Cluster


@dataclass(frozen=True, kw_only=True)
class PoolAdmin:
    """The node pools of one cluster.

    Attributes:
        request: Says which cluster.
        apis: Google's APIs.
    """

    request: SetupRequest
    apis: GoogleApis

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.request.cluster

    @property
    def target(self) -> GkeTarget:
        """The cluster in the Kubernetes Engine API."""
        return GkeTarget(apis=self.apis, location=self.request.location, name=self.name)

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster as it was when it was first looked at.

        Raises:
            ConfigurationError: There is none.
            CloudError: It cannot be looked at.
        """
        found = self.target.look()
        if found is None:
            raise no_cluster(self.request)
        return found

    @property
    def is_autopilot(self) -> bool:
        """Whether GKE makes the nodes, without node pools."""
        return mode_of(self.cluster) == "autopilot"

    def found(self) -> tuple[FoundPool, ...]:
        """Return the node pools; those that GKE makes on Autopilot are its own affair."""
        return () if self.is_autopilot else found_pools(self.cluster)

    def use(self, pools: Sequence[FoundPool]) -> Mapping[str, PoolUse]:
        """Return what is on node pools now, by their names.

        Args:
            pools: Those that `found` returned.

        Raises:
            LaunchError: The cluster refuses, or does not answer in time.
        """
        access = GkeCluster(
            project=self.request.project,
            location=self.request.location,
            name=self.name,
            endpoint=self.apis.endpoints.url("container"),
            credentials=self.apis.credentials,
        )
        client = KubernetesClient(access)
        try:
            return read_use(client, [pool.pool for pool in pools], self.request.namespace)
        finally:
            client.close()

    def adding(self, pools: Sequence[PoolRequest]) -> tuple[Stage, ...]:
        """Return what makes node pools, or changes their limits.

        Args:
            pools: What is wanted.

        Raises:
            UsageError: The cluster has no node pools.
        """
        check_mode(mode_of(self.cluster), self.name)
        request = replace(self.request, joins=not is_made_here(self.cluster))
        resources = tuple(
            NodePoolResource(request=request, apis=self.apis, pool=pool) for pool in pools
        )
        return (Stage(title="node pools", resources=resources),)

    def removable(self, texts: Sequence[str]) -> tuple[FoundPool, ...]:
        """Return the node pools that are meant, all of which may be removed.

        Args:
            texts: Their names, or their accelerators.

        Raises:
            ConfigurationError: There is no such pool, or it was made elsewhere.
            UsageError: It is the one that the cluster itself runs on.
        """
        check_mode(mode_of(self.cluster), self.name)
        known = self.found()
        pools = tuple(dict.fromkeys(named_pool(known, text, self.name) for text in texts))
        for pool in pools:
            self._check_removable(pool)
        return pools

    def removing(self, pools: Sequence[FoundPool]) -> tuple[Stage, ...]:
        """Return what removes node pools.

        Args:
            pools: Those that `removable` returned.
        """
        resources = tuple(PoolRemoval(target=self.target, name=pool.name) for pool in pools)
        return (Stage(title="node pools", resources=resources),)

    def follow(self) -> bool:
        """Bring the queue of runs, where there is one, to what the node pools are now.

        Returns:
            Whether something was changed.

        Raises:
            KineticError: It cannot be looked at, or changed.
        """
        return queue_of(Wanted(request=self.request, apis=self.apis)).follow(lambda _: None)

    def _check_removable(self, pool: FoundPool) -> None:
        if pool.name == names.DEFAULT_POOL:
            raise UsageError(
                f"node pool {pool.name} is where the cluster's own pods are",
                value=pool.name,
                hint="it goes with the cluster: kinetic down",
            )
        if not pool.is_made_here:
            raise ConfigurationError(
                f"node pool {pool.name} was made elsewhere",
                value=pool.name,
                hint=f"if it is yours: gcloud container node-pools delete {pool.name} "
                f"--cluster={self.name} --location={self.request.location} "
                f"--project={self.request.project}",
            )


@dataclass(frozen=True, kw_only=True)
class PoolRemoval:
    """A node pool that is removed from a cluster which stays.

    Attributes:
        target: The cluster.
        name: The pool's name.
    """

    target: GkeTarget
    name: str
    kind: str = "node pool"

    def creation(self) -> Change:
        """Return that nothing is made."""
        return Change(kind=self.kind, name=self.name, action="keep")

    def compare(self) -> Change:
        """Return whether it is there, and so to be removed."""
        return self.plan_removal(purge=False)

    def apply(self, tell: Tell) -> None:
        """Remove it."""
        self.remove(tell)

    def plan_removal(self, *, purge: bool) -> Change:  # noqa: ARG002 - it holds nobody's data
        """Return whether it is there, and so to be removed."""
        there = pool_of(self.target.look(), self.name)
        return Change(kind=self.kind, name=self.name, action="remove" if there else "keep")

    def remove(self, tell: Tell) -> None:
        """Remove it, and wait until it is gone."""
        self.target.take(self._next_step, tell)

    def _next_step(self, cluster: Cluster | None) -> Step | None:
        return removal(self.target, self.name) if pool_of(cluster, self.name) else None
