"""The Kubernetes API of GKE's clusters: loopback clusters, with nodes as their pools say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.cloud import container_v1 as api

from kinetic_flows.clients.kubernetes.node_pools import gke_node_pools
from kinetic_flows.core.accelerators import list_accelerators
from loopback.google.machines import cpus_and_memory_mb
from loopback.kubernetes.access import TOKEN
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.scheduler import NodeGroup

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
        serve: Makes a cluster that keeps what it is told in a directory; None for one whose
            containers are child processes.
    """

    def __init__(
        self,
        directory: Path,
        tokens: dict[str, str],
        *,
        serve: Callable[[Path], LoopbackCluster] | None = None,
    ) -> None:
        self.running: dict[str, LoopbackCluster] = {}
        self._directory = directory
        self._tokens = tokens
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
        self.running[name] = made
        self.changed(name, cluster)
        if cluster.autopilot.enabled:
            # Nodes of any kind come as pods ask for them.
            for group in _autopilot_groups():
                made.add_nodes(group)
        return made.url

    def changed(self, name: str, cluster: api.Cluster) -> None:
        """Have a running cluster be as it is described."""
        made = self.running[name]
        has_fuse = bool(made.list("csidrivers"))
        if cluster.addons_config.gcs_fuse_csi_driver_config.enabled and not has_fuse:
            made.add_fuse_driver()

    def show(self, name: str, pool: api.NodePool) -> None:
        """Have a running cluster have a node pool, or have it as it is now."""
        self.running[name].add_nodes(node_group(pool))

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
    config = pool.config
    labels = dict(config.labels)
    capacity = dict(_own_capacity(config.machine_type))
    taints = [_taint(taint.key, taint.value, _EFFECTS[taint.effect]) for taint in config.taints]
    described = {"nodePools": [_document(pool)]}
    (known,) = gke_node_pools(described)
    for row in list_accelerators():
        if row.label and row.label == known.accelerator and row.topology == known.topology:
            labels |= row.node_selector
            count = known.count_per_host or row.count_per_host
            (resource,) = row.resources
            capacity[resource] = count
            # https://cloud.google.com/kubernetes-engine/docs/how-to/gpus#taints
            taints.append(_taint(resource, "present", "NoSchedule"))
            break
    labels["node.kubernetes.io/instance-type"] = config.machine_type
    if config.spot:
        labels["cloud.google.com/gke-spot"] = "true"
    scaling = pool.autoscaling
    most = (scaling.max_node_count or scaling.total_max_node_count) if scaling.enabled else 0
    return NodeGroup(
        name=pool.name,
        labels=labels,
        capacity=capacity,
        taints=tuple(taints),
        nodes=pool.initial_node_count,
        max_nodes=most or pool.initial_node_count,
    )


def _own_capacity(machine_type: str) -> dict[str, int]:
    cpus, memory_mb = cpus_and_memory_mb(machine_type)
    return {
        "cpu": max(cpus * 1000 - _SYSTEM_MILLICPUS, 500),
        "memory": max(memory_mb - _SYSTEM_MB, 1024) * MIB,
    }


def _autopilot_groups() -> list[NodeGroup]:
    groups = [NodeGroup(name="autopilot", nodes=1, max_nodes=100)]
    for row in list_accelerators():
        if row.resources:
            (resource,) = row.resources
            groups.append(
                NodeGroup(
                    name=f"autopilot-{len(groups)}",
                    labels=row.node_selector,
                    capacity={resource: row.count_per_host},
                    taints=(_taint(resource, "present", "NoSchedule"),),
                    max_nodes=100,
                )
            )
    return groups


def _taint(key: str, value: str, effect: str) -> dict[str, str]:
    return {"key": key, "value": value, "effect": effect}


def _document(pool: api.NodePool) -> dict[str, Any]:
    found: dict[str, Any] = api.NodePool.to_dict(
        pool, preserving_proto_field_name=False, use_integers_for_enums=False
    )
    return found
