"""What a cluster's nodes have, and what of it is free now."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from http import HTTPStatus
from importlib import import_module
from typing import Any, TypeVar

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    KubernetesUnreachable,
)
from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.platforms.gke.cluster_pools import read_pools
from kinetic_flows.platforms.gke.diagnosis import launch_error

CAPACITY_SECONDS = 5.0

UNFINISHED = "status.phase!=Succeeded,status.phase!=Failed"

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
