"""What people are told of runs that wait, end badly, or are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.platforms.gke.diagnosis import Cause, Diagnosis, explain_refusal
from kinetic_flows.platforms.gke.ending import explain_end, explain_pod
from kinetic_flows.platforms.gke.waiting import explain_waiting

V6E = {
    "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
    "cloud.google.com/gke-tpu-topology": "2x4",
}
SPOT = {"cloud.google.com/gke-spot": "true"}
NO_MATCH = "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector."


def a_job(
    *, conditions: list[dict[str, Any]] | None = None, labels: Any = None, **spec: Any
) -> dict[str, Any]:
    return {
        "metadata": {"name": "train", "uid": "job-1", "labels": labels or {}},
        "spec": spec,
        "status": {"conditions": conditions or []},
    }


def a_pod(
    *,
    phase: str = "Pending",
    state: dict[str, Any] | None = None,
    conditions: list[dict[str, Any]] | None = None,
    selector: dict[str, str] | None = None,
    limits: dict[str, str] | None = None,
    node: str | None = None,
    host: str | None = None,
    **status: Any,
) -> dict[str, Any]:
    annotations = {"batch.kubernetes.io/job-completion-index": host} if host else {}
    container = {"name": "prefect-job", "image": "r/i@sha256:1", "resources": {"limits": limits}}
    return {
        "metadata": {"name": f"train-{host}", "uid": f"pod-{host}", "annotations": annotations},
        "spec": {"containers": [container], "nodeSelector": selector, "nodeName": node},
        "status": {
            "phase": phase,
            "conditions": conditions or [],
            "containerStatuses": [{"state": state}] if state else [],
            **status,
        },
    }


def an_event(reason: str, message: str = "", *, about: str = "pod-None", at: int = 0) -> Any:
    return {
        "involvedObject": {"uid": about},
        "reason": reason,
        "message": message,
        "lastTimestamp": f"2026-01-01T00:00:{at:02}Z",
    }


def waiting(pod: dict[str, Any], *events: Any, pools: list[NodePool] | None = None) -> Diagnosis:
    found = explain_waiting(a_job(), [pod], events, pools=pools)
    assert found is not None
    return found


def ended(pod: dict[str, Any], *, reason: str = "PodFailurePolicy", **spec: Any) -> Diagnosis:
    failed = {"type": "Failed", "status": "True", "reason": reason, "message": "policy"}
    found = explain_end(a_job(conditions=[failed], **spec), [pod])
    assert found is not None
    return found


def terminated(exit_code: int, reason: str = "Error", at: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": exit_code, "reason": reason, "finishedAt": at}}


def disturbed(reason: str, message: str = "") -> list[dict[str, Any]]:
    return [{"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}]


# Waiting


def test_nothing_waits_when_every_pod_runs():
    assert explain_waiting(a_job(), [a_pod(phase="Running")], []) is None


def test_a_suspended_job_waits_for_its_queue():
    job = a_job(labels={"kueue.x-k8s.io/queue-name": "tpus"}, suspend=True)
    found = explain_waiting(job, [], [])
    assert found is not None
    assert found.cause is Cause.QUEUE
    assert found.message == "queue 'tpus' has not admitted the Job yet"
    assert "`kubectl get workloads --namespace default`" in str(found.hint)
    assert "`kubectl describe localqueue tpus --namespace default`" in str(found.hint)


def test_a_job_suspended_by_hand_says_how_to_resume_it():
    found = explain_waiting(a_job(suspend=True), [], [])
    assert "kubectl patch job train --namespace default --type=merge" in str(found)


def test_no_node_pool_says_what_was_asked_for_and_which_exist():
    found = waiting(
        a_pod(selector=V6E),
        an_event("FailedScheduling", NO_MATCH),
        pools=[NodePool(name="small", accelerator="nvidia-l4")],
    )
    assert found.cause is Cause.NO_NODE_POOL
    assert found.permanent
    assert found.message == (
        "no node pool has gke-tpu-accelerator=tpu-v6e-slice, gke-tpu-topology=2x4; "
        "the cluster has: small (nvidia-l4)"
    )


def test_without_knowing_the_pools_the_autoscaler_is_quoted_and_may_change_its_mind():
    found = waiting(
        a_pod(selector=V6E),
        an_event("NotTriggerScaleUp", "pod didn't trigger scale-up: 2 node(s) didn't match"),
    )
    assert found.cause is Cause.NO_NODE_POOL
    assert "didn't trigger scale-up" in found.message
    assert not found.permanent


def test_a_scale_up_is_announced():
    found = waiting(
        a_pod(selector=V6E),
        an_event("NotTriggerScaleUp", at=1),
        an_event("TriggeredScaleUp", "[{pool 0->1 (max: 3)}]", at=2),
        an_event("FailedScheduling", NO_MATCH, at=3),
    )
    assert found.cause is Cause.SCALING_UP
    assert "autoscaler is adding a node" in found.message


def test_full_nodes_are_no_missing_node_pool():
    found = waiting(
        a_pod(selector=V6E),
        an_event(
            "FailedScheduling",
            "0/3 nodes are available: 1 Insufficient google.com/tpu, 2 node(s) didn't match "
            "Pod's node affinity/selector.",
        ),
        an_event("NotTriggerScaleUp", "1 max node group size reached", at=1),
    )
    assert found.cause is Cause.NO_ROOM
    assert found.message == (
        "no fitting node has enough free google.com/tpu: the autoscaler adds no node: the node "
        "pool is at its maximum size"
    )


@pytest.mark.parametrize(
    ("message", "why", "permanent"),
    [
        ("manifest unknown: not found", "the registry does not have it", True),
        ("403 Forbidden", "the registry refuses the node's credentials", True),
        ("connection reset by peer", "connection reset by peer", False),
    ],
)
def test_a_failed_image_pull_says_why(message, why, permanent):
    pod = a_pod(
        state={"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
    )
    found = waiting(pod, an_event("Failed", f'Failed to pull image "r/i@sha256:1": {message}'))
    assert found.cause is Cause.IMAGE_PULL
    assert found.message.startswith("the node cannot pull r/i@sha256:1: ")
    assert why in found.message
    assert found.permanent is permanent


def test_a_volumes_image_that_cannot_be_pulled_is_told_from_the_containers():
    pod = a_pod(state={"waiting": {"reason": "ErrImagePull", "message": "x"}})
    pod["spec"]["volumes"] = [{"name": "p", "image": {"reference": "r/p@sha256:2"}}]
    said = 'Failed to pull image "{}": manifest unknown'
    assert (
        "cannot pull r/p@sha256:2:"
        in waiting(pod, an_event("F", said.format("r/p@sha256:2"))).message
    )
    assert (
        "cannot pull r/i@sha256:1:"
        in waiting(pod, an_event("F", said.format("r/i@sha256:1"))).message
    )


def test_a_missing_secret_is_named():
    pod = a_pod(
        state={
            "waiting": {
                "reason": "CreateContainerConfigError",
                "message": 'secret "train-keys" not found',
            }
        }
    )
    found = waiting(pod)
    assert found.cause is Cause.CONFIGURATION
    assert 'secret "train-keys" not found' in found.message


def test_pulling_is_not_a_problem():
    found = waiting(a_pod(node="n-1"), an_event("Pulling"))
    assert (found.cause, found.message) == (Cause.STARTING, "the node is pulling the image")


def test_the_host_that_is_furthest_behind_is_reported():
    pulling = a_pod(node="n-1", host="0")
    stuck = a_pod(state={"waiting": {"reason": "ErrImagePull", "message": "not found"}}, host="1")
    found = explain_waiting(a_job(), [pulling, stuck], [])
    assert found is not None
    assert found.cause is Cause.IMAGE_PULL


@pytest.mark.parametrize(
    ("message", "cause", "words"),
    [
        (
            (
                'pods "x" is forbidden: exceeded quota: team, requested: cpu=8, used: cpu=4, '
                "limited: cpu=8"
            ),
            Cause.NAMESPACE_QUOTA,
            "resource quota 'team' of the namespace is used up (requested: cpu=8",
        ),
        (
            'error looking up service account ml/runner: serviceaccount "runner" not found',
            Cause.CONFIGURATION,
            "there is no service account 'runner'",
        ),
        (
            'admission webhook "policy.example.com" denied the request: no latest tags',
            Cause.ADMISSION,
            "admission webhook 'policy.example.com' refuses to make the Job's pod: no latest tags",
        ),
    ],
)
def test_a_pod_that_is_not_made_says_why(message, cause, words):
    event = an_event("FailedCreate", f"Error creating: {message}", about="job-1")
    found = explain_waiting(a_job(), [], [event])
    assert found is not None
    assert found.cause is cause
    assert words in found.message


def test_events_of_other_objects_do_not_matter():
    found = explain_waiting(a_job(), [], [an_event("FailedCreate", "boom", about="another")])
    assert found is not None
    assert found.cause is Cause.STARTING


# Ending


def test_a_job_that_has_not_ended_has_no_end():
    assert explain_end(a_job(), [a_pod(phase="Running")]) is None
    assert explain_pod(a_pod(phase="Running")) is None


def test_a_completed_job_succeeded():
    job = a_job(conditions=[{"type": "Complete", "status": "True"}])
    found = explain_end(job, [])
    assert found is not None
    assert found.cause is Cause.SUCCEEDED


def test_out_of_memory_names_the_limit_and_is_never_retried():
    found = ended(
        a_pod(phase="Failed", state=terminated(137, "OOMKilled"), limits={"memory": "16Gi"})
    )
    assert found.cause is Cause.OUT_OF_MEMORY
    assert found.message == "the pod was killed for using more memory than its limit of 16Gi"
    assert "never retried" in str(found.hint)


def test_a_kill_by_the_node_s_own_memory_shortage_is_told_from_any_other_kill():
    pod = a_pod(phase="Failed", state=terminated(137))
    oom = explain_pod(pod, [an_event("OOMKilling")])
    killed = explain_pod(pod)
    assert oom is not None
    assert killed is not None
    assert oom.cause is Cause.OUT_OF_MEMORY
    assert killed.message == "the pod ended with exit code 137: killed by signal 9"


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [
        (1, "the function raised"),
        (42, "does not match its digest"),
        (139, "killed by signal 11"),
        (3, "exit code 3"),
    ],
)
def test_exit_codes_are_put_in_words(exit_code, words):
    found = ended(a_pod(phase="Failed", state=terminated(exit_code)))
    assert (found.cause, found.exit_code) == (Cause.FAILED, exit_code)
    assert words in found.message


@pytest.mark.parametrize(
    ("reason", "cause", "words"),
    [
        ("PreemptionByScheduler", Cause.PREEMPTED, "a pod of higher priority took its place"),
        ("DeletionByTaintManager", Cause.NODE_LOST, "unfit or unreachable"),
        ("EvictionByEvictionAPI", Cause.EVICTED, "being drained"),
        ("DeletionByPodGC", Cause.NODE_LOST, "its node is gone"),
        ("SomethingNew", Cause.EVICTED, "SomethingNew"),
    ],
)
def test_disruptions_are_put_in_words(reason, cause, words):
    found = ended(a_pod(phase="Failed", conditions=disturbed(reason)))
    assert found.cause is cause
    assert words in found.message


def test_the_shutdown_of_a_spot_node_is_a_preemption():
    stopped = disturbed("TerminationByKubelet", "Pod was terminated in response to node shutdown")
    on_spot = a_pod(phase="Failed", conditions=stopped, selector=SPOT, reason="Terminated")
    elsewhere = a_pod(phase="Failed", conditions=stopped, reason="Terminated")
    assert ended(on_spot).message == "the pod was preempted: Google took its Spot VM"
    assert ended(elsewhere).cause is Cause.NODE_LOST


def test_pressure_on_the_node_is_an_eviction():
    pod = a_pod(
        phase="Failed",
        conditions=disturbed("TerminationByKubelet"),
        reason="Evicted",
        message="The node was low on resource: memory. ",
    )
    found = ended(pod)
    assert found.cause is Cause.EVICTED
    assert found.message == "the pod was evicted: The node was low on resource: memory."


def test_too_much_disk_is_told_apart():
    pod = a_pod(
        phase="Failed",
        conditions=disturbed("TerminationByKubelet"),
        reason="Evicted",
        message="Pod ephemeral local storage usage exceeds the total limit of containers 1Gi.",
    )
    found = ended(pod)
    assert found.cause is Cause.OUT_OF_DISK
    assert "KINETIC_OUTPUT_DIR" in str(found.hint)


@pytest.mark.parametrize(
    ("message", "cause", "advice"),
    [
        # https://github.com/kubernetes/kubernetes/blob/v1.36.2/pkg/kubelet/eviction/helpers.go
        (
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. ",
            Cause.OUT_OF_DISK,
            "raise ephemeral_storage",
        ),
        (
            'Container prefect-job exceeded its local ephemeral storage limit "1Gi". ',
            Cause.OUT_OF_DISK,
            "raise ephemeral_storage",
        ),
        (
            'Usage of EmptyDir volume "shared-memory" exceeds the limit "64Mi". ',
            Cause.OUT_OF_DISK,
            "raise shared_memory",
        ),
        ("The node had condition: [DiskPressure]. ", Cause.OUT_OF_DISK, "raise ephemeral_storage"),
        ("The node had condition: [MemoryPressure]. ", Cause.EVICTED, "request the memory"),
    ],
)
def test_an_eviction_that_is_no_disturbance_reads_as_what_it_is(message, cause, advice):
    state = terminated(143)
    found = ended(a_pod(phase="Failed", state=state, reason="Evicted", message=message))
    assert (found.cause, found.permanent, found.exit_code) == (cause, True, None)
    assert found.message == f"the pod was evicted: {message.strip()}"
    assert advice in str(found.hint)


def test_a_deleted_pod_is_no_disturbance_and_says_so():
    pod = a_pod(phase="Failed", state=terminated(143))
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:01Z"
    found = ended(pod, backoffLimit=2)
    assert (found.cause, found.message) == (Cause.DELETED, "the pod was deleted (exit code 143)")
    assert "of that max_preemptions starts no run again" in str(found.hint)


def test_of_a_slice_whose_pods_were_all_stopped_the_one_that_its_job_names_is_blamed():
    message = (
        "Container prefect-job for pod default/train-1 failed with exit code 143 matching FailJob "
        "rule at index 1"
    )
    failed = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": message}
    pods = []
    for host, at in (("0", "2026-01-01T00:00:09Z"), ("1", "2026-01-01T00:00:01Z")):
        pods.append(a_pod(phase="Failed", state=terminated(143, at=at), host=host))
        pods[-1]["metadata"]["deletionTimestamp"] = at
    found = explain_end(a_job(conditions=[failed]), pods)
    assert found is not None
    assert found.message == "host 1 was deleted (exit code 143)"


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("OutOfcpu", "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000"),
        (
            "UnexpectedAdmissionError",
            (
                "Pod was rejected: Allocate failed due to no healthy devices present; cannot "
                "allocate unhealthy devices google.com/tpu, which is unexpected"
            ),
        ),
    ],
)
def test_a_pod_that_its_node_refuses_says_so_and_what_starts_it_again(reason, message):
    pod = a_pod(phase="Failed", reason=reason, message=message)
    found = ended(pod, reason="BackoffLimitExceeded", backoffLimit=0)
    assert found.message == f"its node refused the pod: {message}"
    assert "max_preemptions=" in str(found.hint)


@pytest.mark.parametrize(
    "reason", ["PreemptionByScheduler", "EvictionByEvictionAPI", "DeletionByPodGC"]
)
def test_a_disturbance_that_nothing_is_started_again_for_names_the_option(reason):
    pod = a_pod(phase="Failed", conditions=disturbed(reason))
    found = ended(pod, reason="BackoffLimitExceeded", backoffLimit=0)
    assert "starts again only with max_preemptions=" in str(found.hint)


def test_the_deadline_is_named():
    found = ended(a_pod(), reason="DeadlineExceeded", activeDeadlineSeconds=60)
    assert found.cause is Cause.DEADLINE
    assert "60 seconds" in found.message


def test_the_last_preemption_says_that_the_limit_was_reached():
    pod = a_pod(phase="Failed", conditions=disturbed("PreemptionByScheduler"))
    found = ended(pod, reason="BackoffLimitExceeded", backoffLimit=3)
    assert found.cause is Cause.PREEMPTED
    assert "started again 3 times, which is the limit" in found.message


def test_a_job_whose_pods_are_gone_says_so():
    failed = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "why"}
    found = explain_end(a_job(conditions=[failed]), [])
    assert found is not None
    assert found.message == "the Job failed and its pods are gone: why"


def test_the_host_that_failed_is_blamed_and_not_those_stopped_after_it():
    failed = {"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}
    culprit = a_pod(phase="Failed", state=terminated(1, at="2026-01-01T00:00:01Z"), host="1")
    bystander = a_pod(phase="Failed", state=terminated(143, at="2026-01-01T00:00:02Z"), host="0")
    found = explain_end(a_job(conditions=[failed]), [culprit, bystander])
    assert found is not None
    assert found.message == "host 1 ended with exit code 1: the function raised"


# Refusals


def refused(status: int, message: str) -> Diagnosis:
    return explain_refusal(status, json.dumps({"kind": "Status", "message": message}), "create it")


def test_missing_rights_name_who_what_and_where():
    found = refused(
        403,
        'jobs.batch is forbidden: User "ann@example.com" cannot create resource "jobs" in API '
        'group "batch" in the namespace "ml"',
    )
    assert found.cause is Cause.FORBIDDEN
    assert found.message == "ann@example.com may not create jobs.batch in namespace 'ml'"
    assert "RoleBinding" in str(found.hint)


def test_a_missing_namespace_says_how_to_create_it():
    found = refused(404, 'namespaces "ml" not found')
    assert found.cause is Cause.NAMESPACE_MISSING
    assert "kubectl create namespace ml" in str(found.hint)


def test_an_image_whose_program_is_missing_is_told_what_runs_need():
    words = 'exec: "python3": executable file not found in $PATH: unknown'
    state = {"terminated": {"exitCode": 128, "reason": "StartError", "message": words}}

    found = ended(a_pod(phase="Failed", state=state))

    assert found.permanent
    assert found.message == (
        f"the container of the pod could not be started: {words}; "
        "an image needs python3 on its PATH"
    )


def test_bad_credentials_say_how_to_sign_in():
    assert "gcloud auth" in str(refused(401, "Unauthorized").hint)


def test_a_sick_cluster_is_not_a_permanent_refusal():
    found = explain_refusal(503, "upstream unavailable", "create the Job")
    assert (found.cause, found.permanent) == (Cause.UNREACHABLE, False)
    assert "upstream unavailable" in found.message
