"""Whether a cluster has, or may get, nodes that a run's pods can be on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus

from kinetic_flows.clients.kubernetes.access import GkeCluster
from kinetic_flows.clients.kubernetes.client import KubernetesClient, KubernetesRefused
from kinetic_flows.core.accelerators import Accelerator, NodePool
from kinetic_flows.core.accelerators.node_pools import (
    ANY_RESERVATION,
    COMPUTE_CLASS_LABEL,
    NODE_POOL_LABEL,
    RESERVATION_AFFINITY_LABEL,
)
from kinetic_flows.core.accelerators.node_requests import NodeRequest
from kinetic_flows.core.launcher import Preflight
from kinetic_flows.platforms.gke.cluster_pools import ClusterPools, oldest_of_each, read_pools
from kinetic_flows.platforms.gke.image_volumes import node_obstacle
from kinetic_flows.platforms.gke.pool_choice import choose_pools, listed
from kinetic_flows.platforms.gke.preflight_request import PreflightRequest
from kinetic_flows.platforms.gke.requests import too_much
from kinetic_flows.platforms.gke.rights import FLEX_START, lacking_rights

COMPUTE_CLASSES = "/apis/cloud.google.com/v1/computeclasses"

_NODE_FIELDS = re.compile(
    r"spec\.template\.spec\.(?:nodeSelector|affinity|tolerations|topologySpreadConstraints)\b"
)

GOOGLES_CLASSES = frozenset(
    {
        *("Accelerator", "Balanced", "General-purpose", "Performance", "Scale-Out"),
        *("autopilot", "autopilot-arm", "autopilot-spot", "autopilot-arm-spot"),
    }
)
"""Compute classes that GKE brings along, which are no objects of the cluster.

https://cloud.google.com/kubernetes-engine/docs/concepts/about-compute-classes
"""


async def check_node_pools(client: KubernetesClient, asked: PreflightRequest) -> Preflight:
    """Look for a node pool that a run's pods can be on, for work that was spawned."""
    found = await read_pools(client)
    if found.pools is None:
        return Preflight()
    if found.is_autopilot and (refused := _refused_by_autopilot(asked.nodes)):
        return Preflight(problems=(refused,))
    choice = choose_pools(found.pools, asked.accelerator, asked.nodes)
    if choice.fitting:
        lacking = (
            too_much(asked.accelerator, asked.requests, choice.fitting),
            too_few(asked.accelerator, choice.fitting),
        )
        told = tuple(filter(None, lacking))
        return Preflight(
            problems=told if found.is_complete else (),
            # Where nodes alone tell of pools, one that has none yet may have larger ones.
            warnings=() if found.is_complete else told,
            node_pools=found.pools if found.is_complete else None,
            no_image_volumes=_node_obstacle(choice.fitting, asked),
            makes_pools=found.makes_pools,
            seen_pools=choice.fitting,
        )
    if found.is_complete and COMPUTE_CLASS_LABEL not in asked.nodes.labels:
        return Preflight(problems=(choice.missing,), node_pools=found.pools)
    missing = _not_yet(choice.missing, found, asked)
    return Preflight(warnings=(missing,), makes_pools=found.makes_pools)


def too_few(accelerator: Accelerator, fitting: Sequence[NodePool]) -> str:
    """Say that there are not as many node pools as slices; empty where there are.

    A node pool of TPUs with several hosts is one slice
    (https://cloud.google.com/kubernetes-engine/docs/concepts/tpus#node_pool).
    """
    slices = accelerator.slices
    if slices <= len(fitting):
        return ""
    return (
        f"{slices} slices of {accelerator} need as many node pools of it, and there are "
        f"{len(fitting)}: {listed(fitting)}; `kinetic nodepools add {accelerator}` makes one more"
    )


