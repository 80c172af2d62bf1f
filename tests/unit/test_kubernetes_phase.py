"""Where a run is in its life, and when its wait is over."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.core.launcher import Phase
from kinetic_flows.platforms.gke.diagnosis import INDEX_ANNOTATION, Cause
from kinetic_flows.platforms.gke.phase import Timeouts, evaluate, gives_up, timeouts_of
from kinetic_flows.platforms.gke.state import RunView

NOON = "2026-01-01T12:00:00Z"
FIVE = "2026-01-01T17:00:00Z"
LATER = "2026-01-01T17:00:05Z"


def job(
    *conditions: tuple[str, str], failed: int = 0, limit: int = 3, **metadata: Any
) -> dict[str, Any]:
    return {
        "metadata": {"name": "train", "uid": "j", "creationTimestamp": NOON, **metadata},
        "spec": {"backoffLimit": limit},
        "status": {
            "failed": failed,
            "conditions": [
                {"type": kind, "status": "True", "reason": reason} for kind, reason in conditions
            ],
        },
    }


def pod(phase: str, created: str = NOON, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": f"pod-{created}", "uid": created, "creationTimestamp": created},
        "spec": {"containers": [{}], "nodeSelector": {"cloud.google.com/gke-spot": "true"}},
        "status": {"phase": phase, **status},
    }


def said(what: str) -> dict[str, Any]:
    about = {"name": f"pod-{NOON}", "uid": NOON}
    return {"reason": f"{what}TriggerScaleUp", "message": "no", "involvedObject": about}


def ended(exit_code: int, reason: str = "Error", **status: Any) -> dict[str, Any]:
    state = {"terminated": {"exitCode": exit_code, "reason": reason, "finishedAt": FIVE}}
    return pod("Failed", containerStatuses=[{"state": state}], **status)


def with_metadata(item: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {**item, "metadata": {**item["metadata"], **metadata}}


def preempted(ended: str = FIVE) -> dict[str, Any]:
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "lastTransitionTime": ended,
    }
    return pod("Failed", reason="Terminated", conditions=[condition])


def test_a_run_waits_since_its_job_was_made():
    status = evaluate(RunView(job=job(), pods=(pod("Pending"),)))
    assert status.phase is Phase.PENDING
    assert status.waiting_since == datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_preempted_runs_wait_begins_with_its_end_and_not_with_the_job():
    status = evaluate(RunView(job=job(failed=1), pods=(preempted(),)))
    assert status.phase is Phase.PENDING
    assert status.waiting_since == datetime(2026, 1, 1, 17, tzinfo=UTC)
    assert status.reason == (
        "the pod was preempted: Google took its Spot VM; it starts again "
        "(disturbance 1 of at most 3)"
    )


def test_a_preempted_runs_wait_goes_on_with_the_pod_that_replaces_it():
    status = evaluate(RunView(job=job(), pods=(preempted(), pod("Pending", LATER))))
    assert status.waiting_since == datetime(2026, 1, 1, 17, 0, 5, tzinfo=UTC)


def test_a_pod_that_went_with_its_node_still_says_why_the_run_waits():
    status = evaluate(RunView(job=job(failed=1), departed=(preempted(),)))
    assert status.phase is Phase.PENDING
    assert "Google took its Spot VM" in status.reason
    assert status.waiting_since == datetime(2026, 1, 1, 17, tzinfo=UTC)


def test_a_restarted_run_that_runs_says_why_it_was_restarted():
    status = evaluate(RunView(job=job(), pods=(preempted(), pod("Running", LATER))))
    assert status.phase is Phase.RUNNING
    assert "Google took its Spot VM" in status.reason
    assert status.restarts == 1
    assert evaluate(RunView(job=job(), pods=(pod("Running"),))).restarts == 0


def test_of_a_slice_that_lost_two_hosts_at_once_one_restart_is_counted():
    lost = [with_metadata(preempted(), annotations={INDEX_ANNOTATION: index}) for index in "01"]
    new = [
        with_metadata(pod("Running", LATER), annotations={INDEX_ANNOTATION: index})
        for index in "01"
    ]
    assert evaluate(RunView(job=job(), pods=(*lost, *new))).restarts == 1


FAILURES = {
    "exception": ended(1),
    "failed install": ended(45),
    "out of memory": ended(137, "OOMKilled"),
    "kubectl delete pod": with_metadata(ended(143), deletionTimestamp=FIVE),
    "full disk": ended(143)
    | {
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "Pod ephemeral local storage usage exceeds the total limit of containers.",
        }
    },
    "deadline": ended(143),
    "preempted": preempted(),
}


@pytest.mark.parametrize("failed_pod", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("limit", [0, 2])
def test_nobody_says_what_follows_from_an_end_before_the_job_has_decided(failed_pod, limit):
    tracked = with_metadata(failed_pod, finalizers=["batch.kubernetes.io/job-tracking"])
    for view in (
        RunView(job=job(limit=limit), pods=(tracked,)),
        # Another client cannot know how the pods ended that went before this one.
        RunView(job=job(failed=1, limit=limit), pods=(tracked,)),
        RunView(job=job(limit=limit), departed=(failed_pod,)),
        RunView(job=job(("FailureTarget", "why"), failed=1, limit=limit), pods=(failed_pod,)),
    ):
        status = evaluate(view)
        assert (status.phase, status.reason) == (Phase.RUNNING, "")
        assert not gives_up(status, Timeouts(schedule_timeout_seconds=0), 1e9)


def test_an_end_that_is_noted_with_its_job_is_decided_before_its_number_is():
    tracked = with_metadata(preempted(), finalizers=["batch.kubernetes.io/job-tracking"])
    noted = job()
    noted["status"]["uncountedTerminatedPods"] = {"failed": [tracked["metadata"]["uid"]]}
    assert (
        "it starts again (disturbance 1 of" in evaluate(RunView(job=noted, pods=(tracked,))).reason
    )


def test_a_failure_beyond_the_limit_is_never_said_to_start_again():
    status = evaluate(RunView(job=job(failed=1, limit=0), pods=(preempted(),)))
    assert "again" not in status.reason


def test_of_a_restarted_run_that_ends_only_the_first_start_is_spoken_of():
    second = pod("Failed", LATER)
    status = evaluate(RunView(job=job(failed=1), pods=(preempted(), second)))
    assert status.phase is Phase.RUNNING
    assert status.reason.endswith("it starts again (disturbance 1 of at most 3)")


def test_pods_that_a_queue_took_away_do_not_hide_that_it_did():
    waiting = job(failed=0, labels={"kueue.x-k8s.io/queue-name": "tpus"})
    waiting["spec"]["suspend"] = True
    status = evaluate(RunView(job=waiting, departed=(ended(143),)))
    assert status.phase is Phase.PENDING
    assert status.reason.startswith("queue 'tpus' has not admitted the Job yet")


def test_a_slice_runs_only_when_all_its_hosts_do():
    status = evaluate(RunView(job=job(), pods=(pod("Running"), pod("Pending", LATER))))
    assert status.phase is Phase.PENDING


def test_a_failing_job_is_not_over_while_its_other_pods_stop():
    view = RunView(job=job(("FailureTarget", "PodFailurePolicy")), pods=(pod("Running"),))
    assert evaluate(view).phase is Phase.RUNNING


def test_a_deleted_job_is_not_over_while_its_pods_stop():
    view = RunView(job=job(deletionTimestamp=FIVE), pods=(pod("Running"),))
    assert evaluate(view).phase is Phase.RUNNING


@pytest.mark.parametrize(
    ("timeouts", "waited_seconds", "words"),
    [
        (Timeouts(schedule_timeout_seconds=60), 59, ""),
        (Timeouts(schedule_timeout_seconds=60), 60, "it did not start within 60 seconds: "),
        (Timeouts(schedule_timeout_seconds=None), 1e9, ""),
    ],
)
def test_a_wait_ends_with_the_reason_it_had(timeouts, waited_seconds, words):
    status = evaluate(RunView(job=job(), pods=(pod("Pending"),)))
    said = gives_up(status, timeouts, waited_seconds)
    assert said.startswith(words) if words else not said


def test_a_wait_that_cannot_help_ends_sooner():
    message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    unscheduled = {"type": "PodScheduled", "status": "False", "message": message}
    view = RunView(
        job=job(), pods=(pod("Pending", conditions=[unscheduled]),), events=(said("Not"),)
    )
    pools = (NodePool(name="gpus", accelerator="nvidia-l4", machine_type="g2-standard-4"),)
    assert gives_up(evaluate(view, pools), Timeouts(), 120) == (
        "it cannot start: no node pool has gke-spot=true; the cluster has: "
        "gpus (nvidia-l4 g2-standard-4); create such a node pool, or take an accelerator that "
        "the cluster has"
    )
    assert not gives_up(evaluate(view), Timeouts(), 120), "nobody knows the node pools"


def test_before_the_autoscaler_has_spoken_no_node_pool_is_said_to_be_missing():
    message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    unscheduled = {"type": "PodScheduled", "status": "False", "message": message}
    view = RunView(job=job(), pods=(pod("Pending", conditions=[unscheduled]),))
    status = evaluate(view, ())
    assert status.reason.startswith("no node fits yet, and the autoscaler has not said whether")
    assert not gives_up(status, Timeouts(), 120)


def test_what_runs_is_never_given_up():
    status = evaluate(RunView(job=job(), pods=(pod("Running"),)))
    assert not gives_up(status, Timeouts(schedule_timeout_seconds=1), 1e9)


@pytest.mark.parametrize(
    ("said", "limit"), [("90", 90.0), ("none", None), ("soon", 3600.0), (None, 3600.0)]
)
def test_a_job_says_how_long_it_may_wait(said, limit):
    annotations = {} if said is None else {"kinetic-flows/schedule-timeout-seconds": said}
    found = timeouts_of(job(annotations=annotations), Timeouts())
    assert found.schedule_timeout_seconds == limit


@pytest.mark.parametrize(
    ("last_pod", "reason", "is_lasting", "cause"),
    [
        (preempted(), "BackoffLimitExceeded", False, Cause.PREEMPTED),
        (ended(143, reason="Error", conditions=[]), "PodFailurePolicy", True, Cause.FAILED),
        (ended(137, reason="OOMKilled"), "PodFailurePolicy", True, Cause.OUT_OF_MEMORY),
        (ended(1), "PodFailurePolicy", True, Cause.FAILED),
    ],
)
def test_what_ended_a_run_tells_whether_another_call_may_get_further(
    last_pod, reason, is_lasting, cause
):
    status = evaluate(RunView(job=job(("Failed", reason), limit=0), pods=(last_pod,)))
    assert status.phase is Phase.FAILED
    assert status.is_lasting is is_lasting
    assert status.cause is cause


def running(scheduled: str, begun: str, created: str = NOON) -> dict[str, Any]:
    return pod(
        "Running",
        created,
        conditions=[{"type": "PodScheduled", "status": "True", "lastTransitionTime": scheduled}],
        containerStatuses=[{"state": {"running": {"startedAt": begun}}}],
    )


def test_a_run_says_how_long_it_waited_for_a_node_and_for_its_image() -> None:
    begun = running("2026-01-01T12:01:30Z", "2026-01-01T12:02:00Z")
    assert evaluate(RunView(job=job(), pods=(begun,))).waits == {"node": 90.0, "pull": 30.0}


def test_a_pod_that_replaces_another_waits_from_its_own_creation_on() -> None:
    begun = running("2026-01-01T17:00:05Z", "2026-01-01T17:00:06Z", created=FIVE)
    view = RunView(job=job(failed=1), pods=(preempted(), begun))
    assert evaluate(view).waits == {"node": 5.0, "pull": 1.0}


def test_what_a_pod_does_not_say_is_not_known() -> None:
    assert evaluate(RunView(job=job(), pods=(pod("Running"),))).waits == {}
    assert evaluate(RunView(job=job(), pods=(pod("Pending"),))).waits == {}
