"""A cluster's node pools as they are: what each has, how it is scaled, and whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kinetic_flows.core.accelerators import Accelerator, NodePool
from kinetic_flows.core.accelerators.parsing import accelerator_of, parse_accelerator
from kinetic_flows.core.errors import AcceleratorError, ConfigurationError, suggest
from kinetic_flows.platforms.gke.setup.clusters.cluster import node_pools
from kinetic_flows.platforms.gke.setup.clusters.pool_messages import is_made_here, limits
from kinetic_flows.platforms.gke.setup.clusters.pool_options import pool_name
from kinetic_flows.platforms.gke.setup.request import PoolRequest

if TYPE_CHECKING:
    from google.cloud.container_v1 import Cluster
    from google.cloud.container_v1 import NodePool as PoolMessage


@dataclass(frozen=True, kw_only=True)
class FoundPool:
    """A node pool that a cluster has.

    Attributes:
        pool: What its nodes are.
        accelerator: Its accelerator by our name, `cpu` for none; None for one that is not known.
        least: How many nodes it has at least; None where it is not scaled.
        most: How many it has at most; likewise.
        reservation: The reservation that its nodes are taken from; empty for none.
        zones: The zones of its nodes.
        status: What GKE says of it: `RUNNING`.
        trouble: What GKE says is wrong with it; empty for nothing.
        is_made_here: Whether it was made by us.
    """

    pool: NodePool
    accelerator: Accelerator | None
    least: int | None
    most: int | None
    reservation: str
    zones: tuple[str, ...]
    status: str
    trouble: str
    is_made_here: bool

    @property
    def name(self) -> str:
        """Its name."""
        return self.pool.name

    @property
    def scaling(self) -> str:
        """How it is scaled, in words."""
        if self.least is None:
            return "fixed"
        if self.accelerator and self.accelerator.hosts > 1 and not self.least:
            return f"0 or {self.most}"
        return f"{self.least} to {self.most}"

    def notes(self) -> Iterator[str]:
        """Yield what else there is to be said of it."""
        if self.status != "RUNNING":
            yield self.status.lower().replace("_", " ")
        if self.trouble:
            yield self.trouble
        if self.reservation:
            yield f"reservation {self.reservation}"
        if not self.is_made_here:
            yield "made elsewhere"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, for machines."""
        return {
            "name": self.name,
            "accelerator": str(self.accelerator) if self.accelerator else None,
            "machine_type": self.pool.machine_type,
            "spot": self.pool.spot,
            "flex": self.pool.flex,
            "topology": self.pool.topology,
            "min_nodes": self.least,
            "max_nodes": self.most,
            "reservation": self.reservation or None,
            "zones": list(self.zones),
            "status": self.status,
            "trouble": self.trouble or None,
            "is_made_here": self.is_made_here,
        }


def found_pools(cluster: Cluster) -> tuple[FoundPool, ...]:
    """Return a cluster's node pools, in their order.

    Args:
        cluster: The cluster as the Kubernetes Engine API has it.
    """
    both = zip(cluster.node_pools, node_pools(cluster), strict=True)
    return tuple(_found(message, pool, cluster.name) for message, pool in both)


def named_pool(pools: tuple[FoundPool, ...], text: str, cluster: str) -> FoundPool:
    """Return the node pool that somebody means.

    Args:
        pools: Those that there are.
        text: Its name, or its accelerator's as `accelerator=` takes it.
        cluster: The cluster's name.

    Raises:
        ConfigurationError: There is none.
    """
    by_name = {pool.name: pool for pool in pools}
    if text in by_name:
        return by_name[text]
    try:
        accelerator = parse_accelerator(text)
    except AcceleratorError:
        accelerator = None
    if accelerator is not None:
        usual = pool_name(PoolRequest(accelerator=accelerator))
        if usual in by_name:
            return by_name[usual]
        fitting = [pool for pool in pools if pool.accelerator == accelerator]
        if len(fitting) == 1:
            return fitting[0]
    raise ConfigurationError(
        f"cluster {cluster} has no node pool {text!r}",
        value=text,
        hint=suggest(text, by_name) if by_name else "it has none",
    )


def _found(message: PoolMessage, pool: NodePool, cluster: str) -> FoundPool:
    scaled = limits(message)
    least, most = scaled if scaled else (None, None)
    return FoundPool(
        pool=pool,
        accelerator=accelerator_of(pool),
        least=least,
        most=most,
        reservation=", ".join(message.config.reservation_affinity.values),
        zones=tuple(message.locations),
        status=message.status.name,
        trouble=message.status_message,
        is_made_here=is_made_here(message, cluster),
    )
