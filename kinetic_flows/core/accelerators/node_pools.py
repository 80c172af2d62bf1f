"""A node pool of a cluster, as a value: what its nodes are like, and which pods they take."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from kinetic_flows.core.accelerators.machines import NodeSize
from kinetic_flows.core.accelerators.model import (
    FLEX_LABEL,
    GPU_ACCELERATOR_LABEL,
    GPU_RESOURCE,
    SPOT_LABEL,
    TPU_ACCELERATOR_LABEL,
    TPU_RESOURCE,
    TPU_TOPOLOGY_LABEL,
    Accelerator,
)
from kinetic_flows.core.quantities import cpu_millis, memory_bytes

NODE_POOL_LABEL = "cloud.google.com/gke-nodepool"
"""Names a node's pool.

https://cloud.google.com/kubernetes-engine/docs/concepts/node-pools
"""

MACHINE_TYPE_LABEL = "node.kubernetes.io/instance-type"
ZONE_LABEL = "topology.kubernetes.io/zone"
"""What Kubernetes itself calls a machine type and a zone.

https://kubernetes.io/docs/reference/labels-annotations-taints/
"""

COMPUTE_CLASS_LABEL = "cloud.google.com/compute-class"
"""Names a compute class.

https://cloud.google.com/kubernetes-engine/docs/concepts/about-custom-compute-classes
"""

RESERVATION_NAME_LABEL = "cloud.google.com/reservation-name"
RESERVATION_PROJECT_LABEL = "cloud.google.com/reservation-project"
RESERVATION_AFFINITY_LABEL = "cloud.google.com/reservation-affinity"
"""Name a reservation, the project it is in, and whether it is a `specific` one or `any`.

https://cloud.google.com/kubernetes-engine/docs/how-to/consuming-reservations
"""

RUN_SECONDS_LABEL = "cloud.google.com/gke-max-run-duration-seconds"
"""For how long nodes are asked for, of clusters that make them by themselves.

https://cloud.google.com/kubernetes-engine/docs/concepts/dws
"""

QUEUED_TAINT = "cloud.google.com/gke-queued"
"""Taint of nodes that are had through a ProvisioningRequest alone.

