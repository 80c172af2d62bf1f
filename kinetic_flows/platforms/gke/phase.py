"""Where a run on Kubernetes is in its life, as a pure function of what is known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.core.launcher import Phase
from kinetic_flows.platforms.gke.diagnosis import (
    Cause,
    Diagnosis,
    condition,
    container_state,
    created_at,
    events_about,
    host_index,
    pod_phase,
)
from kinetic_flows.platforms.gke.ending import (
    DISTURBANCES,
    explain_end,
    explain_pod,
    restarts_allowed,
)
from kinetic_flows.platforms.gke.names import SCHEDULE_TIMEOUT_ANNOTATION
from kinetic_flows.platforms.gke.pod_times import pod_waits
from kinetic_flows.platforms.gke.restarts import is_decided_over, is_undecided, survived_ends
from kinetic_flows.platforms.gke.state import RunView
from kinetic_flows.platforms.gke.waiting import explain_waiting

UNKNOWN_JOB = "the cluster has no Job of this run: it was deleted, or never made"


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long a run may wait for its pods.

    Attributes:
        schedule_timeout_seconds: Limit for any reason; None for no limit.
        hopeless_timeout_seconds: Limit for a reason that waiting cannot help.
    """

    schedule_timeout_seconds: float | None = 3600.0
    hopeless_timeout_seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class PodStatus:
    """What a run's Job and pods say of it.

    Attributes:
        phase: Where it is in its life.
        exit_code: Its exit code, where there is one.
        reason: Why it is in this phase.
        cause: What `reason` says, for programs; empty where it has no cause.
        restarts: How often the run has started again.
        waiting_since: Since when it waits, by the cluster's clock; None when it does not.
        waiting: What it waits for; None when it does not wait, or has just begun.
        is_lasting: Whether the same run would end the same way again.
        message: What `reason` says, without what to do about it; empty where that is not known.
        is_placed: Whether all its pods have nodes.
        waits: How many seconds its pod waited before it ran, by phase; empty when not known.
    """

    phase: Phase
    exit_code: int | None = None
    reason: str = ""
    cause: Cause | Literal[""] = ""
    restarts: int = 0
    waiting_since: datetime | None = None
    waiting: Diagnosis | None = None
    is_lasting: bool = False
    message: str = ""
    is_placed: bool = False
    waits: Mapping[str, float] = field(default_factory=dict)


def evaluate(view: RunView, pools: Sequence[NodePool] | None = None) -> PodStatus:
    """Say where a run is in its life.

    Args:
        view: What is known of it.
        pools: The cluster's node pools; None when they are not known.
    """
    if view.job is None:
        return PodStatus(phase=Phase.GONE, reason=UNKNOWN_JOB)
    # While a failing Job stops its other pods, one of them may still write the result.
    if condition(view.job, "Failed") or condition(view.job, "Complete"):
        # Jobs and pods are watched apart: the pod's own word of its end may come a moment later.
        if any(_is_thought_alive(pod) for pod in view.pods):
            return PodStatus(phase=Phase.RUNNING, reason="its Job has ended, its pods are ending")
        return _ended(view, view.job)
    if view.job["metadata"].get("deletionTimestamp"):
        return PodStatus(phase=Phase.RUNNING, reason="the Job is being deleted")
    if is_decided_over(view.job) or is_undecided(view.job, view.pods, view.departed):
        return PodStatus(phase=Phase.RUNNING, reason=_restarted(view))
    waiting = _unspoken(view, explain_waiting(view.job, view.pods, view.events, pools=pools))
    if waiting is None and view.pods:
        return _running(view)
    reason = "; ".join(part for part in (_restarted(view), str(waiting or "")) if part)
    return PodStatus(
        phase=Phase.PENDING,
        reason=reason,
        cause=waiting.cause if waiting else "",
        restarts=_restarts(view),
        waiting_since=_waiting_since(view),
        waiting=waiting,
        is_lasting=waiting is not None and waiting.permanent,
        message=waiting.message if waiting else "",
        is_placed=_is_placed(view),
    )


def timeouts_of(job: Mapping[str, Any] | None, default: Timeouts) -> Timeouts:
    """Return how long a run may wait: what its Job says, else a default."""
    annotations = ((job or {}).get("metadata") or {}).get("annotations") or {}
    said = annotations.get(SCHEDULE_TIMEOUT_ANNOTATION)
    if said is None:
        return default
    try:
        return replace(default, schedule_timeout_seconds=None if said == "none" else float(said))
    except ValueError:
        return default


