"""Why pods have no node, from sentences that schedulers, autoscalers and kubelets really say."""

from __future__ import annotations

from typing import Any

import pytest

from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.platforms.gke.diagnosis import Cause, Diagnosis, explain_denial, explain_refusal
from kinetic_flows.platforms.gke.ending import explain_pod
from kinetic_flows.platforms.gke.phase import Timeouts, evaluate, gives_up
from kinetic_flows.platforms.gke.state import RunView
from kinetic_flows.platforms.gke.waiting import explain_waiting

V6E = {
    "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
    "cloud.google.com/gke-tpu-topology": "2x4",
}
V6E_POOL = NodePool(
    name="v6e", accelerator="tpu-v6e-slice", topology="2x4", machine_type="ct6e-standard-8t"
)
CPU_POOL = NodePool(name="default", machine_type="e2-standard-4")
JOB = {
    "metadata": {"name": "train", "uid": "job", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {},
}
GKE = "Node scale up in zones us-central1-a associated with this pod failed: {}. Pod is at risk"
NOT = "pod didn't trigger scale-up: {}"
NO_MATCH = (
    "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. preemption: "
    "0/3 nodes are available: 3 Preemption is not helpful for scheduling."
)


def a_pod(selector: dict[str, str] | None = None, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "train-x", "uid": "pod", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"image": "r/i@sha256:1"}], "nodeSelector": selector},
        "status": {"phase": "Pending", **status},
    }


def events(*told: tuple[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "involvedObject": {"uid": "pod"},
            "reason": reason,
            "message": message,
            "lastTimestamp": f"2026-01-01T00:00:{at:02}Z",
        }
        for at, (reason, message) in enumerate(told)
    ]


def found(
    *told: tuple[str, str],
    selector: dict[str, str] | None = V6E,
    pools: tuple[NodePool, ...] | None = None,
) -> Diagnosis:
    diagnosis = explain_waiting(JOB, [a_pod(selector)], events(*told), pools=pools)
    assert diagnosis is not None
    return diagnosis


# What FailedScaleUp says of GKE's nodes:
# https://cloud.google.com/kubernetes-engine/docs/how-to/cluster-autoscaler-visibility#messages
FAILURES = [
    ("GCE out of resources", Cause.CLOUD_CAPACITY, "the zone has none to give"),
    ('Some nodes in node group ["ng1"] failed to appear in time', Cause.CLOUD_CAPACITY, "zone"),
    ("ZONE_RESOURCE_POOL_EXHAUSTED", Cause.CLOUD_CAPACITY, "the zone has none to give"),
    ("GCE quota exceeded", Cause.CLOUD_QUOTA, "the project's quota is used up"),
    ("IP space exhausted", Cause.NO_ADDRESSES, "no IP addresses left"),
    ("Reservation capacity exceeded: r1", Cause.CLOUD_CAPACITY, "reservation has none left"),
    ("Reservation not ready", Cause.CLOUD_CAPACITY, "not ready yet"),
    ("Internal error", Cause.SCALING_UP, "Internal error"),
    ('Node group "nap-1" already exists', Cause.SCALING_UP, "already exists"),
]
HOPELESS_FAILURES = [
    ("Service Account was deleted", "service account was deleted"),
    ("Invalid TPU topology: 3x3", "Invalid TPU topology: 3x3"),
    ("Invalid Reservation: r1", "Invalid Reservation: r1"),
    ("Reservation not found or incorrectly shared: r1", "Reservation not found"),
]
# Why NotTriggerScaleUp leaves node pools alone for now:
# https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/core/scaleup/orchestrator/skippedreasons.go
SKIPPED = [
    ("1 in backoff after failed scale-up", Cause.CLOUD_CAPACITY, "waits before it tries again"),
    ("1 max node group size reached", Cause.NO_ROOM, "the node pool is at its maximum size"),
    ("1 max cluster cpu, memory limit reached", Cause.NO_ROOM, "the cluster is at its maximum"),
    ("1 not ready for scale-up", Cause.SCALING_UP, "not ready for another node"),
]


@pytest.mark.parametrize(("words", "cause", "said"), FAILURES)
def test_a_failed_scale_up_says_why_and_is_waited_out(words, cause, said):
    diagnosis = found(("FailedScheduling", NO_MATCH), ("FailedScaleUp", GKE.format(words)))
    assert (diagnosis.cause, diagnosis.permanent) == (cause, False)
    assert said in diagnosis.message


@pytest.mark.parametrize(("words", "said"), HOPELESS_FAILURES)
def test_a_scale_up_that_can_never_succeed_is_hopeless(words, said):
    diagnosis = found(("FailedScaleUp", GKE.format(words)))
    assert diagnosis.permanent
    assert said in diagnosis.message