https://cloud.google.com/kubernetes-engine/docs/how-to/provisioningrequest
"""

ANY_RESERVATION = "any"

_PASSING = (
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
)
"""How taints begin by which a node says how it is at the moment."""


@dataclass(frozen=True, kw_only=True)
class Taint:
    """A taint of nodes, which keeps off pods that do not tolerate it.

    Attributes:
        key: Its key.
        value: Its value; empty where it has none.
        effect: What it does, as Kubernetes writes it.
    """

    key: str
    value: str = ""
    effect: str = "NoSchedule"

    @classmethod
    def of(cls, taint: Mapping[str, Any]) -> Self:
        """Read a taint of a node, or of a node pool in the Kubernetes Engine API."""
        effect = str(taint.get("effect") or "NoSchedule")
        words = effect.title().replace("_", "") if effect.isupper() else effect
        return cls(key=str(taint["key"]), value=str(taint.get("value") or ""), effect=words)

    @property
    def keeps_off(self) -> bool:
        """Whether a pod that does not tolerate it can never be here, not for now alone."""
        return self.effect != "PreferNoSchedule" and not self.key.startswith(_PASSING)

    def is_tolerated(self, tolerations: Iterable[Mapping[str, Any]]) -> bool:
        """Whether one of a pod's tolerations is of it.

        https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/
        """
        return any(self._matches(each) for each in tolerations)

    def _matches(self, toleration: Mapping[str, Any]) -> bool:
        exists = toleration.get("operator") == "Exists"
        return (
            toleration.get("key") in ((None, "", self.key) if exists else (self.key,))
            and toleration.get("effect") in (None, "", self.effect)
            and (exists or (toleration.get("value") or "") == self.value)
        )

    def __str__(self) -> str:
        value = f"={self.value}" if self.value else ""
        return f"{self.key}{value}:{self.effect}"


@dataclass(frozen=True, kw_only=True)
class NodePool:
    """A node pool of a cluster, as its nodes or the GKE API describe it.

    Attributes:
        name: The pool's name.
        accelerator: GKE's accelerator label of its nodes; None when they have none.
        count_per_host: Chips or GPUs of each node; None when that is not known.
        topology: Arrangement of its slices' chips; None when they are no TPUs.
        machine_type: Compute Engine machine type of its nodes; empty when not known.
        spot: Whether its nodes are Spot VMs.
        flex: Whether its nodes are had by flex-start.
        is_queued: Whether they are had through a ProvisioningRequest alone.
        max_run_seconds: After how long flex-start takes a node back; None when not known.
        reservation: Name or path of the reservation that its nodes are of, or `any`; None for
            none.
        compute_class: GKE compute class that its nodes are for; None for none.
        zones: Zones that its nodes may be in; empty when not known.
        taints: Taints of its nodes.
        least: Nodes that the autoscaler leaves it at least; None where it is not scaled, or that
            is not known.
        most: Nodes that it may have at most, likewise.
        kubelet: Kubernetes version of its nodes; empty when not known.
        runtime: Container runtime of its nodes, such as `containerd://2.1.4`; empty when not
            known.
        labels: Labels of its nodes that are known, besides those that the above says.
        is_all_known: Whether its nodes have no other labels than these.
        size: What pods can have of one of its nodes; None when that is not known.
    """

    name: str
    accelerator: str | None = None
    count_per_host: int | None = None
    topology: str | None = None
    machine_type: str = ""
    spot: bool = False
    flex: bool = False
    is_queued: bool = False
    max_run_seconds: float | None = None
    reservation: str | None = None
    compute_class: str | None = None
    zones: tuple[str, ...] = ()
    taints: tuple[Taint, ...] = ()
    least: int | None = None
    most: int | None = None
    kubelet: str = ""
    runtime: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    is_all_known: bool = False
    size: NodeSize | None = None

    @classmethod
    def from_node(cls, node: Mapping[str, Any]) -> NodePool:
        """Describe the pool of a node, by the labels and the capacity the node reports."""
        labels: Mapping[str, str] = node.get("metadata", {}).get("labels") or {}
        capacity: Mapping[str, str] = node.get("status", {}).get("capacity") or {}
        info: Mapping[str, str] = node.get("status", {}).get("nodeInfo") or {}
        taints = tuple(map(Taint.of, node.get("spec", {}).get("taints") or ()))
        count = capacity.get(TPU_RESOURCE) or capacity.get(GPU_RESOURCE)
        zone = labels.get(ZONE_LABEL)
        return cls(
            name=labels.get(NODE_POOL_LABEL, "unnamed"),
            accelerator=labels.get(TPU_ACCELERATOR_LABEL) or labels.get(GPU_ACCELERATOR_LABEL),
            count_per_host=int(count) if count else None,
            topology=labels.get(TPU_TOPOLOGY_LABEL),
            machine_type=labels.get(MACHINE_TYPE_LABEL, ""),
            spot=labels.get(SPOT_LABEL) == "true",
            flex=labels.get(FLEX_LABEL) == "true",
            is_queued=any(each.key == QUEUED_TAINT for each in taints),
            reservation=_reservation_of(labels),
            compute_class=labels.get(COMPUTE_CLASS_LABEL),
            zones=(zone,) if zone else (),
            taints=tuple(each for each in taints if each.keeps_off),
            kubelet=info.get("kubeletVersion", ""),
            runtime=info.get("containerRuntimeVersion", ""),
            labels=labels,
            is_all_known=True,
            size=_size(node.get("status") or {}),
        )

    def offers(self, accelerator: Accelerator) -> bool:
        """Whether the pods of a run on this accelerator fit its nodes."""
        # A selector for Spot keeps pods off other nodes; without one they may go anywhere.
        spot_fits = self.spot or not accelerator.spot
        # Nodes that are asked for by a ProvisioningRequest are kept for who asked.
        flex_fits = self.flex if accelerator.flex else not self.is_queued
        same = self.accelerator == accelerator.label and self.topology == accelerator.topology
        fits = accelerator.category == "cpu" or (same and self._holds(accelerator))
        return spot_fits and flex_fits and fits

    def may_have(self, labels: Mapping[str, str | Collection[str]]) -> bool:
        """Whether its nodes have these labels, as far as is known: of others it is believed.

        Args:
            labels: The value that each label is to have, or the values of which it may have any.
        """
        return all(
            self._may_be(name, (value,) if isinstance(value, str) else value)
            for name, value in labels.items()
        )

    def untolerated(self, tolerations: Iterable[Mapping[str, Any]]) -> tuple[Taint, ...]:
        """Return the taints by which its nodes keep off a pod with these tolerations."""
        known = tuple(tolerations)
        return tuple(each for each in self.taints if not each.is_tolerated(known))

    def _may_be(self, label: str, values: Collection[str]) -> bool:
        if label == ZONE_LABEL:
            return not self.zones or not set(self.zones).isdisjoint(values)
        known = self._known()
        if label in known:
            return known[label] in values
        return not self.is_all_known

    def _known(self) -> Mapping[str, str | None]:
        """Return the labels whose values are known; None for what its nodes do not have."""
        if self.is_all_known:
            return self.labels
        name = (self.reservation or "").rpartition("/")[2] or None
        is_specific = name not in (None, ANY_RESERVATION)
        return {
            **self.labels,
            TPU_ACCELERATOR_LABEL: self.accelerator,
            GPU_ACCELERATOR_LABEL: self.accelerator,
            TPU_TOPOLOGY_LABEL: self.topology,
            SPOT_LABEL: "true" if self.spot else None,
            FLEX_LABEL: "true" if self.flex else None,
            NODE_POOL_LABEL: self.name,
            COMPUTE_CLASS_LABEL: self.compute_class,
            RESERVATION_NAME_LABEL: name if is_specific else None,
            RESERVATION_AFFINITY_LABEL: "specific" if is_specific else name,
        }

    def _holds(self, accelerator: Accelerator) -> bool:
        if self.count_per_host is None:
            return True
        if accelerator.category == "tpu":
            return self.count_per_host == accelerator.count_per_host
        return self.count_per_host >= accelerator.count_per_host

    def __str__(self) -> str:
        ways = (
            "spot" if self.spot else "",
            "flex-start" if self.flex else "",
            f"reservation {self.reservation}" if self.reservation else "",
        )
        about = (self.accelerator, self.topology, self.machine_type, *ways)
        return f"{self.name} ({' '.join(part for part in about if part) or 'no accelerator'})"


def _size(status: Mapping[str, Any]) -> NodeSize | None:
    """Return what a node says that pods can have of it; None where it does not say."""
    left: Mapping[str, Any] = status.get("allocatable") or status.get("capacity") or {}
    cpu, memory = cpu_millis(left.get("cpu")), memory_bytes(left.get("memory"))
    if cpu is None or memory is None:
        return None
    return NodeSize(cpu_millis=cpu, memory_bytes=memory)


def _reservation_of(labels: Mapping[str, str]) -> str | None:
    name = labels.get(RESERVATION_NAME_LABEL)
    project = labels.get(RESERVATION_PROJECT_LABEL)
    if name:
        return f"projects/{project}/reservations/{name}" if project else name
    is_any = labels.get(RESERVATION_AFFINITY_LABEL) == ANY_RESERVATION
    return ANY_RESERVATION if is_any else None
