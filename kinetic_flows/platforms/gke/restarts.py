"""Which ends of pods a run has got over, as far as its Job has decided.

A pod has failed before its Job says what follows from that: the Job controller counts it, or
fails the Job by its policy, up to seconds later. Until then nobody knows whether it starts again.
https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from kinetic_flows.platforms.gke.diagnosis import (
    KubernetesObject,
    condition,
    created_at,
    host_index,
    pod_phase,
    uid_of,
)

TRACKING = "batch.kubernetes.io/job-tracking"
"""Finalizer of a Job's pods, which goes once the Job has counted how they ended."""

_OVER = ("Failed", "FailureTarget", "Complete", "SuccessCriteriaMet")


def is_decided_over(job: KubernetesObject) -> bool:
    """Whether a Job has decided that it starts no more pods, be it that some still end."""
    return any(condition(job, kind) for kind in _OVER)


def survived_ends(
    job: KubernetesObject,
    pods: Sequence[KubernetesObject],
    departed: Sequence[KubernetesObject] = (),
) -> tuple[KubernetesObject, ...]:
    """Return the failed pods after which the Job has started another, or decided to; oldest first.

    Args:
        job: The Job.
        pods: Its pods.
        departed: Those of its pods that are gone, as they were last seen.
    """
    known = sorted((*departed, *pods), key=created_at)
    gone = {uid_of(pod) for pod in departed}
    failed = [pod for pod in known if _has_failed(pod, gone)]
    if _has_counted(job, failed, gone) and not is_decided_over(job) and not _is_exhausted(job):
        return tuple(failed)
    return tuple(pod for pod in failed if _is_replaced(pod, known))


def is_undecided(
    job: KubernetesObject,
    pods: Sequence[KubernetesObject],
    departed: Sequence[KubernetesObject] = (),
) -> bool:
    """Whether no pod lives, one has failed, and the Job has not decided what follows.

    Args:
        job: The Job.
        pods: Its pods.
        departed: Those of its pods that are gone, as they were last seen.
    """
    if (job.get("spec") or {}).get("suspend") or condition(job, "Suspended"):
        return False
    if any(pod_phase(pod) in ("Pending", "Running") for pod in pods):
        return False
    gone = {uid_of(pod) for pod in departed}
    failed = [pod for pod in (*departed, *pods) if _has_failed(pod, gone)]
    return len(survived_ends(job, pods, departed)) < len(failed)


def _has_failed(pod: KubernetesObject, gone: Set[str]) -> bool:
    return pod_phase(pod) == "Failed" or (uid_of(pod) in gone and pod_phase(pod) != "Succeeded")


def _has_counted(job: KubernetesObject, failed: Sequence[KubernetesObject], gone: Set[str]) -> bool:
    """Whether a Job, as it is known here, has taken all of these failures into account."""
    tracked = [
        pod
        for pod in failed
        if TRACKING in (pod["metadata"].get("finalizers") or ()) and uid_of(pod) not in gone
    ]
    noted = _uncounted(job)
    return _counted(job) >= len(failed) and all(uid_of(pod) in noted for pod in tracked)


def _counted(job: KubernetesObject) -> int:
    return int((job.get("status") or {}).get("failed") or 0) + len(_uncounted(job))


def _uncounted(job: KubernetesObject) -> Sequence[str]:
    """Return the pods whose failure is noted in a Job's status, and not yet in its number.

    https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/job-v1/#JobStatus
    """
    noted = (job.get("status") or {}).get("uncountedTerminatedPods") or {}
    return noted.get("failed") or ()


def _is_exhausted(job: KubernetesObject) -> bool:
    return _counted(job) > int((job.get("spec") or {}).get("backoffLimit") or 0)


def _is_replaced(pod: KubernetesObject, known: Sequence[KubernetesObject]) -> bool:
    """Whether a younger pod does the same host's work."""
    return any(
        created_at(each) > created_at(pod) and host_index(each) == host_index(pod) for each in known
    )
