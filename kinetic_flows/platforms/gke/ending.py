"""How a run on Kubernetes ended."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from kinetic_flows.core.accelerators.model import SPOT_LABEL
from kinetic_flows.core.job import EXIT_CANCELLED, EXIT_MEANINGS, EXIT_TERMINATED
from kinetic_flows.platforms.gke.diagnosis import (
    Cause,
    Diagnosis,
    KubernetesObject,
    condition,
    container_state,
    container_status,
    events_about,
    host_index,
    latest,
    pod_phase,
)

_NEVER_STARTED = ("StartError", "ContainerCannotRun")
"""What container runtimes report when a container's program cannot be run."""

_KILLED = 137
_STOPPED = (EXIT_CANCELLED, EXIT_TERMINATED)
_REFUSED_BY_NODE = re.compile(
    r"OutOf\w+|UnexpectedAdmissionError|TopologyAffinityError|NodeAffinity|NodeShutdown"
)
"""Reasons of pods that were given to a node which does not take them.

https://github.com/kubernetes/kubernetes/blob/v1.36.2/pkg/kubelet/lifecycle/predicate.go
"""

NEVER_AGAIN = "such a run starts again only with max_preemptions=, which is 0 but on Spot VMs"

DISTURBANCES = frozenset(
    {Cause.EVICTED, Cause.PREEMPTED, Cause.NODE_LOST, Cause.DELETED, Cause.NO_ROOM}
)
"""Ends that are not the call's doing, so that another call may well get further."""


@dataclass(frozen=True)
class _Words:
    """How an end is told.

    Attributes:
        cause: What it is, for programs.
        message: What it is, for people; `{who}` is the pod.
        hint: What to do about it; None when there is nothing to do.
        permanent: Whether the same would end the same way.
    """

    cause: Cause
    message: str
    hint: str | None = None
    permanent: bool = False


class _End(Enum):
    """Every way in which a run ends."""

    COMPLETED = _Words(Cause.SUCCEEDED, "the Job completed")
    FAILED = _Words(Cause.FAILED, "{who} ended with exit code {code}{meaning}", permanent=True)
    NOT_STARTED = _Words(
        Cause.FAILED,
        "the container of {who} could not be started: {detail}{advice}",
        permanent=True,
    )
    OUT_OF_MEMORY = _Words(
        Cause.OUT_OF_MEMORY,
        "{who} was killed for using more memory than {limit}",
        "say more with memory=, or take a larger machine; this is never retried",
        permanent=True,
    )
    SHARED_MEMORY_FULL = _Words(
        Cause.OUT_OF_DISK,
        "{who} was evicted: {detail}",
        "raise shared_memory in job_variables, or write elsewhere",
    )
    DISK_FULL = _Words(
        Cause.OUT_OF_DISK,
        "{who} was evicted: {detail}",
        "raise ephemeral_storage in job_variables, or write to KINETIC_OUTPUT_DIR",
    )
    EVICTED = _Words(
        Cause.EVICTED,
        "{who} was evicted: {detail}",
        "request the memory and ephemeral_storage it needs in job_variables, so that it "
        "gets a node with enough",
    )
    DISRUPTED = _Words(Cause.EVICTED, "{who} was stopped: {detail}")
    DRAINED = _Words(Cause.EVICTED, "{who} was stopped: its node is being drained")
    OUTRANKED = _Words(
        Cause.PREEMPTED, "{who} was stopped: a pod of higher priority took its place"
    )
    PREEMPTED = _Words(Cause.PREEMPTED, "{who} was preempted: Google took its Spot VM")
    NODE_UNFIT = _Words(Cause.NODE_LOST, "{who} was stopped: its node became unfit or unreachable")
    NODE_GONE = _Words(Cause.NODE_LOST, "{who} was stopped: its node is gone")
    NODE_SHUT_DOWN = _Words(Cause.NODE_LOST, "{who} was stopped: its node shut down")
    NODE_SILENT = _Words(Cause.NODE_LOST, "{who} was lost: {detail}")
    NODE_REFUSED = _Words(Cause.NO_ROOM, "its node refused {who}: {detail}")
    JOB_DEADLINE = _Words(
        Cause.DEADLINE,
        "the Job was ended after its active deadline of {seconds} seconds",
        "raise active_deadline_seconds in job_variables; waiting for a node counts too",
        permanent=True,
    )
    POD_DEADLINE = _Words(Cause.DEADLINE, "the pod ran into its active deadline")
    DELETED = _Words(
        Cause.DELETED,
        "{who} was deleted{code}",
        "somebody did, as with `kubectl delete pod`: of that max_preemptions starts no "
        "run again; run.retry() starts it once more",
        permanent=True,
    )
    PODS_GONE = _Words(
        Cause.DELETED,
        "the Job failed and its pods are gone: {detail}",
        "pods are deleted with their node; its log may still be in Cloud Logging",
        permanent=True,
    )

    def told(
        self, pod: KubernetesObject | None = None, exit_code: int | None = None, **details: object
    ) -> Diagnosis:
        """Tell it of a pod; None for the whole Job."""
        words, who = self.value, _who(pod) if pod else ""
        return Diagnosis(
            cause=words.cause,
            message=words.message.format(who=who, **details),
            hint=words.hint,
            permanent=words.permanent,
            exit_code=exit_code,
        )


