"""What is free on a cluster's node pools, which runs wait for them, and why none was added."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.core.accelerators.model import GPU_RESOURCE, TPU_RESOURCE
from kinetic_flows.core.pool_rooms import FailedScaleUp, PoolRoom, WaitingRun
from kinetic_flows.core.quantities import cpu_millis
from kinetic_flows.platforms.gke.autoscaler import failed_scale_up
from kinetic_flows.platforms.gke.capacity import (
    CAPACITY_SECONDS,
    UNFINISHED,
    list_if_allowed,
    read_node_pools,
    told_within,
)
from kinetic_flows.platforms.gke.diagnosis import moment_of
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL
from kinetic_flows.platforms.gke.pool_use import job_of

_CHIPS = (TPU_RESOURCE, GPU_RESOURCE)

Objects = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class ClusterObjects:
    """What a cluster shows, as far as these credentials may look; None for what they may not.

    Attributes:
        nodes: Its nodes.
        pods: Its pods that have not ended.
        jobs: The Jobs of runs, of which those that a queue holds back have no pods.
        events: What its autoscaler said of nodes that it added, or could not add.
    """

    nodes: Objects | None = None
    pods: Objects | None = None
    jobs: Objects | None = None
    events: Objects | None = None


def rooms(client: KubernetesClient) -> tuple[PoolRoom, ...] | None:
    """Return a cluster's node pools with what is free in them; None where nodes are not shown.

    Args:
        client: The cluster.

    Raises:
        LaunchError: It does not answer in time, or refuses.
    """
    return told_within(CAPACITY_SECONDS, client, read_rooms(client))


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
    (pools, _), nodes, pods, jobs, failed, added = await asyncio.gather(
        read_node_pools(client),
        list_if_allowed(client, "/api/v1/nodes"),
        list_if_allowed(client, "/api/v1/pods", {"fieldSelector": UNFINISHED}),
        list_if_allowed(client, "/apis/batch/v1/jobs", {"labelSelector": RUN_ID_POD_LABEL}),
        list_if_allowed(client, "/api/v1/events", {"fieldSelector": "reason=FailedScaleUp"}),
        list_if_allowed(client, "/api/v1/events", {"fieldSelector": "reason=TriggeredScaleUp"}),
    )
    if pools is None:
        return None
    events = None if failed is None else [*failed, *(added or ())]
    return rooms_of(pools, ClusterObjects(nodes=nodes, pods=pods, jobs=jobs, events=events))


def rooms_of(pools: Iterable[NodePool], shown: ClusterObjects) -> tuple[PoolRoom, ...]:
    """Add up what nodes have and what pods take of it, by node pool.

    Args:
        pools: The cluster's node pools.
        shown: What else it shows.
    """
    known = sorted(pools, key=lambda each: each.name)
    if shown.nodes is None:
        return tuple(PoolRoom(pool=pool) for pool in known)
    taken = _taken(shown.pods or ())
    nodes: dict[str, list[tuple[int, int, int, int]]] = defaultdict(list)
    for node in shown.nodes:
        status = node.get("status") or {}
        amounts = status.get("allocatable") or status.get("capacity") or {}
        chips, millis = _chips(amounts), cpu_millis(amounts.get("cpu")) or 0
        used_chips, used_millis = taken.get(node["metadata"]["name"], (0, 0))
        left = (max(chips - used_chips, 0), max(millis - used_millis, 0))
        nodes[NodePool.from_node(node).name].append((chips, millis, *left))
    return tuple(_room(pool, nodes[pool.name], shown) for pool in known)


def _room(
    pool: NodePool, nodes: Sequence[tuple[int, int, int, int]], shown: ClusterObjects
) -> PoolRoom:
    chips, millis, free, free_millis = map(sum, zip(*nodes, strict=True)) if nodes else (0,) * 4
    are_known = shown.pods is not None
    return PoolRoom(
        pool=pool,
        nodes=len(nodes),
        chips=chips,
        free_chips=free if are_known else None,
        free_by_node=tuple(each[2] for each in nodes),
        cpu_millis=millis,
        free_cpu_millis=free_millis if are_known else None,
        waiting=_waiting(pool, shown) if are_known else None,
        failure=_failure(pool, shown),
    )


def _taken(pods: Objects) -> dict[str, tuple[int, int]]:
    """Return the chips and the thousandths of a CPU that pods ask of each node."""
    taken: dict[str, tuple[int, int]] = {}
    for pod in pods:
        spec = pod.get("spec") or {}
        if node := spec.get("nodeName"):
            asked = list(map(_requested, spec.get("containers") or ()))
            chips, millis = taken.get(node, (0, 0))
            taken[node] = (
                chips + sum(_chips(each) for each in asked),
                millis + sum(cpu_millis(each.get("cpu")) or 0 for each in asked),
            )
    return taken


def _requested(container: Mapping[str, Any]) -> Mapping[str, Any]:
    resources = container.get("resources") or {}
    return {**(resources.get("limits") or {}), **(resources.get("requests") or {})}


def _chips(amounts: Mapping[str, Any]) -> int:
    return sum(int(amounts.get(name) or 0) for name in _CHIPS)


def _waiting(pool: NodePool, shown: ClusterObjects) -> tuple[WaitingRun, ...]:
    """Return the runs that wait for one of a pool's nodes, those that waited longest first."""
    held = [job for job in shown.jobs or () if (job.get("spec") or {}).get("suspend")]
    specs = [(pod, pod.get("spec") or {}, job_of(pod)) for pod in shown.pods or ()]
    specs += [(job, job["spec"]["template"]["spec"], job["metadata"]["name"]) for job in held]
    found: dict[str, WaitingRun] = {}
    started = {_run_of(each) for each, spec, _ in specs if spec.get("nodeName")}
    for each, spec, job in specs:
        run_id = _run_of(each)
        if run_id and run_id not in started and _wants(spec, pool):
            since = each["metadata"].get("creationTimestamp")
            found[run_id] = WaitingRun(
                run_id=run_id,
                name=job.partition(f"-{run_id}")[0],
                since=datetime.fromisoformat(since) if since else None,
            )
    return tuple(sorted(found.values(), key=lambda run: (str(run.since or ""), run.run_id)))


