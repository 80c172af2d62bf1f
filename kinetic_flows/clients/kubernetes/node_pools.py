"""The node pools of a GKE cluster, as the Kubernetes Engine API describes them.

https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/projects.locations.clusters.nodePools
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinetic_flows.core.accelerators import NodePool, list_accelerators
from kinetic_flows.core.accelerators.machines import node_size
from kinetic_flows.core.accelerators.node_pools import (
    ANY_RESERVATION,
    COMPUTE_CLASS_LABEL,
    QUEUED_TAINT,
    Taint,
)


def gke_node_pools(described: Mapping[str, Any]) -> tuple[NodePool, ...]:
    """Return a cluster's node pools, those without nodes too.

    Args:
        described: The cluster as the Kubernetes Engine API describes it.
    """
    return tuple(_node_pool(pool) for pool in described.get("nodePools") or ())


def makes_node_pools(described: Mapping[str, Any]) -> bool:
    """Whether a cluster makes node pools by itself for pods that fit none.

    https://cloud.google.com/kubernetes-engine/docs/concepts/node-auto-provisioning

    Args:
        described: The cluster as the Kubernetes Engine API describes it.
    """
    scaling = described.get("autoscaling") or {}
    return is_autopilot(described) or bool(scaling.get("enableNodeAutoprovisioning"))


def is_autopilot(described: Mapping[str, Any]) -> bool:
    """Whether a cluster is an Autopilot one, whose node pools are Google's own affair.

    https://cloud.google.com/kubernetes-engine/docs/concepts/autopilot-overview

    Args:
        described: The cluster as the Kubernetes Engine API describes it.
    """
    return bool((described.get("autopilot") or {}).get("enabled"))


def _node_pool(pool: Mapping[str, Any]) -> NodePool:
    config = pool.get("config") or {}
    machine_type = str(config.get("machineType") or "")
    labels = config.get("labels") or {}
    accelerator, count, topology = _chips(pool, config)
    least, most = _bounds(pool.get("autoscaling") or {}, len(pool.get("locations") or ()) or 1)
    is_queued = bool((pool.get("queuedProvisioning") or {}).get("enabled"))
    taints = [Taint.of(each) for each in config.get("taints") or ()]
    if is_queued and all(each.key != QUEUED_TAINT for each in taints):
        taints.append(Taint(key=QUEUED_TAINT, value="true"))
    return NodePool(
        name=str(pool.get("name") or "unnamed"),
        accelerator=accelerator,
        count_per_host=count,
        topology=topology,
        machine_type=machine_type,
        spot=bool(config.get("spot")),
        # A queued pool is one of Dynamic Workload Scheduler, under whichever flag it was made.
        flex=bool(config.get("flexStart")) or is_queued,
        is_queued=is_queued,
        max_run_seconds=_seconds(config.get("maxRunDuration")),
        reservation=_reservation(config.get("reservationAffinity") or {}),
        compute_class=labels.get(COMPUTE_CLASS_LABEL),
        zones=tuple(pool.get("locations") or ()),
        taints=tuple(taints),
        least=least,
        most=most,
        kubelet=str(pool.get("version") or ""),
        labels=labels,
        size=node_size(machine_type),
    )


def _chips(
    pool: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[str | None, int | None, str | None]:
    """Return the accelerator of a pool's nodes, how many each has, and the chips' topology."""
    gpu = next(iter(config.get("accelerators") or ()), None)
    topology = (pool.get("placementPolicy") or {}).get("tpuTopology")
    machine_type = str(config.get("machineType") or "")
    rows = [
        row
        for row in list_accelerators()
        if row.category == "tpu" and row.machine_type == machine_type
    ]
    if not rows:
        return (gpu["acceleratorType"], int(gpu["acceleratorCount"]), None) if gpu else (None,) * 3
    # Single-host pools do not state their topology: the machine type implies it.
    row = next((row for row in rows if row.topology == topology), None)
    row = row or min(rows, key=lambda row: row.hosts)
    return row.label, row.count_per_host, topology or row.topology


def _bounds(scaling: Mapping[str, Any], zones: int) -> tuple[int | None, int | None]:
    """Return how many nodes the autoscaler gives a pool at least and at most; None without one.

    What is not a total is for each zone:
    https://cloud.google.com/kubernetes-engine/docs/reference/rest/v1/NodePoolAutoscaling

    Args:
        scaling: The pool's autoscaling.
        zones: In how many zones its nodes may be.
    """
    if not scaling.get("enabled"):
        return None, None
    names = (("totalMinNodeCount", "minNodeCount"), ("totalMaxNodeCount", "maxNodeCount"))
    least, most = (
        int(scaling.get(total) or 0) or int(scaling.get(each) or 0) * zones for total, each in names
    )
    return least, most


def _seconds(duration: object) -> float | None:
    """Read a duration as Google's APIs write it, such as `604800s`."""
    text = str(duration or "").removesuffix("s")
    return float(text) if text else None


def _reservation(affinity: Mapping[str, Any]) -> str | None:
    kind = affinity.get("consumeReservationType")
    if kind == "SPECIFIC_RESERVATION":
        return str(next(iter(affinity.get("values") or ()), "")) or None
    return ANY_RESERVATION if kind == "ANY_RESERVATION" else None
