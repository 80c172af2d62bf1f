"""What befalls nodes, in the words of GKE, of Kubernetes and of the node problem detector.

A test says what happens to the node that a pod is on::

    trouble = cluster.trouble
    trouble.say(node, "OOMKilling", "Memory cgroup out of memory: Killed process 7 (python3)")
    trouble.maintain(pod)     # the host of its machine is maintained: the pod is stopped
    trouble.repair(pod)       # it was not ready for long, and GKE makes it anew
    trouble.take_back(pod)    # a Spot VM
    trouble.lose(pod)         # it is gone without a word

https://cloud.google.com/kubernetes-engine/docs/concepts/handle-disruption-gpu-tpu
https://cloud.google.com/kubernetes-engine/docs/how-to/node-auto-repair
https://github.com/kubernetes/cloud-provider/blob/master/controllers/nodelifecycle/node_lifecycle_controller.go
https://github.com/kubernetes/kubernetes/blob/v1.36.2/pkg/kubelet/events/event.go
"""

from __future__ import annotations

from collections.abc import Callable

from loopback.kubernetes.kubelet import Kubelet
from loopback.kubernetes.store import Object, Store, now, set_condition

MAINTENANCE_LABEL = "cloud.google.com/active-node-maintenance"
TERMINATION = "cloud.google.com/impending-node-termination"
OPERATION = "gke-current-operation"


class NodeTrouble:
    """What tests do to nodes that have pods.

    Args:
        call: Does something in the cluster's thread.
        store: The cluster's objects.
        kubelet: What runs pods.
    """

    def __init__(
        self, call: Callable[[Callable[[], object]], object], store: Store, kubelet: Kubelet
    ) -> None:
        self._call = call
        self._store = store
        self._kubelet = kubelet

    def say(self, node: str, reason: str, message: str, kind: str = "Warning") -> None:
        """Write an event of a node."""
        self._call(lambda: self._say(self._store.get("nodes", "", node), reason, message, kind))

    def maintain(self, pod: str, namespace: str = "default") -> None:
        """Begin to maintain the host of the machine that a pod is on, which stops the pod."""

        def maintain(item: Object, node: Object) -> None:
            def mark(found: Object) -> None:
                found["metadata"].setdefault("labels", {})[MAINTENANCE_LABEL] = "ONGOING"
                taint = {"key": TERMINATION, "effect": "NoSchedule", "timeAdded": now()}
                found["spec"].setdefault("taints", []).append(taint)

            self._store.edit("nodes", "", node["metadata"]["name"], mark)
            self._kubelet.preempt(item)

        self._with(pod, namespace, maintain)

    def repair(self, pod: str, namespace: str = "default") -> None:
        """Have GKE make the node of a pod anew, which was not ready for ten minutes."""

        def repair(item: Object, node: Object) -> None:
            name = node["metadata"]["name"]

            def mark(found: Object) -> None:
                found["metadata"].setdefault("annotations", {})[OPERATION] = "AUTO_REPAIR_NODES"
                words = "Kubelet stopped posting node status."
                set_condition(found, "Ready", "Unknown", "NodeStatusUnknown", words)

            self._say(node, "NodeNotReady", f"Node {name} status is now: NodeNotReady", "Normal")
            self._store.edit("nodes", "", name, mark)
            self._kubelet.drain(item)

        self._with(pod, namespace, repair)

    def take_back(self, pod: str, namespace: str = "default") -> None:
        """Take the Spot VM of a pod back."""

        def take_back(item: Object, node: Object) -> None:
            self._say(node, "Shutdown", "Shutdown manager detected shutdown event", "Normal")
            self._go(node)
            self._kubelet.preempt(item)

        self._with(pod, namespace, take_back)

    def lose(self, pod: str, namespace: str = "default") -> None:
        """Lose the node of a pod, and with it all that it could have said."""

        def lose(item: Object, node: Object) -> None:
            name = node["metadata"]["name"]
            self._say(node, "NodeNotReady", f"Node {name} status is now: NodeNotReady", "Normal")
            self._go(node)
            self._kubelet.lose(item)

        self._with(pod, namespace, lose)

    def _go(self, node: Object) -> None:
        name = node["metadata"]["name"]
        words = f"Deleting node {name} because it does not exist in the cloud provider"
        self._say(node, "DeletingNode", words, "Normal")
        self._store.remove("nodes", "", name)

    def _with(self, pod: str, namespace: str, happen: Callable[[Object, Object], None]) -> None:
        def act() -> None:
            item = self._store.get("pods", namespace, pod)
            happen(item, self._store.get("nodes", "", item["spec"]["nodeName"]))

        self._call(act)

    def _say(self, node: Object, reason: str, message: str, kind: str) -> None:
        self._store.record_event(node, kind, reason, message)
