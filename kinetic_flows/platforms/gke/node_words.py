"""What is said of a node that a run was on: by its conditions, labels, taints and events.

GKE marks nodes that Google is about to take away or to mend, or is at it:

- `cloud.google.com/active-node-maintenance` is `ONGOING` while the host of a machine is maintained,
  `cloud.google.com/scheduled-maintenance-time` says that it will be, and nodes that are to end have
  the taint `cloud.google.com/impending-node-termination`
  (https://cloud.google.com/kubernetes-engine/docs/concepts/handle-disruption-gpu-tpu);
- the annotation `gke-current-operation` names the operation of GKE's that changes it, as
  `AUTO_REPAIR_NODES` (https://cloud.google.com/kubernetes-engine/docs/how-to/node-auto-repair) and
  `UPGRADE_NODES` do.

The rest is Kubernetes' own: of its kubelets, its node controllers, its autoscaler and of the node
problem detector (https://kubernetes.io/docs/reference/node/node-status/,
https://github.com/kubernetes/node-problem-detector).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from kinetic_flows.core.accelerators.model import SPOT_LABEL
from kinetic_flows.core.process_facts import NodeWord, NodeWordKind
from kinetic_flows.platforms.gke.diagnosis import KubernetesObject, created_at, moment_of

MAINTENANCE_LABEL = "cloud.google.com/active-node-maintenance"
SCHEDULED_LABEL = "cloud.google.com/scheduled-maintenance-time"
TERMINATION_TAINT = "cloud.google.com/impending-node-termination"
OPERATION_ANNOTATION = "gke-current-operation"
PROVISIONING_LABEL = "cloud.google.com/gke-provisioning"
PREEMPTIBLE_LABEL = "cloud.google.com/gke-preemptible"

ONGOING = "ONGOING"

_OPERATIONS: Mapping[str, NodeWordKind] = {
    "AUTO_REPAIR_NODES": "repair",
    "UPGRADE_NODES": "upgrade",
    "AUTO_UPGRADE_NODES": "upgrade",
}

_TAINTS: Mapping[str, NodeWordKind] = {
    "ToBeDeletedByClusterAutoscaler": "scaled_down",
    "node.kubernetes.io/unreachable": "not_ready",
    "node.cloudprovider.kubernetes.io/shutdown": "shutdown",
}

_REASONS: Mapping[str, NodeWordKind] = {
    "NodeNotReady": "not_ready",
    "DeletingNode": "gone",
    "RemovingNode": "gone",
    "DeletingAllPods": "gone",
    "Rebooted": "rebooted",
    "Shutdown": "shutdown",
    "NodeShutdown": "shutdown",
    "ScaleDown": "scaled_down",
    "NodeNotSchedulable": "drained",
    "Drain": "drained",
    "SystemOOM": "memory",
    "OOMKilling": "memory",
    "TaskHung": "kernel",
    "KernelOops": "kernel",
    "KernelDeadlock": "kernel",
    "ReadonlyFilesystem": "disk",
    "FilesystemIsReadOnly": "disk",
}
"""What events of nodes tell, by their reason."""

_WORDS: tuple[tuple[re.Pattern[str], NodeWordKind], ...] = (
    (re.compile(r"\bXid\b|\bXID\b|GPU .*(?:fell|fallen|unhealthy)", re.IGNORECASE), "gpu"),
    (re.compile(r"preempt", re.IGNORECASE), "preempted"),
    (re.compile(r"repair", re.IGNORECASE), "repair"),
    (re.compile(r"maintenance", re.IGNORECASE), "maintenance"),
    (re.compile(r"upgrad", re.IGNORECASE), "upgrade"),
    (re.compile(r"memory", re.IGNORECASE), "memory"),
    (re.compile(r"disk|ephemeral|filesystem|inode", re.IGNORECASE), "disk"),
)
"""What events and conditions tell whose reason is not known, by what is said in them."""

_USUAL = frozenset(
    {"Starting", "NodeReady", "RegisteredNode", "NodeHasSufficientMemory", "NodeHasNoDiskPressure"}
    | {"NodeHasSufficientPID", "NodeAllocatableEnforced", "NodeSchedulable", "Synced"}
    | {"NodeReadyStatus", "ContainerdStart", "DockerStart", "KubeletStart", "NodeSysctlChange"}
    | {"CIDRAssignmentSucceeded", "InvalidDiskCapacity", "NodeHasNoProblem"}
)
"""Reasons of events that tell of nothing wrong."""

_GOOD_WHEN_TRUE = "Ready"
_NO_FAULT = frozenset({"NetworkUnavailable"})


def node_words(
    name: str,
    node: KubernetesObject | None,
    events: Iterable[KubernetesObject],
    *,
    since: str = "",
) -> tuple[NodeWord, ...]:
    """Return what is said of a node, oldest first; what has no time comes last.

    Args:
        name: The node's name.
        node: The node, empty where it may not be looked at; None where there is none of this name.
        events: Events about it.
        since: When the run was first on it, as the API writes it: what was said before is left
            out, and a node that is younger is another machine.
    """
    told = [_of_event(name, each) for each in events if not since or moment_of(each) >= since]
    words = [each for each in told if each is not None]
    if node is None:
        words.append(NodeWord(node=name, kind="gone", text="the cluster has this node no more"))
    elif node and since and created_at(node) > since:
        text = "its machine was replaced by another one of this name"
        words.append(NodeWord(node=name, kind="gone", text=text, at=created_at(node)))
    elif node:
        words += _of_node(name, node)
    return tuple(sorted(dict.fromkeys(words), key=lambda each: each.at or "~"))


def is_spot(node: KubernetesObject | None) -> bool:
    """Whether a node is a machine that Google may take back at any time."""
    labels = ((node or {}).get("metadata") or {}).get("labels") or {}
    return (
        labels.get(SPOT_LABEL) == "true"
        or labels.get(PREEMPTIBLE_LABEL) == "true"
        or labels.get(PROVISIONING_LABEL) in ("spot", "preemptible")
    )


def _of_event(name: str, event: KubernetesObject) -> NodeWord | None:
    reason, message = str(event.get("reason") or ""), str(event.get("message") or "").strip()
    if reason in _USUAL:
        return None
    kind = _REASONS.get(reason) or _kind_of(f"{reason} {message}")
    if kind is None and event.get("type") != "Warning":
        return None
    text = f"{reason}: {message}" if message else reason
    return NodeWord(node=name, kind=kind or "other", text=text, at=moment_of(event))


def _of_node(name: str, node: KubernetesObject) -> Iterator[NodeWord]:
    metadata, spec = node.get("metadata") or {}, node.get("spec") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    if labels.get(MAINTENANCE_LABEL) == ONGOING:
        yield NodeWord(
            node=name, kind="maintenance", text="Google maintains the host of its machine now"
        )
    elif labels.get(SCHEDULED_LABEL):
        text = f"Google has scheduled maintenance of its host: {labels[SCHEDULED_LABEL]}"
        yield NodeWord(node=name, kind="other", text=text)
    operation = str(annotations.get(OPERATION_ANNOTATION) or "")
    for word, kind in _OPERATIONS.items():
        if word in operation.split(",") or operation == word:
            yield NodeWord(node=name, kind=kind, text=f"GKE's operation {word} changes it")
    for taint in spec.get("taints") or ():
        yield from _of_taint(name, str(taint.get("key")), taint, is_spot(node))
    for condition in (node.get("status") or {}).get("conditions") or ():
        yield from _of_condition(name, condition)


def _of_taint(name: str, key: str, taint: KubernetesObject, spot: bool) -> Iterator[NodeWord]:
    at = str(taint.get("timeAdded") or "")
    if key == TERMINATION_TAINT:
        kind: NodeWordKind = "preempted" if spot else "shutdown"
        yield NodeWord(node=name, kind=kind, text="its machine is about to be stopped", at=at)
    elif key in _TAINTS:
        yield NodeWord(node=name, kind=_TAINTS[key], text=f"it has the taint {key}", at=at)


def _of_condition(name: str, condition: KubernetesObject) -> Iterator[NodeWord]:
    kind, status = str(condition.get("type") or ""), condition.get("status")
    is_good = status == "True" if kind == _GOOD_WHEN_TRUE else status == "False"
    if is_good or kind in _NO_FAULT:
        return
    message = str(condition.get("message") or condition.get("reason") or "").strip()
    found: NodeWordKind | None = "not_ready" if kind == _GOOD_WHEN_TRUE else None
    found = found or _REASONS.get(kind) or _kind_of(f"{kind} {message}")
    state = "not Ready" if kind == _GOOD_WHEN_TRUE else kind
    text = f"it is {state}: {message}" if message else f"it is {state}"
    at = str(condition.get("lastTransitionTime") or "")
    yield NodeWord(node=name, kind=found or "other", text=text, at=at)


def _kind_of(text: str) -> NodeWordKind | None:
    return next((kind for pattern, kind in _WORDS if pattern.search(text)), None)
