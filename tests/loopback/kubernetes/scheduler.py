"""The scheduler: gives pods their nodes, and says why it cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from loopback.kubernetes.autoscaler import Autoscaler
from loopback.kubernetes.fitting import (
    Placed,
    Surroundings,
    capacity_of,
    misfit,
    requested,
    shortage,
)
from loopback.kubernetes.sayings import Sayings
from loopback.kubernetes.store import Object, Store, set_condition
from loopback.kubernetes.volumes import bind_claims, unschedulable

ENDED = ("Succeeded", "Failed")


class Scheduler:
    """Binds pods to nodes, and asks for nodes that are missing.

    Args:
        store: The cluster's objects.
        autoscaler: What is told of pods that fit nowhere.
        sayings: What has been said of pods.
    """

    def __init__(self, store: Store, autoscaler: Autoscaler, sayings: Sayings) -> None:
        self._store = store
        self._autoscaler = autoscaler
        self._sayings = sayings

    def reconcile(self) -> None:
        """Look at every pod that has no node."""
        for pod in list(self._store.list("pods")):
            waiting = pod["status"].get("phase") == "Pending" and not pod["spec"].get("nodeName")
            gated = pod["spec"].get("schedulingGates")
            if waiting and not gated and not pod["metadata"].get("deletionTimestamp"):
                self._place(pod)

    def _place(self, pod: Object) -> None:
        nodes = self._store.list("nodes")
        problems: Counter[str] = Counter()
        if claims := unschedulable(self._store, pod):
            self._unschedulable(pod, f"0/{len(nodes)} nodes are available: {claims}.")
            return
        around = self._surroundings(nodes)
        for node in nodes:
            taints = node["spec"].get("taints", ())
            problem = misfit(pod, node["metadata"]["labels"], taints, around)
            problem = problem or shortage(pod, self._free(node))
            if problem is None:
                self._bind(pod, node["metadata"]["name"])
                return
            problems[problem] += 1
        self._unschedulable(pod, _why(pod, nodes, problems))
        self._autoscaler.help(pod, around)

    def _surroundings(self, nodes: Sequence[Object]) -> Surroundings:
        labels = {node["metadata"]["name"]: node["metadata"]["labels"] for node in nodes}
        placed = [
            Placed(pod=pod, labels=labels[pod["spec"]["nodeName"]])
            for pod in self._store.list("pods")
            if pod["spec"].get("nodeName") in labels and pod["status"].get("phase") not in ENDED
        ]
        return Surroundings(placed=placed, nodes=list(labels.values()))

    def _free(self, node: Object) -> dict[str, int]:
        free = capacity_of(node)
        for pod in self._store.list("pods"):
            here = pod["spec"].get("nodeName") == node["metadata"]["name"]
            if here and pod["status"].get("phase") not in ENDED:
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
        self._sayings.say(pod, "FailedScheduling", message)


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
    fits = misfit(pod, node["metadata"]["labels"], node["spec"].get("taints", ())) is None
    return fits and shortage(pod, capacity_of(node)) is not None