def _not_yet(missing: str, found: ClusterPools, asked: PreflightRequest) -> str:
    """Say that there is no node yet: a pool scaled to zero shows none, and one may be made."""
    asks_for_more = bool(asked.nodes.labels) or asked.accelerator.spot or asked.accelerator.flex
    if asks_for_more and any(pool.offers(asked.accelerator) for pool in found.pools or ()):
        return f"no node fits yet: {missing}"
    return f"no node yet has {asked.accelerator}; there are: {listed(found.pools or ())}"


def _refused_by_autopilot(nodes: NodeRequest) -> str:
    """Say what Autopilot clusters do not have; empty for nothing.

    https://cloud.google.com/kubernetes-engine/docs/concepts/autopilot-overview and
    https://cloud.google.com/kubernetes-engine/docs/how-to/consuming-reservations
    """
    if NODE_POOL_LABEL in nodes.labels:
        named = " or ".join(nodes.labels[NODE_POOL_LABEL])
        return (
            f"node_pool names {named}, and an Autopilot cluster makes its nodes by itself: leave it"
            " out, or say compute_class="
        )
    if ANY_RESERVATION in nodes.labels.get(RESERVATION_AFFINITY_LABEL, ()):
        return (
            "reservation is 'any', and an Autopilot cluster uses none but those that are named: "
            "name one"
        )
    return ""


async def check_nodes(client: KubernetesClient, asked: PreflightRequest) -> Preflight:
    """Look at what nodes run containers with, which GKE does not tell of its node pools."""
    if not asked.mounts_image or not isinstance(client.access, GkeCluster):
        return Preflight()
    try:
        nodes = await client.ask_within("GET", "/api/v1/nodes")
    except KubernetesRefused as refusal:
        if refusal.status == HTTPStatus.FORBIDDEN:
            return Preflight()
        raise
    pools = oldest_of_each(nodes.get("items") or ())
    fitting = choose_pools(pools, asked.accelerator, asked.nodes).fitting
    return Preflight(no_image_volumes=_node_obstacle(fitting, asked))


async def check_compute_class(client: KubernetesClient, asked: PreflightRequest) -> Preflight:
    """Look for the compute class that pods ask for, for work that was spawned."""
    names = set(asked.nodes.labels.get(COMPUTE_CLASS_LABEL, ())) - GOOGLES_CLASSES
    if not names:
        return Preflight()
    try:
        found = await client.ask_within("GET", COMPUTE_CLASSES)
    except KubernetesRefused as refusal:
        if refusal.status == HTTPStatus.FORBIDDEN:
            return Preflight()
        if refusal.status != HTTPStatus.NOT_FOUND:
            raise
        found = {}
    known = sorted(each["metadata"]["name"] for each in found.get("items") or ())
    return Preflight(
        problems=tuple(
            f"the cluster has no compute class {name!r}; it has: {', '.join(known) or 'none'}"
            for name in sorted(names.difference(known))
        )
    )


async def check_flex_start(client: KubernetesClient, asked: PreflightRequest) -> Preflight:
    """Ask whether this user may ask for all nodes of a slice at once, for work that was spawned."""
    is_slice = asked.accelerator.flex and asked.accelerator.hosts > 1
    if not is_slice or asked.nodes.is_queued_elsewhere:
        return Preflight()
    return Preflight(problems=await lacking_rights(client, asked.namespace, FLEX_START))


def is_about_nodes(refusal: str, nodes: NodeRequest) -> bool:
    """Whether the refusal of a Job is about the nodes that its pods ask for.

    Args:
        refusal: What the API server answered.
        nodes: What the pods ask of nodes.
    """
    selectors = nodes.pod.get("nodeSelector") or {}
    labels = (*selectors, *nodes.labels)
    return bool(_NODE_FIELDS.search(refusal)) or any(label in refusal for label in labels)


def _node_obstacle(pools: Iterable[NodePool], asked: PreflightRequest) -> str | None:
    return node_obstacle(pools, asked.server) if asked.mounts_image else None