_DISRUPTIONS = {
    "PreemptionByScheduler": _End.OUTRANKED,
    "DeletionByTaintManager": _End.NODE_UNFIT,
    "EvictionByEvictionAPI": _End.DRAINED,
    "DeletionByPodGC": _End.NODE_GONE,
}
"""Reasons of the DisruptionTarget condition.

https://kubernetes.io/docs/concepts/workloads/pods/disruptions/#pod-disruption-conditions
"""


def explain_end(
    job: KubernetesObject,
    pods: Sequence[KubernetesObject],
    events: Iterable[KubernetesObject] = (),
) -> Diagnosis | None:
    """Say how a Job ended.

    Args:
        job: The Job.
        pods: Those of its pods that are still there, of every attempt.
        events: Events of the namespace.

    Returns:
        The finding; None while the Job has not ended.
    """
    failed = condition(job, "Failed") or condition(job, "FailureTarget")
    if failed is None:
        done = condition(job, "Complete") or condition(job, "SuccessCriteriaMet")
        return _End.COMPLETED.told(exit_code=0) if done else None
    if failed.get("reason") == "DeadlineExceeded":
        return _End.JOB_DEADLINE.told(seconds=job["spec"].get("activeDeadlineSeconds"))
    known = tuple(events)
    ended = [(pod, explain_pod(pod, events_about(known, pod))) for pod in _newest_first(pods)]
    found = _decisive(
        [(pod, each) for pod, each in ended if each and each.cause is not Cause.SUCCEEDED],
        str(failed.get("message") or ""),
    )
    if found is None:
        return _unexplained(failed)
    if failed.get("reason") == "BackoffLimitExceeded":
        return _exhausted(found, restarts_allowed(job["spec"]))
    return found


def restarts_allowed(spec: KubernetesObject) -> int:
    """Return how often a Job's run may start again: Kubernetes counts each host's pod."""
    return int(spec.get("backoffLimit") or 0) // int(spec.get("completions") or 1)


def explain_pod(pod: KubernetesObject, events: Sequence[KubernetesObject] = ()) -> Diagnosis | None:
    """Say how a pod ended; None while it lives.

    Args:
        pod: The pod.
        events: Its events, oldest first.
    """
    disturbed = condition(pod, "DisruptionTarget")
    if disturbed is not None:
        return _disrupted(pod, disturbed)
    if pod_phase(pod) not in ("Succeeded", "Failed"):
        return None
    terminated = container_state(pod, "terminated") or {}
    exit_code = terminated.get("exitCode")
    if terminated.get("reason") == "OOMKilled":
        return _out_of_memory(pod)
    if pod_phase(pod) == "Succeeded":
        return _End.COMPLETED.told(exit_code=0)
    if terminated.get("reason") in _NEVER_STARTED:
        return _not_started(pod, terminated)
    if exit_code == _KILLED and latest(events, "OOMKilling", "SystemOOM"):
        return _out_of_memory(pod)
    return _ended_from_outside(pod, exit_code) or _failed(pod, exit_code)


def _ended_from_outside(pod: KubernetesObject, exit_code: int | None) -> Diagnosis | None:
    """Say what ended a pod that Kubernetes does not count as disturbed; None when nothing did."""
    status = pod.get("status") or {}
    reason = str(status.get("reason") or "")
    if reason == "DeadlineExceeded":
        return _End.POD_DEADLINE.told()
    if reason == "Evicted":
        # Only pressure on the node is a disturbance, not what a pod does beyond its own limits.
        return replace(_evicted(pod, str(status.get("message") or "")), permanent=True)
    if exit_code is None and _REFUSED_BY_NODE.match(reason):
        return _End.NODE_REFUSED.told(pod, detail=status.get("message") or reason)
    if pod["metadata"].get("deletionTimestamp"):
        return _End.DELETED.told(pod, code="" if exit_code is None else f" (exit code {exit_code})")
    return None


