"""Node pools: what their nodes are like, how many there may be, and how GKE is asked for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from kinetic_flows.core.accelerators import Accelerator, parse_accelerator
from kinetic_flows.core.accelerators.machines import node_size

NODE_POOL_LABEL = "cloud.google.com/gke-nodepool"
MACHINE_TYPE_LABEL = "node.kubernetes.io/instance-type"
ZONE_LABEL = "topology.kubernetes.io/zone"
REGION_LABEL = "topology.kubernetes.io/region"
SPOT_LABEL = "cloud.google.com/gke-spot"
FLEX_LABEL = "cloud.google.com/gke-flex-start"
QUEUED_LABEL = "cloud.google.com/gke-queued"
RUN_SECONDS_LABEL = "cloud.google.com/gke-max-run-duration-seconds"
COMPUTE_CLASS_LABEL = "cloud.google.com/compute-class"
RESERVATION_LABEL = "cloud.google.com/reservation-name"
RESERVATION_PROJECT_LABEL = "cloud.google.com/reservation-project"
RESERVATION_AFFINITY_LABEL = "cloud.google.com/reservation-affinity"
"""What GKE writes on nodes.

https://cloud.google.com/kubernetes-engine/docs/concepts/dws
https://cloud.google.com/kubernetes-engine/docs/how-to/provisioningrequest
https://cloud.google.com/kubernetes-engine/docs/concepts/about-custom-compute-classes
https://cloud.google.com/kubernetes-engine/docs/how-to/consuming-reservations
"""

ANY_RESERVATION = "any"
ZONE = "us-central1-a"


@dataclass(frozen=True, kw_only=True)
class NodeGroup:
    """A node pool: what its nodes are like, and how many there may be.

    Attributes:
        name: The pool's name.
        labels: Labels of its nodes, besides the pool's own and those that follow from the rest.
        capacity: Resources of each node, such as `google.com/tpu`, or `memory` in bytes and
            `cpu` in thousandths. Of
            `cpu`, `memory` and disk there is no bound where it is not given.
        taints: Taints of its nodes, besides those that follow from the rest.
        nodes: How many there are from the start.
        min_nodes: How many the autoscaler leaves; nothing here takes idle nodes away.
        max_nodes: How many the autoscaler may make of them.
        delay_seconds: Time until a new node is ready.
        failure: What the cloud answers instead of a node, such as `GCE quota exceeded`.
        runtime: What its nodes run containers with.
        kubelet: Kubernetes version of its nodes; empty for the cluster's own.
        machine_type: Compute Engine machine type of its nodes; empty for a label that is not
            there.
        spot: Whether they are Spot VMs.
        flex: Whether they are of flex-start: a scale-up waits until it is given nodes.
        queued: Whether they come by ProvisioningRequests alone, and are tainted for it.
        max_run_seconds: How long a node lives; None for as long as it is wanted.
        reservation: The reservation that they use up, `any` for whichever there is, or empty.
        compute_class: The compute class that they are for, and tainted for; empty for none.
        zones: Where they may be; the autoscaler takes the first that can give one.
        atomic: Whether all of them come at once, as those of a TPU slice of several hosts do.
        waits: Whether a scale-up waits until it is given nodes, as with flex-start.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    nodes: int = 0
    min_nodes: int = 0
    max_nodes: int = 1
    delay_seconds: float = 0.1
    failure: str | None = None
    runtime: str = "containerd://2.1.4"
    kubelet: str = ""
    machine_type: str = ""
    spot: bool = False
    flex: bool = False
    queued: bool = False
    max_run_seconds: int | None = None
    reservation: str = ""
    compute_class: str = ""
    zones: tuple[str, ...] = (ZONE,)
    atomic: bool = False
    waits: bool = False

    @property
    def is_withheld(self) -> bool:
        """Whether its scale-ups wait, to begin with, until they are given nodes."""
        return self.flex or self.queued or self.waits

    def node_labels(self, zone: str) -> dict[str, str]:
        """Return the labels of its nodes in a zone."""
        said = {
            NODE_POOL_LABEL: self.name,
            ZONE_LABEL: zone,
            REGION_LABEL: zone.rpartition("-")[0],
            MACHINE_TYPE_LABEL: self.machine_type,
            SPOT_LABEL: "true" if self.spot else "",
            FLEX_LABEL: "true" if self.flex else "",
            QUEUED_LABEL: "true" if self.queued else "",
            RUN_SECONDS_LABEL: str(self.max_run_seconds or ""),
            COMPUTE_CLASS_LABEL: self.compute_class,
        }
        found = {name: value for name, value in said.items() if value}
        return {**self.labels, **found, **self._reservation_labels()}

    def _reservation_labels(self) -> dict[str, str]:
        if not self.reservation:
            return {}
        if self.reservation == ANY_RESERVATION:
            return {RESERVATION_AFFINITY_LABEL: ANY_RESERVATION}
        project, _, name = self.reservation.rpartition("/reservations/")
        labels = {RESERVATION_LABEL: name, RESERVATION_AFFINITY_LABEL: "specific"}
        return {**labels, **({RESERVATION_PROJECT_LABEL: project[9:]} if project else {})}

    @property
    def node_taints(self) -> tuple[Mapping[str, str], ...]:
        """Taints of its nodes."""
        own = [a_taint(QUEUED_LABEL, "true")] if self.queued else []
        if self.compute_class:
            own.append(a_taint(COMPUTE_CLASS_LABEL, self.compute_class))
        return (*self.taints, *own)

    def body(self, name: str, zone: str, version: str) -> dict[str, Any]:
        """Return a node of it, as the API server is told of it.

        Args:
            name: The node's name.
            zone: Its zone.
            version: Kubernetes version of the cluster.
        """
        return {
            "metadata": {
                "name": name,
                "labels": {"kubernetes.io/hostname": name, **self.node_labels(zone)},
            },
            "spec": {"taints": [dict(taint) for taint in self.node_taints]},
            "status": {
                "capacity": {
                    key: f"{amount}m" if key == "cpu" else str(amount)
                    for key, amount in self.capacity.items()
                },
                "nodeInfo": {
                    "kubeletVersion": self.kubelet or f"v{version}.0",
                    "containerRuntimeVersion": self.runtime,
                },
            },
        }


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """Machines that a project has reserved.

    Attributes:
        name: Its name, or `projects/P/reservations/NAME`, as node pools name it.
        count: How many machines there are.
        in_use: How many others use.
    """

    name: str
    count: int
    in_use: int = 0