def _run_of(item: Mapping[str, Any]) -> str:
    return str((item["metadata"].get("labels") or {}).get(RUN_ID_POD_LABEL) or "")


def _wants(spec: Mapping[str, Any], pool: NodePool) -> bool:
    """Whether a pod without a node could be on a pool's nodes, as far as their labels tell."""
    selector: Mapping[str, str] = spec.get("nodeSelector") or {}
    asks = any(_chips(_requested(each)) for each in spec.get("containers") or ())
    if not pool.may_have(selector) or pool.untolerated(spec.get("tolerations") or ()):
        return False
    return pool.accelerator in selector.values() if pool.accelerator else not asks


def _failure(pool: NodePool, shown: ClusterObjects) -> FailedScaleUp | None:
    """Return the last time that a node could not be added to a pool, as far as it is told."""
    specs = {each["metadata"].get("uid"): each.get("spec") or {} for each in shown.pods or ()}
    triggered = defaultdict(set)
    for event in shown.events or ():
        if event.get("reason") == "TriggeredScaleUp":
            triggered[_about(event)].add(str(event.get("message") or ""))
    failed = [
        event
        for event in shown.events or ()
        if event.get("reason") == "FailedScaleUp"
        and _is_of(pool, specs.get(_about(event)), triggered[_about(event)])
    ]
    if not failed:
        return None
    last = max(failed, key=moment_of)
    at = moment_of(last)
    return FailedScaleUp(
        message=failed_scale_up(str(last.get("message") or "")).message,
        at=datetime.fromisoformat(at) if at else None,
    )


def _about(event: Mapping[str, Any]) -> str:
    return str((event.get("involvedObject") or {}).get("uid") or "")


def _is_of(pool: NodePool, spec: Mapping[str, Any] | None, triggered: set[str]) -> bool:
    """Whether a node could not be added to a pool: the one that was tried, else any that fits.

    An instance group is called `gke-CLUSTER-POOL-HASH-grp`.
    """
    if triggered:
        group = re.compile(rf"-{re.escape(pool.name)}-[0-9a-f]+-grp\b|{{{re.escape(pool.name)} ")
        return any(map(group.search, triggered))
    return spec is not None and _wants(spec, pool)