def _decisive(
    newest_first: Sequence[tuple[KubernetesObject, Diagnosis]], said: str
) -> Diagnosis | None:
    """Choose the finding that ended the Job.

    A failure of its own ends a Job at once, and the pods of other hosts are stopped after it.
    Without one it is the pod that the Job itself names, else what was too much: the last one.
    """
    own = [found for _, found in newest_first if _is_own_failure(found)]
    if own:
        return own[-1]
    named = [found for pod, found in newest_first if f"/{pod['metadata'].get('name')} " in said]
    return next(iter((*named, *(found for _, found in newest_first))), None)


def _is_own_failure(found: Diagnosis) -> bool:
    return found.exit_code not in (None, *_STOPPED)


def _unexplained(failed: KubernetesObject) -> Diagnosis:
    detail = failed.get("message") or failed.get("reason") or "Kubernetes does not say why"
    return _End.PODS_GONE.told(detail=detail)


def _exhausted(found: Diagnosis, limit: int) -> Diagnosis:
    if not limit:
        # What it fails for by itself, such as a full disk, has a hint of its own.
        return replace(found, hint=found.hint or NEVER_AGAIN, permanent=True)
    times = "once" if limit == 1 else f"{limit} times"
    return replace(
        found,
        message=f"{found.message}; it had been started again {times}, which is the limit",
        hint="raise max_preemptions, or leave out `:spot`",
        permanent=True,
    )


def _disrupted(pod: KubernetesObject, disturbed: KubernetesObject) -> Diagnosis:
    reason = str(disturbed.get("reason") or "")
    if reason == "TerminationByKubelet":
        return _ended_by_node(pod, disturbed)
    end = _DISRUPTIONS.get(reason, _End.DISRUPTED)
    return end.told(pod, detail=disturbed.get("message") or reason or "it was disturbed")


def _ended_by_node(pod: KubernetesObject, disturbed: KubernetesObject) -> Diagnosis:
    """Tell pressure on the node from its shutdown, which on Spot VMs is a preemption."""
    status = pod.get("status") or {}
    if status.get("reason") == "Evicted":
        return _evicted(pod, str(status.get("message") or disturbed.get("message") or ""))
    if (pod["spec"].get("nodeSelector") or {}).get(SPOT_LABEL) == "true":
        return _End.PREEMPTED.told(pod)
    return _End.NODE_SHUT_DOWN.told(pod)


def _evicted(pod: KubernetesObject, detail: str) -> Diagnosis:
    """Say what a pod was evicted for, and what to ask for instead.

    The sentences are the kubelet's:
    https://github.com/kubernetes/kubernetes/blob/v1.36.2/pkg/kubelet/eviction/helpers.go
    """
    if "EmptyDir" in detail:
        end = _End.SHARED_MEMORY_FULL
    elif "ephemeral" in detail.lower() or "DiskPressure" in detail:
        end = _End.DISK_FULL
    else:
        end = _End.EVICTED
    return end.told(pod, detail=detail.strip())


def _out_of_memory(pod: KubernetesObject) -> Diagnosis:
    limits = (pod["spec"]["containers"][0].get("resources") or {}).get("limits") or {}
    limit = limits.get("memory")
    beyond = f"its limit of {limit}" if limit else "what its node has"
    return _End.OUT_OF_MEMORY.told(pod, _KILLED, limit=beyond)


def _not_started(pod: KubernetesObject, terminated: KubernetesObject) -> Diagnosis:
    detail = str(terminated.get("message") or terminated["reason"]).strip()
    advice = ""
    if "executable file not found" in detail or "no such file" in detail:
        advice = "; an image needs python3 on its PATH"
    elif "exec format error" in detail:
        advice = "; the image is not built for the platform of the node"
    return _End.NOT_STARTED.told(pod, terminated.get("exitCode"), detail=detail, advice=advice)


def _failed(pod: KubernetesObject, exit_code: int | None) -> Diagnosis:
    status = pod.get("status") or {}
    if exit_code is None:
        detail = status.get("message") or status.get("reason") or "its node does not say why"
        return _End.NODE_SILENT.told(pod, detail=detail)
    meaning = EXIT_MEANINGS.get(exit_code) or _signal(exit_code)
    meaning = f": {meaning}" if meaning else ""
    return _End.FAILED.told(pod, exit_code, code=exit_code, meaning=meaning)


def _signal(exit_code: int) -> str:
    return f"killed by signal {exit_code - 128}" if 128 < exit_code < 160 else ""


def _who(pod: KubernetesObject) -> str:
    index = host_index(pod)
    return f"host {index}" if index is not None else "the pod"


def _newest_first(pods: Sequence[KubernetesObject]) -> list[KubernetesObject]:
    return sorted(pods, key=_ended_at, reverse=True)


def _ended_at(pod: KubernetesObject) -> str:
    terminated = (container_status(pod).get("state") or {}).get("terminated") or {}
    moment = terminated.get("finishedAt") or pod["metadata"].get("creationTimestamp")
    return str(moment or "")
