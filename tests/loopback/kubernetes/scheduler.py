"""Nodes, the scheduler that gives them pods, and the autoscaler that adds nodes."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loopback.kubernetes.store import Object, Store, now, random_suffix, set_condition
from loopback.kubernetes.volumes import bind_claims, unschedulable

NODE_POOL_LABEL = "cloud.google.com/gke-nodepool"
_QUANTITY = re.compile(r"(?P<number>[\d.]+)(?P<unit>m|k|[KMGT]i?|)")
_FACTORS = {"": 1, "m": 0.001, "k": 10**3}
_FACTORS.update({unit: 1000 ** (power + 1) for power, unit in enumerate("KMGT")})
_FACTORS.update({f"{unit}i": 1024 ** (power + 1) for power, unit in enumerate("KMGT")})
_MISMATCH = "node(s) didn't match Pod's node affinity/selector"


@dataclass(frozen=True, kw_only=True)
class NodeGroup:
    """A node pool: what its nodes are like, and how many there may be.

    Attributes:
        name: The pool's name.
        labels: Labels of its nodes, besides the pool's own.
        capacity: Resources of each node, such as `google.com/tpu`, or `memory` in bytes. Of
            `cpu`, `memory` and disk there is no bound where it is not given.
        taints: Taints of its nodes.
        nodes: How many there are from the start.
        max_nodes: How many the autoscaler may make of them.
        delay_seconds: Time until a new node is ready.
        failure: What the cloud answers instead of a node, such as `GCE quota exceeded`.
        runtime: What its nodes run containers with.
        kubelet: Kubernetes version of its nodes; empty for the cluster's own.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)
    taints: tuple[Mapping[str, str], ...] = ()
    nodes: int = 0
    max_nodes: int = 1
    delay_seconds: float = 0.1
    failure: str | None = None
    runtime: str = "containerd://2.1.4"
    kubelet: str = ""


class Scheduler:
    """Binds pods to nodes, and asks for nodes that are missing.

    Args:
        store: The cluster's objects.
        spawn: Starts a task that ends with the cluster.
        version: The cluster's Kubernetes version.
    """

    def __init__(self, store: Store, spawn: Callable[[Any], object], version: str) -> None:
        self._store = store
        self._version = version
        self._spawn = spawn
        self._groups: dict[str, NodeGroup] = {}
        self._coming: Counter[str] = Counter()
        self._backing_off: set[str] = set()
        self._said: dict[str, set[str]] = {}

    def add_group(self, group: NodeGroup) -> None:
        """Add a node pool, or change what the autoscaler may do with it."""
        known = group.name in self._groups
        self._groups[group.name] = group
        self._backing_off.discard(group.name)
        for _ in range(0 if known else group.nodes):
            self._add_node(group)

    def remove_group(self, name: str) -> None:
        """Forget a node pool."""
        self._groups.pop(name, None)

    def reconcile(self) -> None:
        """Look at every pod that has no node."""
        for pod in self._store.list("pods"):
            waiting = pod["status"].get("phase") == "Pending" and not pod["spec"].get("nodeName")
            if waiting and not pod["metadata"].get("deletionTimestamp"):
                self._place(pod)

    def _place(self, pod: Object) -> None:
        nodes = self._store.list("nodes")
        problems: Counter[str] = Counter()
        if claims := unschedulable(self._store, pod):
            self._unschedulable(pod, f"0/{len(nodes)} nodes are available: {claims}.")
            return
        for node in nodes:
            problem = _misfit(pod, node["metadata"]["labels"], node["spec"].get("taints", ()))
            problem = problem or _shortage(pod, self._free(node))
            if problem is None:
                self._bind(pod, node["metadata"]["name"])
                return
            problems[problem] += 1
        self._unschedulable(pod, _why(pod, nodes, problems))
        self._scale_up(pod)

    def _free(self, node: Object) -> dict[str, int]:
        free = {name: int(amount) for name, amount in node["status"]["capacity"].items()}
        for pod in self._store.list("pods"):
            here = pod["spec"].get("nodeName") == node["metadata"]["name"]
            if here and pod["status"].get("phase") not in ("Succeeded", "Failed"):
                for name, amount in requested(pod).items():
                    if name in free:
                        free[name] -= amount
        return free

    def _bind(self, pod: Object, node: str) -> None:
        def bind(item: Object) -> None:
            item["spec"]["nodeName"] = node
            set_condition(item, "PodScheduled", "True", "Scheduled")

        metadata = pod["metadata"]
        self._store.edit("pods", metadata["namespace"], metadata["name"], bind)
        bind_claims(self._store, pod)
        self._store.record_event(
            pod, "Normal", "Scheduled", f"assigned {metadata['name']} to {node}"
        )

    def _unschedulable(self, pod: Object, message: str) -> None:
        metadata = pod["metadata"]
        self._store.edit(
            "pods",
            metadata["namespace"],
            metadata["name"],
            lambda item: set_condition(item, "PodScheduled", "False", "Unschedulable", message),
        )
        self._say(pod, "FailedScheduling", message)

    def _scale_up(self, pod: Object) -> None:
        refusals = Counter[str]()
        for group in self._groups.values():
            problem = _misfit(pod, _labels(group), group.taints) or _shortage(pod, group.capacity)
            if problem is None and self._coming[group.name]:
                return
            # As in the autoscaler, pools are left alone before it is asked whether the pod fits.
            if group.name in self._backing_off:
                problem = "in backoff after failed scale-up"
            elif self._size(group) >= group.max_nodes:
                problem = "max node group size reached"
            if problem is None:
                self._ask_for(pod, group)
                return
            refusals[problem] += 1
        reasons = ", ".join(f"{count} {problem}" for problem, count in sorted(refusals.items()))
        self._say(pod, "NotTriggerScaleUp", f"pod didn't trigger scale-up: {reasons}")

    def _ask_for(self, pod: Object, group: NodeGroup) -> None:
        self._coming[group.name] += 1
        size = self._size(group)
        self._say(
            pod, "TriggeredScaleUp", f"pod triggered scale-up: [{group.name} {size - 1}->{size}]"
        )
        self._spawn(self._fail(pod, group) if group.failure else self._arrive(group))

    async def _fail(self, pod: Object, group: NodeGroup) -> None:
        await asyncio.sleep(group.delay_seconds)
        self._coming[group.name] -= 1
        self._backing_off.add(group.name)
        if self._store.current("pods", pod) is not None:
            self._say(
                pod,
                "FailedScaleUp",
                "Node scale up in zones us-central1-a associated with this pod failed: "
                f"{group.failure}. Pod is at risk of not being scheduled.",
            )
        self.reconcile()

    async def _arrive(self, group: NodeGroup) -> None:
        await asyncio.sleep(group.delay_seconds)
        self._coming[group.name] -= 1
        self._add_node(group)

    def _size(self, group: NodeGroup) -> int:
        nodes = self._store.list("nodes")
        pools = [node["metadata"]["labels"][NODE_POOL_LABEL] for node in nodes]
        return pools.count(group.name) + self._coming[group.name]

    def _add_node(self, group: NodeGroup) -> None:
        name = f"gke-{group.name}-{random_suffix()}"
        body = {
            "metadata": {
                "name": name,
                "labels": {"kubernetes.io/hostname": name, **_labels(group)},
            },
            "spec": {"taints": [dict(taint) for taint in group.taints]},
            "status": {
                "capacity": {key: str(amount) for key, amount in group.capacity.items()},
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now()}],
                "nodeInfo": {
                    "kubeletVersion": group.kubelet or f"v{self._version}.0",
                    "containerRuntimeVersion": group.runtime,
                },
            },
        }
        self._store.create("nodes", "", body)

    def _say(self, pod: Object, reason: str, message: str) -> None:
        """Write an event once for each pod and message."""
        said = self._said.setdefault(pod["metadata"]["uid"], set())
        if f"{reason} {message}" not in said:
            said.add(f"{reason} {message}")
            kind = "Normal" if reason == "TriggeredScaleUp" else "Warning"
            self._store.record_event(pod, kind, reason, message)