def a_taint(key: str, value: str, effect: str = "NoSchedule") -> dict[str, str]:
    """Return a taint as nodes have it."""
    return {"key": key, "value": value, "effect": effect}


def node_group(accelerator: str | Accelerator, name: str = "", **fields: Any) -> NodeGroup:
    """Return a node pool of an accelerator, as GKE has it: labelled, tainted, slices in one piece.

    Args:
        accelerator: Such as `tpu-v6e-8:spot`, or `l4:flex`.
        name: The pool's name; empty for the accelerator's.
        fields: Further fields of the `NodeGroup`.
    """
    row = parse_accelerator(accelerator) if isinstance(accelerator, str) else accelerator
    resources = {resource: int(amount) for resource, amount in row.resources.items()}
    size = node_size(fields.get("machine_type") or row.machine_type or "")
    sized = {"cpu": size.cpu_millis, "memory": size.memory_bytes} if size else {}
    is_slice = row.category == "tpu" and row.hosts > 1
    known: dict[str, Any] = {
        "name": name or str(row).replace(":", "-"),
        "labels": {
            label: value
            for label, value in row.node_selector.items()
            if label not in (SPOT_LABEL, FLEX_LABEL)
        },
        "capacity": {**sized, **resources},
        "taints": tuple(a_taint(resource, "present") for resource in resources),
        "machine_type": row.machine_type or "",
        "spot": row.spot,
        "flex": row.flex,
        "max_nodes": row.hosts,
        "atomic": is_slice,
    }
    return NodeGroup(**{**known, **fields})


def zones_in_turn(group: NodeGroup) -> Any:
    """Yield the zones of a node pool's nodes that are there from the start."""
    return cycle(group.zones)
