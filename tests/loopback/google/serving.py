"""The Kubernetes API of GKE's clusters: loopback clusters, with nodes as their pools say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from google.cloud import container_v1 as api

from kinetic_flows.clients.kubernetes.node_pools import gke_node_pools
from kinetic_flows.core.accelerators import Accelerator, list_accelerators
from loopback.google.machines import cpus_and_memory_mb
from loopback.kubernetes.access import TOKEN
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import ANY_RESERVATION, ZONE, NodeGroup, Reservation

MIB = 1 << 20
Effect = api.NodeTaint.Effect

_EFFECTS = {
    Effect.NO_SCHEDULE: "NoSchedule",
    Effect.PREFER_NO_SCHEDULE: "PreferNoSchedule",
    Effect.NO_EXECUTE: "NoExecute",
}
_SYSTEM_MILLICPUS, _SYSTEM_MB = 1000, 2048
"""What GKE's own pods and the node itself take."""


class Serving:
    """Starts and stops loopback clusters.

    Args:
        directory: Where they keep what they are told.
        tokens: Whose access tokens there are, which they take, too.
        reservations: The reservations of Compute Engine, by zone and name.
        serve: Makes a cluster that keeps what it is told in a directory; None for one whose
            containers are child processes.
    """

    def __init__(
        self,
        directory: Path,
        tokens: dict[str, str],
        reservations: Mapping[tuple[str, str], dict[str, Any]],
        *,
        serve: Callable[[Path], LoopbackCluster] | None = None,
    ) -> None:
        self.running: dict[str, LoopbackCluster] = {}
        self._directory = directory
        self._tokens = tokens
        self._reservations = reservations
        self._serve = serve or (lambda where: LoopbackCluster(where, version="1.33"))
        self._started = 0

    def start(self, name: str, cluster: api.Cluster) -> str:
        """Start the cluster of a name, and return where its API is."""
        self._started += 1
        directory = self._directory / f"cluster-{self._started}"
        directory.mkdir(parents=True)
        made = self._serve(directory)
        self._tokens.setdefault(TOKEN, "tester@example.com")
        made.access.users = self._tokens
        made.__enter__()
        # As every GKE cluster has it from the start.
        made.add_storage_class("standard-rwo", "WaitForFirstConsumer", is_default=True)
        made.capacity.serve_provisioning_requests()
        self.running[name] = made
        self.changed(name, cluster)
        if cluster.autopilot.enabled:
            made.add_nodes(NodeGroup(name="autopilot", nodes=1, max_nodes=100))
            made.capacity.be_autopilot()
        return made.url

    def changed(self, name: str, cluster: api.Cluster) -> None:
        """Have a running cluster be as it is described."""
        made = self.running[name]
        has_fuse = bool(made.list("csidrivers"))
        if cluster.addons_config.gcs_fuse_csi_driver_config.enabled and not has_fuse:
            made.add_fuse_driver()

    def show(self, name: str, pool: api.NodePool) -> None:
        """Have a running cluster have a node pool, or have it as it is now."""
        group, made = node_group(pool), self.running[name]
        for (_, reserved), about in self._reservations.items():
            machines = about.get("specificReservation", {})
            count, in_use = machines.get("count", 0), machines.get("inUseCount", 0)
            if group.reservation.rpartition("/")[2] == reserved:
                made.capacity.reserve(
                    Reservation(name=group.reservation, count=int(count), in_use=int(in_use))
                )
        made.add_nodes(group)

    def hide(self, name: str, pool: api.NodePool) -> None:
        """Have a running cluster lack a node pool."""
        if name in self.running:
            self.running[name].remove_nodes(node_group(pool))
            self.running[name].remove_group(pool.name)

    def stop(self, name: str) -> None:
        """Stop the cluster of a name, if it runs."""
        if name in self.running:
            self.running.pop(name).__exit__(None, None, None)

    def stop_all(self) -> None:
        """Stop every cluster."""
        for name in list(self.running):
            self.stop(name)


def node_group(pool: api.NodePool) -> NodeGroup:
    """Return what the nodes of a node pool are like."""
    config, scaling = pool.config, pool.autoscaling
    most = (scaling.max_node_count or scaling.total_max_node_count) if scaling.enabled else 0
    labels = dict(config.labels)
    capacity = dict(_own_capacity(config.machine_type))
    taints = [_taint(taint.key, taint.value, _EFFECTS[taint.effect]) for taint in config.taints]
    row = _accelerator_of(pool)
    if row is not None:
        labels |= row.node_selector
        ((resource, count),) = row.resources.items()
        (known,) = gke_node_pools({"nodePools": [_document(pool)]})
        capacity[resource] = known.count_per_host or int(count)
        # https://cloud.google.com/kubernetes-engine/docs/how-to/gpus#taints
        taints.append(_taint(resource, "present", "NoSchedule"))
    seconds = _seconds(config)
    return NodeGroup(
        name=pool.name,
        labels=labels,
        capacity=capacity,
        taints=tuple(taints),
        nodes=pool.initial_node_count,
        min_nodes=scaling.min_node_count or scaling.total_min_node_count,
        max_nodes=most or pool.initial_node_count,
        machine_type=config.machine_type,
        spot=config.spot,
        flex=config.flex_start,
        queued=pool.queued_provisioning.enabled,
        max_run_seconds=seconds,
        reservation=_reservation(config),
        zones=tuple(pool.locations) or (ZONE,),
        atomic=row is not None and row.category == "tpu" and row.hosts > 1,
    )


def _accelerator_of(pool: api.NodePool) -> Accelerator | None:
    (known,) = gke_node_pools({"nodePools": [_document(pool)]})
    return next(
        (
            row
            for row in list_accelerators()
            if row.label and row.label == known.accelerator and row.topology == known.topology
        ),
        None,
    )


def _seconds(config: api.NodeConfig) -> int | None:
    return int(config.max_run_duration.total_seconds()) if config.max_run_duration else None


def _reservation(config: api.NodeConfig) -> str:
    affinity, kind = config.reservation_affinity, api.ReservationAffinity.Type
    if affinity.consume_reservation_type == kind.ANY_RESERVATION:
        return ANY_RESERVATION
    specific = affinity.consume_reservation_type == kind.SPECIFIC_RESERVATION
    return str(affinity.values[0]) if specific else ""


def _own_capacity(machine_type: str) -> dict[str, int]:
    cpus, memory_mb = cpus_and_memory_mb(machine_type)
    return {
        "cpu": max(cpus * 1000 - _SYSTEM_MILLICPUS, 500),
        "memory": max(memory_mb - _SYSTEM_MB, 1024) * MIB,
    }


def _taint(key: str, value: str, effect: str) -> dict[str, str]:
    return {"key": key, "value": value, "effect": effect}


def _document(pool: api.NodePool) -> dict[str, Any]:
    found: dict[str, Any] = api.NodePool.to_dict(
        pool, preserving_proto_field_name=False, use_integers_for_enums=False
    )
    return found