@pytest.mark.parametrize(("words", "cause", "said"), SKIPPED)
@pytest.mark.parametrize("others", ["", "2 node(s) didn't match Pod's node affinity/selector, "])
def test_a_pool_that_gets_no_node_now_is_no_missing_pool_and_is_never_given_up_early(
    words, cause, said, others
):
    told = (("FailedScheduling", NO_MATCH), ("NotTriggerScaleUp", NOT.format(others + words)))
    diagnosis = found(*told, pools=(CPU_POOL, V6E_POOL))
    assert (diagnosis.cause, diagnosis.permanent) == (cause, False)
    assert said in diagnosis.message
    assert "node pool v6e would have gke-tpu-accelerator=tpu-v6e-slice" in diagnosis.message
    view = RunView(job=JOB, pods=(a_pod(V6E),), events=tuple(events(*told)))
    for pools in ((CPU_POOL, V6E_POOL), None):
        status = evaluate(view, pools)
        assert not gives_up(status, Timeouts(hopeless_timeout_seconds=0), 1000)


@pytest.mark.parametrize(("words", "cause", "said"), FAILURES)
def test_in_back_off_the_last_failure_is_still_the_reason(words, cause, said):
    diagnosis = found(
        ("TriggeredScaleUp", "pod triggered scale-up: [{v6e 0->1 (max: 3)}]"),
        ("FailedScaleUp", GKE.format(words)),
        ("NotTriggerScaleUp", NOT.format("1 in backoff after failed scale-up")),
    )
    assert (diagnosis.cause, diagnosis.permanent) == (cause, False)
    assert said in diagnosis.message
    assert diagnosis.message.endswith("it waits before it tries again")


def test_a_pool_that_does_not_exist_is_missing_however_full_the_others_are():
    diagnosis = found(
        ("FailedScheduling", NO_MATCH),
        ("NotTriggerScaleUp", NOT.format("1 max node group size reached")),
        pools=(CPU_POOL,),
    )
    assert (diagnosis.cause, diagnosis.permanent) == (Cause.NO_NODE_POOL, True)
    assert diagnosis.message.endswith("the cluster has: default (e2-standard-4)")


def test_where_nobody_knows_the_pools_a_full_one_is_quoted_and_waited_for():
    full = NOT.format(
        "2 node(s) didn't match Pod's node affinity/selector, 1 max node group size reached"
    )
    diagnosis = found(("NotTriggerScaleUp", full))
    assert not diagnosis.permanent
    assert diagnosis.message == (
        "no node pool has gke-tpu-accelerator=tpu-v6e-slice, gke-tpu-topology=2x4 that can get a "
        f"node now ({full})"
    )


def test_a_pool_without_autoscaling_is_no_missing_pool():
    diagnosis = found(
        ("NotTriggerScaleUp", NOT.format("1 node(s) didn't match Pod's node affinity/selector")),
        pools=(CPU_POOL, V6E_POOL),
    )
    assert (diagnosis.cause, diagnosis.permanent) == (Cause.NO_ROOM, False)
    assert "though node pool v6e would" in diagnosis.message


