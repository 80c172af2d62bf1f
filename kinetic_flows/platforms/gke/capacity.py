"""What a cluster's nodes have, and what of it is free now."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping
from http import HTTPStatus
from importlib import import_module
from typing import Any, TypeVar

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    KubernetesUnreachable,
)
from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.core.accelerators.model import GPU_RESOURCE, TPU_RESOURCE
from kinetic_flows.core.launcher import PoolRoom
from kinetic_flows.platforms.gke.cluster_pools import read_pools
from kinetic_flows.platforms.gke.diagnosis import launch_error

CAPACITY_SECONDS = 5.0

UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"
_CHIPS = (TPU_RESOURCE, GPU_RESOURCE)

T = TypeVar("T")


def node_pools(client: KubernetesClient) -> tuple[NodePool, ...] | None:
    """Return a cluster's node pools, those without nodes too where GKE itself is asked.

    Args:
        client: The cluster.

    Raises:
        LaunchError: It does not tell.
    """
    try:
        return client.spawn(read_node_pools(client)).result()[0]
    except KubernetesRefused as refusal:
        raise launch_error(refusal, "list the nodes") from refusal


def rooms(client: KubernetesClient) -> tuple[PoolRoom, ...] | None:
    """Return a cluster's node pools with what is free in them; None where nodes are not shown.

    Args:
        client: The cluster.

    Raises:
        LaunchError: It does not answer in time, or refuses.
    """
    return told_within(CAPACITY_SECONDS, client, read_rooms(client))


def told_within(seconds: float, client: KubernetesClient, reading: Coroutine[Any, Any, T]) -> T:
    """Return what a cluster tells of its nodes and pods.

    Args:
        seconds: How long it may take.
        client: The cluster.
        reading: What asks it.

    Raises:
        LaunchError: It does not answer in time, or refuses.
    """
    # What its import takes is not the cluster's time.
    import_module("kubernetes_asyncio.client")
    try:
        return client.spawn(asyncio.wait_for(reading, seconds)).result()
    except KubernetesRefused as refusal:
        raise launch_error(refusal, "list nodes and pods") from refusal
    except TimeoutError as error:
        raise KubernetesUnreachable(
            f"the cluster did not tell of its nodes within {seconds:g} seconds",
            hint="is this network among the cluster's authorised networks?",
        ) from error


async def read_node_pools(
    client: KubernetesClient,
) -> tuple[tuple[NodePool, ...] | None, bool]:
    """Return the cluster's node pools (None if they are secret), and whether these are all."""
    found = await read_pools(client)
    return found.pools, found.is_complete


async def read_rooms(client: KubernetesClient) -> tuple[PoolRoom, ...] | None:
    """Return a cluster's node pools with their nodes' chips, and how many of those are free.

    Args:
        client: The cluster.

    Returns:
        The pools by name, those without nodes where GKE itself is asked; None where these
        credentials may not list nodes.

    Raises:
        KineticError: The cluster cannot be reached.
    """
    (pools, _), nodes, pods = await asyncio.gather(
        read_node_pools(client),
        list_if_allowed(client, "/api/v1/nodes"),
        list_if_allowed(client, "/api/v1/pods", {"fieldSelector": UNFINISHED}),
    )
    if pools is None or nodes is None:
        return None if pools is None else tuple(PoolRoom(pool=pool) for pool in pools)
    return rooms_of(pools, nodes, pods)


def rooms_of(
    pools: Iterable[NodePool],
    nodes: Iterable[Mapping[str, Any]],
    pods: Iterable[Mapping[str, Any]] | None,
) -> tuple[PoolRoom, ...]:
    """Add up what nodes have and what pods take of it, by node pool.

    Args:
        pools: The cluster's node pools.
        nodes: Its nodes.
        pods: Its pods that have not ended; None where they may not be listed.
    """
    pool_of: dict[str, str] = {}
    chips: Counter[str] = Counter()
    for node in nodes:
        name = pool_of[node["metadata"]["name"]] = NodePool.from_node(node).name
        status = node.get("status") or {}
        chips[name] += _chips(status.get("allocatable") or status.get("capacity") or {})
    counted = Counter(pool_of.values())
    taken: Counter[str] = Counter()
    for pod in pods or ():
        bound = pool_of.get((pod.get("spec") or {}).get("nodeName") or "")
        if bound:
            taken[bound] += sum(map(_requested, pod["spec"].get("containers") or ()))
    return tuple(
        PoolRoom(
            pool=pool,
            nodes=counted[pool.name],
            chips=chips[pool.name],
            free_chips=None if pods is None else max(chips[pool.name] - taken[pool.name], 0),
        )
        for pool in sorted(pools, key=lambda each: each.name)
    )


def _requested(container: Mapping[str, Any]) -> int:
    resources = container.get("resources") or {}
    return _chips(resources.get("requests") or resources.get("limits") or {})


def _chips(amounts: Mapping[str, Any]) -> int:
    return sum(int(amounts.get(name) or 0) for name in _CHIPS)


async def list_if_allowed(
    client: KubernetesClient, path: str, query: Mapping[str, str] | None = None
) -> list[dict[str, Any]] | None:
    """Return objects, for work that was spawned; None for those who may not list them.

    Args:
        client: The cluster.
        path: The path of their kind.
        query: Selectors.
    """
    try:
        found = await client.ask_within("GET", path, query=query)
    except KubernetesRefused as refusal:
        if refusal.status in (HTTPStatus.FORBIDDEN, HTTPStatus.UNAUTHORIZED):
            return None
        raise
    items: list[dict[str, Any]] = found.get("items") or []
    return items
