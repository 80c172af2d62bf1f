"""A cluster's node pools: read from GKE itself where it is asked, and else from the nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from kinetic_flows.clients.kubernetes.access import GkeCluster, describe_gke_cluster
from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused
from kinetic_flows.clients.kubernetes.node_pools import (
    gke_node_pools,
    is_autopilot,
    makes_node_pools,
)
from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.platforms.gke.image_volumes import version_of


@dataclass(frozen=True, kw_only=True)
class ClusterPools:
    """What is known of a cluster's node pools.

    Attributes:
        pools: The node pools; None where they are not shown.
        is_complete: Whether these are all, and no others are made when they are needed.
        makes_pools: Whether it is known to make node pools by itself.
        is_autopilot: Whether it is an Autopilot cluster.
    """

    pools: tuple[NodePool, ...] | None
    is_complete: bool = False
    makes_pools: bool = False
    is_autopilot: bool = False


async def read_pools(client: KubernetesClient) -> ClusterPools:
    """Return what is known of a cluster's node pools.

    Args:
        client: The cluster.

    Raises:
        KineticError: It does not answer.
    """
    access = client.access
    if isinstance(access, GkeCluster):
        described = await asyncio.to_thread(describe_gke_cluster, access)
        return ClusterPools(
            pools=gke_node_pools(described),
            is_complete=not makes_node_pools(described),
            makes_pools=makes_node_pools(described),
            is_autopilot=is_autopilot(described),
        )
    try:
        nodes = await client.ask_within("GET", "/api/v1/nodes")
    except KubernetesRefused as refusal:
        if refusal.status == HTTPStatus.FORBIDDEN:
            return ClusterPools(pools=None)
        raise
    return ClusterPools(pools=oldest_of_each(nodes.get("items") or ()))


def oldest_of_each(nodes: Iterable[Mapping[str, Any]]) -> tuple[NodePool, ...]:
    """Describe each node pool by its oldest node: while it is upgraded, a pod may be on any.

    Args:
        nodes: Nodes as the API lists them.
    """
    by_name: dict[str, NodePool] = {}
    for pool in map(NodePool.from_node, nodes):
        known = by_name.get(pool.name, pool)
        oldest = min(known, pool, key=lambda each: version_of(each.kubelet))
        zones = dict.fromkeys((*known.zones, *pool.zones))
        by_name[pool.name] = replace(oldest, zones=tuple(zones))
    return tuple(by_name.values())