def requested(pod: Object) -> dict[str, int]:
    """Return what a pod asks for: numbers of devices, bytes, and thousandths of a CPU."""
    resources = pod["spec"]["containers"][0].get("resources", {})
    requests = {**resources.get("requests", {}), **resources.get("limits", {})}
    return {name: _amount(name, str(text)) for name, text in requests.items()}


def _amount(name: str, text: str) -> int:
    """Read a quantity: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/."""
    found = _QUANTITY.fullmatch(text)
    assert found, f"{name} is {text}"
    factor = _FACTORS[found["unit"]] * (1000 if name == "cpu" else 1)
    return int(float(found["number"]) * factor)


def _labels(group: NodeGroup) -> dict[str, str]:
    return {**group.labels, NODE_POOL_LABEL: group.name}


def _why(pod: Object, nodes: Sequence[Object], problems: Counter[str]) -> str:
    """Say why a pod fits no node, and whether taking other pods away would help.

    https://github.com/kubernetes/kubernetes/blob/v1.36.2/pkg/scheduler/framework/plugins/noderesources/fit.go
    """
    total = len(nodes)
    if not total:
        return "no nodes available to schedule pods"
    reasons = ", ".join(f"{count} {problem}" for problem, count in sorted(problems.items()))
    could_hold = sum(
        problem.startswith("Insufficient") * count for problem, count in problems.items()
    ) - sum(_is_too_small(pod, node) for node in nodes)
    helped = {
        "Preemption is not helpful for scheduling": total - could_hold,
        "No preemption victims found for incoming pod": could_hold,
    }
    after = ", ".join(f"{count} {words}" for words, count in helped.items() if count)
    available = f"0/{total} nodes are available"
    return f"{available}: {reasons}. preemption: {available}: {after}."


def _is_too_small(pod: Object, node: Object) -> bool:
    """Whether a node that fits otherwise could not hold a pod if it were empty."""
    capacity = {name: int(amount) for name, amount in node["status"]["capacity"].items()}
    fits = _misfit(pod, node["metadata"]["labels"], node["spec"].get("taints", ())) is None
    return fits and _shortage(pod, capacity) is not None


def _misfit(pod: Object, labels: Mapping[str, str], taints: Any) -> str | None:
    for taint in taints:
        if not any(_tolerates(item, taint) for item in pod["spec"].get("tolerations") or ()):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    selector = pod["spec"].get("nodeSelector") or {}
    if any(labels.get(name) != value for name, value in selector.items()):
        return _MISMATCH
    return None


def _shortage(pod: Object, free: Mapping[str, int]) -> str | None:
    bounded = {
        name: amount for name, amount in requested(pod).items() if name in free or "/" in name
    }
    lacking = [name for name, amount in bounded.items() if free.get(name, 0) < amount]
    return f"Insufficient {lacking[0]}" if lacking else None


def _tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    exists = toleration.get("operator", "Equal") == "Exists"
    return (
        toleration.get("key") in (None, taint["key"])
        and toleration.get("effect") in (None, taint["effect"])
        and (exists or toleration.get("value", "") == taint.get("value", ""))
    )
