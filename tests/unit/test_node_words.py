"""What is said of nodes, in GKE's and Kubernetes' words, and how pods ended."""

from __future__ import annotations

from typing import Any

import pytest

from kinetic_flows.platforms.gke.node_words import is_spot, node_words
from kinetic_flows.platforms.gke.process_facts import pod_ends
from kinetic_flows.platforms.gke.state import RunView

NODE = "gke-l4-1"
RUN = "0b8d6c1e-5a43-4a3c-9d5f-1f1a0d2c3b4e"


def a_node(
    labels: dict[str, str] | None = None,
    taints: tuple[str, ...] = (),
    conditions: tuple[tuple[str, str, str], ...] = (("Ready", "True", ""),),
    **metadata: Any,
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": NODE,
            "labels": labels or {},
            "creationTimestamp": "2026-01-31T08:00:00Z",
            **metadata,
        },
        "spec": {"taints": [{"key": key, "effect": "NoSchedule"} for key in taints]},
        "status": {
            "conditions": [
                {"type": kind, "status": status, "message": message}
                for kind, status, message in conditions
            ]
        },
    }


def an_event(
    reason: str, message: str = "", kind: str = "Normal", at: str = "10"
) -> dict[str, Any]:
    return {
        "reason": reason,
        "message": message,
        "type": kind,
        "lastTimestamp": f"2026-01-31T{at}:00:00Z",
    }


SPOT = {"cloud.google.com/gke-spot": "true"}
TERMINATION = "cloud.google.com/impending-node-termination"


@pytest.mark.parametrize(
    ("node", "kinds"),
    [
        (a_node(), []),
        (a_node({"cloud.google.com/active-node-maintenance": "ONGOING"}), ["maintenance"]),
        (a_node({"cloud.google.com/active-node-maintenance": "NONE"}), []),
        (a_node({"cloud.google.com/scheduled-maintenance-time": "1733083200"}), ["other"]),
        (a_node(annotations={"gke-current-operation": "AUTO_REPAIR_NODES"}), ["repair"]),
        (a_node(annotations={"gke-current-operation": "UPGRADE_NODES"}), ["upgrade"]),
        (a_node(annotations={"gke-current-operation": "SET_LABELS"}), []),
        (a_node(SPOT, (TERMINATION,)), ["preempted"]),
        (a_node(taints=(TERMINATION,)), ["shutdown"]),
        (a_node(taints=("ToBeDeletedByClusterAutoscaler",)), ["scaled_down"]),
        (a_node(taints=("node.kubernetes.io/unreachable", "nvidia.com/gpu")), ["not_ready"]),
        (a_node(conditions=(("Ready", "Unknown", "Kubelet stopped posting"),)), ["not_ready"]),
        (a_node(conditions=(("Ready", "True", ""), ("MemoryPressure", "True", ""))), ["memory"]),
        (a_node(conditions=(("DiskPressure", "True", "has disk pressure"),)), ["disk"]),
        (a_node(conditions=(("ReadonlyFilesystem", "True", "remounted"),)), ["disk"]),
        (a_node(conditions=(("KernelDeadlock", "True", "task hung"),)), ["kernel"]),
        (a_node(conditions=(("NetworkUnavailable", "True", ""),)), []),
        (a_node(conditions=(("KernelDeadlock", "False", ""),)), []),
        (None, ["gone"]),
        ({}, []),
    ],
)
def test_the_state_of_a_node_tells_what_befell_it(node, kinds):
    assert [each.kind for each in node_words(NODE, node, ())] == kinds


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (an_event("NodeNotReady", f"Node {NODE} status is now: NodeNotReady"), "not_ready"),
        (an_event("DeletingNode", "it does not exist in the cloud provider"), "gone"),
        (an_event("Shutdown", "Shutdown manager detected shutdown event"), "shutdown"),
        (an_event("Rebooted", "has been rebooted", "Warning"), "rebooted"),
        (an_event("ScaleDown", "node removed by cluster autoscaler"), "scaled_down"),
        (an_event("OOMKilling", "Memory cgroup out of memory", "Warning"), "memory"),
        (an_event("XidCriticalError", "Xid 79 on GPU 3", "Warning"), "gpu"),
        (an_event("NodeRepair", "the node is repaired"), "repair"),
        (an_event("HostMaintenance", "a maintenance event has begun"), "maintenance"),
        (an_event("PreemptionNotice", "the instance was preempted"), "preempted"),
        (an_event("SomethingNew", "nobody knows", "Warning"), "other"),
        (an_event("SomethingNew", "nobody knows"), None),
        (an_event("NodeReady", "Node status is now: NodeReady"), None),
        (an_event("NodeHasSufficientMemory", "has sufficient memory"), None),
    ],
)
def test_events_of_nodes_are_known_by_their_reason_or_by_what_they_say(event, kind):
    told = node_words(NODE, a_node(), (event,))
    assert [each.kind for each in told] == ([kind] if kind else [])


def test_what_was_said_before_the_run_was_there_does_not_count():
    events = [an_event("NodeNotReady", at="07"), an_event("Rebooted", at="11")]
    told = node_words(NODE, a_node(), events, since="2026-01-31T10:00:00Z")
    assert [each.kind for each in told] == ["rebooted"]


def test_a_younger_node_of_the_same_name_is_another_machine():
    node = a_node(creationTimestamp="2026-01-31T12:00:00Z")
    [told] = node_words(NODE, node, (), since="2026-01-31T10:00:00Z")
    assert (told.kind, told.text) == (
        "gone",
        "its machine was replaced by another one of this name",
    )


@pytest.mark.parametrize(
    ("labels", "is_it"),
    [
        (SPOT, True),
        ({"cloud.google.com/gke-preemptible": "true"}, True),
        ({"cloud.google.com/gke-provisioning": "spot"}, True),
        ({"cloud.google.com/gke-provisioning": "standard"}, False),
        ({}, False),
    ],
)
def test_spot_nodes_are_known_by_their_labels(labels, is_it):
    assert is_spot(a_node(labels)) is is_it


def a_pod(index: int, created: str, status: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"train-{index}",
            "uid": f"{index}-{created}",
            "creationTimestamp": f"2026-01-31T{created}:00:00Z",
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
        },
        "spec": {"nodeName": f"node-{index}", "containers": [{}]},
        "status": status,
    }


def test_ends_of_pods_are_counted_over_all_slices_and_starts_oldest_first():
    ended = {"state": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-31T10:30:00Z"}}}
    failed = {"phase": "Failed", "containerStatuses": [ended]}
    gone = a_pod(1, "09", {"phase": "Running"})
    job = {"metadata": {}, "spec": {"completions": 2}}
    views = {
        f"{RUN}-s0": RunView(job=job, pods=(a_pod(0, "10", failed), a_pod(1, "11", {}))),
        f"{RUN}-s1": RunView(
            job=job, departed=(gone,), pods=(a_pod(0, "12", {"phase": "Running"}),)
        ),
    }
    ends = pod_ends(views)
    assert [(end.host, end.place, end.is_alive) for end in ends] == [
        (3, "train-1", False),
        (0, "train-0", False),
        (1, "train-1", True),
        (2, "train-0", True),
    ]
    assert ends[0].message == "its pod is gone, and nothing was seen of its end"
    assert (ends[1].exit_code, ends[1].ended) == (1, "2026-01-31T10:30:00Z")
    assert ends[1].node == "node-0"
