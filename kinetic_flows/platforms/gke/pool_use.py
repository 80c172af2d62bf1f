"""What is on a cluster's node pools now: how many nodes, and which runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.kubernetes.client import KubernetesClient, core_path
from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.core.settings.node_variables import asked_labels
from kinetic_flows.platforms.gke.capacity import UNFINISHED, list_if_allowed, told_within
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL

USE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class RunOnPool:
    """A run that a node pool has pods of, or that waits for one of its nodes.

    Attributes:
        run_id: The run's id.
        job: Name of its Job.
        is_waiting: Whether none of its pods has a node yet.
    """

    run_id: str
    job: str
    is_waiting: bool = False

    def __str__(self) -> str:
        waits = ", waiting" if self.is_waiting else ""
        return f"{self.job.partition(self.run_id)[0].rstrip('-')} ({self.run_id[:8]}{waits})"


@dataclass(frozen=True, kw_only=True)
class PoolUse:
    """What is on a node pool.

    Attributes:
        nodes: How many nodes it has; None where nodes may not be listed.
        runs: The runs on it; None where pods may not be listed.
    """

    nodes: int | None
    runs: tuple[RunOnPool, ...] | None


def read_use(
    client: KubernetesClient, pools: Iterable[NodePool], namespace: str
) -> Mapping[str, PoolUse]:
    """Return what is on node pools, by their names.

    Args:
        client: The cluster.
        pools: Its node pools, those without nodes too.
        namespace: Where runs are looked for by those who may not look in all namespaces.

    Raises:
        LaunchError: The cluster refuses, or does not answer in time.
    """
    return use_of(pools, *told_within(USE_SECONDS, client, _read(client, namespace)))


def use_of(
    pools: Iterable[NodePool],
    nodes: Iterable[Mapping[str, Any]] | None,
    pods: Iterable[Mapping[str, Any]] | None,
) -> dict[str, PoolUse]:
    """Return what is on node pools, by their names.

    Args:
        pools: The node pools.
        nodes: The cluster's nodes; None where they may not be listed.
        pods: The runs' pods that have not ended; None where they may not be listed.
    """
    listed = None if nodes is None else list(nodes)
    pool_of = {each["metadata"]["name"]: NodePool.from_node(each).name for each in listed or ()}
    counted = Counter(pool_of.values())
    unfinished = None if pods is None else list(pods)
    return {
        pool.name: PoolUse(
            nodes=None if listed is None else counted[pool.name],
            runs=None if unfinished is None else _runs(pool, unfinished, pool_of),
        )
        for pool in pools
    }


def _runs(
    pool: NodePool, pods: Iterable[Mapping[str, Any]], pool_of: Mapping[str, str]
) -> tuple[RunOnPool, ...]:
    waiting: dict[str, bool] = {}
    jobs: dict[str, str] = {}
    for pod in pods:
        run_id = (pod["metadata"].get("labels") or {}).get(RUN_ID_POD_LABEL)
        spec = pod.get("spec") or {}
        node = spec.get("nodeName")
        # Of a node that is not known, the pool is what its pods ask for.
        known = pool_of.get(node or "")
        if not run_id or not (known == pool.name if known else _wants(spec, pool)):
            continue
        jobs[run_id] = job_of(pod)
        waiting[run_id] = waiting.get(run_id, True) and not node
    return tuple(
        RunOnPool(run_id=run_id, job=jobs[run_id], is_waiting=is_waiting)
        for run_id, is_waiting in sorted(waiting.items(), key=lambda item: (item[1], jobs[item[0]]))
    )


def _wants(spec: Mapping[str, Any], pool: NodePool) -> bool:
    """Whether a pod without a node asks for the accelerator of a pool's nodes."""
    asked = asked_labels(spec)
    return any(pool.accelerator in values for values in asked.values()) and pool.may_have(asked)


def job_of(pod: Mapping[str, Any]) -> str:
    """Return the name of a pod's Job; of one without, its own."""
    owners = pod["metadata"].get("ownerReferences") or ()
    job = next((each["name"] for each in owners if each.get("kind") == "Job"), None)
    return str(job or pod["metadata"]["name"])


async def _read(
    client: KubernetesClient, namespace: str
) -> tuple[list[dict[str, Any]] | None, list[dict[str, Any]] | None]:
    pods_query = {"fieldSelector": UNFINISHED, "labelSelector": RUN_ID_POD_LABEL}
    nodes, pods = await asyncio.gather(
        list_if_allowed(client, "/api/v1/nodes"),
        list_if_allowed(client, "/api/v1/pods", pods_query),
    )
    if pods is None:
        pods = await list_if_allowed(client, core_path(namespace, "pods"), pods_query)
    return nodes, pods