@pytest.mark.parametrize(
    ("said", "cause", "words"),
    [
        (
            (
                "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: "
                "1 No preemption victims found for incoming pod."
            ),
            Cause.NO_ROOM,
            "no fitting node has enough free cpu",
        ),
        (
            (
                "0/3 nodes are available: 1 node(s) had untolerated taint {a: b}, 2 Insufficient "
                "google.com/tpu."
            ),
            Cause.NO_ROOM,
            "no fitting node has enough free google.com/tpu",
        ),
        (
            (
                "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. preemption: "
                "0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            ),
            Cause.NO_NODE_POOL,
            "no node has enough cpu, memory for what the run requests, however free it were",
        ),
    ],
)
def test_what_no_node_could_hold_is_told_from_what_is_taken(said, cause, words):
    diagnosis = found(("FailedScheduling", said), selector=None)
    assert (diagnosis.cause, diagnosis.message) == (cause, words)


def test_what_no_node_could_hold_does_not_wait_for_other_runs_to_end():
    said = (
        "0/1 nodes are available: 1 Insufficient memory. preemption: 0/1 nodes are available: "
        "1 Preemption is not helpful for scheduling."
    )
    diagnosis = found(
        ("FailedScheduling", said),
        ("NotTriggerScaleUp", NOT.format("1 max node group size reached")),
        selector=None,
    )
    assert diagnosis.message.startswith("no node has enough memory for what the run requests")
    assert "ask for less memory with memory=" in str(diagnosis.hint)
    assert not diagnosis.permanent


def test_what_no_machine_of_a_pool_scaled_to_zero_could_hold_is_hopeless():
    diagnosis = found(
        ("FailedScheduling", NO_MATCH),
        ("NotTriggerScaleUp", NOT.format("1 Insufficient google.com/tpu")),
        pools=(V6E_POOL,),
    )
    assert diagnosis.permanent
    assert "no node has enough google.com/tpu for what the run requests" in diagnosis.message


@pytest.mark.parametrize(
    "said",
    [
        "0/2 nodes are available: 2 node(s) had untolerated taint {team: research}.",
        "0/2 nodes are available: 2 node(s) had taint {team: research}, that it didn't tolerate",
    ],
)
def test_a_taint_that_keeps_a_run_off_every_node_is_named(said):
    diagnosis = found(("FailedScheduling", said), selector=None)
    assert diagnosis.cause is Cause.TAINTED
    assert diagnosis.message.endswith("taints that the run does not tolerate: {team: research}")
    assert "tolerations in job_variables" in str(diagnosis.hint)


def test_taints_whose_names_the_scheduler_keeps_to_itself_are_spoken_of_too():
    said = (
        "0/1 nodes are available: 1 node(s) had untolerated taint(s). no new claims to deallocate"
    )
    diagnosis = found(("FailedScheduling", said), selector=None)
    assert diagnosis.message.endswith("taints that the run does not tolerate")


def test_nodes_that_are_not_ready_yet_want_no_toleration():
    said = (
        "0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }."
    )
    diagnosis = found(("FailedScheduling", said), selector=None)
    assert (diagnosis.cause, diagnosis.hint) == (Cause.STARTING, None)
    assert "not ready for pods: {node.kubernetes.io/not-ready: }" in diagnosis.message


def test_the_taints_of_another_accelerators_nodes_are_not_the_matter():
    said = (
        "0/3 nodes are available: 1 node(s) had untolerated taint {nvidia.com/gpu: present}, "
        "2 node(s) didn't match Pod's node affinity/selector."
    )
    diagnosis = found(
        ("FailedScheduling", said),
        (
            "NotTriggerScaleUp",
            NOT.format("1 node(s) had untolerated taint {nvidia.com/gpu: present}"),
        ),
        pools=(CPU_POOL,),
    )
    assert (diagnosis.cause, diagnosis.permanent) == (Cause.NO_NODE_POOL, True)


# What kubelets and container runtimes say


def test_a_node_without_addresses_says_so():
    # https://github.com/containernetworking/plugins/blob/main/plugins/ipam/host-local/backend/allocator/allocator.go
    told = events(
        (
            "FailedCreatePodSandBox",
            (
                'Failed to create pod sandbox: rpc error: plugin type="ptp" failed (add): '
                "failed to allocate for range 0: no IP addresses available in range set: 10.4.0.1-6"
            ),
        )
    )
    pod = a_pod()
    pod["spec"]["nodeName"] = "n-1"
    diagnosis = explain_waiting(JOB, [pod], told)
    assert diagnosis is not None
    assert (diagnosis.cause, diagnosis.permanent) == (Cause.NO_ADDRESSES, False)


def test_an_image_for_another_platform_was_not_deleted():
    # https://github.com/containerd/containerd/blob/main/core/images/image.go
    state = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    said = (
        'Failed to pull image "r/i@sha256:1": rpc error: code = NotFound desc = failed to pull and '
        'unpack image "r/i@sha256:1": no match for platform in manifest: not found'
    )
    pod = a_pod(containerStatuses=[{"state": state}])
    diagnosis = explain_waiting(JOB, [pod], events(("Failed", said)))
    assert diagnosis is not None
    assert diagnosis.message.endswith("it is not built for the platform of the node")
    assert diagnosis.permanent


def test_a_program_for_another_platform_says_so():
    words = 'exec: "/usr/bin/python3": exec format error: unknown'
    ended = {"terminated": {"exitCode": 128, "reason": "StartError", "message": words}}
    pod = a_pod(phase="Failed", containerStatuses=[{"state": ended}])
    diagnosis = explain_pod(pod)
    assert diagnosis is not None
    assert diagnosis.message.endswith("the image is not built for the platform of the node")


def test_a_webhook_that_does_not_answer_is_waited_for_and_one_that_refuses_is_not():
    # https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/
    away = (
        'Internal error occurred: failed calling webhook "policy.example.com": failed to call '
        'webhook: Post "https://policy.default.svc:443/check?timeout=9s": context deadline exceeded'
    )
    for diagnosis in (
        explain_denial(f"Error creating: {away}", "make the Job's pod"),
        explain_refusal(500, away, "create the Job"),
    ):
        assert (diagnosis.cause, diagnosis.permanent) == (Cause.ADMISSION, False)
        assert "admission webhook 'policy.example.com' does not answer" in diagnosis.message
    denied = 'admission webhook "policy.example.com" denied the request: no team label'
    assert explain_denial(denied, "make the Job's pod").permanent