def gives_up(status: PodStatus, timeouts: Timeouts, waited_seconds: float) -> str:
    """Say why a waiting run is to be given up; empty when it is not.

    Args:
        status: Where it is in its life.
        timeouts: How long it may wait.
        waited_seconds: How long it has waited.
    """
    if status.phase is not Phase.PENDING:
        return ""
    limit = timeouts.schedule_timeout_seconds
    if limit is not None and waited_seconds >= limit:
        why = status.reason or "Kubernetes does not say why"
        return f"it did not start within {limit:g} seconds: {why}"
    hopeless = status.waiting is not None and status.waiting.permanent
    if hopeless and waited_seconds >= timeouts.hopeless_timeout_seconds:
        return f"it cannot start: {status.reason}"
    return ""


def _unspoken(view: RunView, found: Diagnosis | None) -> Diagnosis | None:
    """Doubt that no node pool fits until the autoscaler has said so.

    The scheduler, which speaks first, knows nothing of node pools that are scaled to zero.
    """
    spoken = any(event.get("reason") == "NotTriggerScaleUp" for event in view.events)
    if found is None or found.cause is not Cause.NO_NODE_POOL or spoken:
        return found
    return Diagnosis(
        cause=Cause.STARTING,
        message="no node fits yet, and the autoscaler has not said whether it adds one "
        f"({found.message})",
    )


def _is_thought_alive(pod: Mapping[str, Any]) -> bool:
    is_leaving = pod["metadata"].get("deletionTimestamp")
    return pod_phase(pod) in ("Pending", "Running") and not is_leaving


def _ended(view: RunView, job: dict[str, Any]) -> PodStatus:
    found = explain_end(job, (*view.departed, *view.pods), view.events)
    if found is None or found.cause is Cause.SUCCEEDED:
        return PodStatus(phase=Phase.SUCCEEDED, exit_code=0)
    return PodStatus(
        phase=Phase.FAILED,
        exit_code=found.exit_code,
        reason=str(found),
        message=found.message,
        cause=found.cause,
        is_lasting=found.cause not in DISTURBANCES,
    )


def _running(view: RunView) -> PodStatus:
    alive = [pod for pod in view.pods if pod_phase(pod) == "Running"]
    if not alive and all(pod_phase(pod) == "Failed" for pod in view.pods):
        return PodStatus(
            phase=Phase.PENDING,
            reason=_restarted(view) or "Kubernetes is making the next pod",
            waiting_since=_last_end(view),
        )
    return PodStatus(
        phase=Phase.RUNNING,
        reason=_restarted(view),
        restarts=_restarts(view),
        waits=pod_waits(view),
    )


def _is_placed(view: RunView) -> bool:
    """Whether all of a run's pods have nodes, and only start there."""
    pods = [pod for pod in view.pods if pod_phase(pod) not in ("Succeeded", "Failed")]
    wanted = int(((view.job or {}).get("spec") or {}).get("completions") or 1)
    return len(pods) >= wanted and all(pod["spec"].get("nodeName") for pod in pods)


def _restarted(view: RunView) -> str:
    """Say why there was a start before this one, or will be; empty when there was none."""
    job = view.job or {}
    survived = survived_ends(job, view.pods, view.departed)
    ended = [found for pod in survived if (found := _explained(view, pod))]
    if not ended:
        return ""
    spec = job.get("spec") or {}
    limit = restarts_allowed(spec)
    # Of a slice several pods may be disturbed at once, which is one start again.
    is_counted = limit and int(spec.get("completions") or 1) == 1
    times = f" (disturbance {len(ended)} of at most {limit})" if is_counted else ""
    return f"{ended[-1].message}; it starts again{times}"


def _restarts(view: RunView) -> int:
    """Count the starts before this one: of a slice, those of the host that was disturbed most."""
    survived = survived_ends(view.job or {}, view.pods, view.departed)
    return max(Counter(map(host_index, survived)).values(), default=0)


def _explained(view: RunView, pod: Mapping[str, Any]) -> Diagnosis | None:
    return explain_pod(pod, events_about(view.events, pod))


def _waiting_since(view: RunView) -> datetime | None:
    """Return since when a run waits: for its first pods, or for those that replace others."""
    pending = [pod for pod in view.pods if pod_phase(pod) == "Pending"]
    if len(pending) < len(view.pods) or view.departed:
        newest = max(pending, key=created_at, default=None)
        return _moment(created_at(newest)) if newest else _last_end(view)
    return _moment(created_at(view.job)) if view.job else None


def _last_end(view: RunView) -> datetime | None:
    """Return when the last pod ended or was disturbed; None when no pod says."""
    ends = []
    for pod in (*view.departed, *view.pods):
        terminated = container_state(pod, "terminated") or {}
        disturbed = condition(pod, "DisruptionTarget") or {}
        ends += [terminated.get("finishedAt"), disturbed.get("lastTransitionTime")]
    moments = [moment for end in ends if end and (moment := _moment(end))]
    return max(moments, default=None)


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
