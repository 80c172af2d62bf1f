"""Why a run has not started yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kinetic_flows.accelerators import NodePool
from kinetic_flows.kubernetes.diagnosis import (
    Cause,
    Diagnosis,
    KubernetesObject,
    condition,
    container_state,
    events_about,
    latest,
    pod_phase,
)
from kinetic_flows.kubernetes.refusal import explain_denial

PULL_FAILURES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
)
CONFIGURATION_FAILURES = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_SIGNED_OUT = re.compile(r"\b(401|403|unauthorized|forbidden|denied|authentication)\b", re.I)
_NOT_THERE = re.compile(r"not found|manifest unknown|does not exist|\b404\b", re.I)
_SHORTAGE = re.compile(r"Insufficient ([\w./-]+)")


def explain_waiting(
    job: KubernetesObject,
    pods: Sequence[KubernetesObject],
    events: Iterable[KubernetesObject],
    *,
    pools: Sequence[NodePool] | None = None,
) -> Diagnosis | None:
    """Say what a Job waits for.

    Args:
        job: The Job.
        pods: Its pods.
        events: Events of the namespace, of these objects and of others.
        pools: The cluster's node pools, to say which exist; None when they are not known.

    Returns:
        The finding of the pod that is furthest behind; None when every pod runs or has run.
    """
    known = tuple(events)
    if (job.get("spec") or {}).get("suspend") or condition(job, "Suspended"):
        return _suspended(job)
    if not pods:
        return _no_pods(events_about(known, job))
    waiting = [pod for pod in pods if pod_phase(pod) == "Pending"]
    found = [_waiting_pod(pod, events_about(known, pod), pools) for pod in waiting]
    return min(found, key=_urgency, default=None)


def _urgency(found: Diagnosis) -> int:
    return 0 if found.permanent else 2 if found.cause is Cause.STARTING else 1


def _suspended(job: KubernetesObject) -> Diagnosis:
    queue = (job["metadata"].get("labels") or {}).get(_QUEUE_LABEL)
    if queue is None:
        return Diagnosis(
            cause=Cause.QUEUE,
            message="the Job is suspended",
            hint=f"resume it with `kubectl patch job {job['metadata']['name']} --type=merge "
            '-p \'{"spec":{"suspend":false}}\'`',
        )
    return Diagnosis(
        cause=Cause.QUEUE,
        message=f"queue {queue!r} has not admitted the Job yet",
        hint=f"`kubectl get workloads` and `kubectl describe localqueue {queue}` say why",
    )


def _no_pods(events: Sequence[KubernetesObject]) -> Diagnosis:
    failure = latest(events, "FailedCreate")
    if failure is None:
        return Diagnosis(cause=Cause.STARTING, message="Kubernetes is making the pod")
    return explain_denial(str(failure.get("message") or ""), "make the Job's pod")


def _waiting_pod(
    pod: KubernetesObject,
    events: Sequence[KubernetesObject],
    pools: Sequence[NodePool] | None,
) -> Diagnosis:
    state = container_state(pod, "waiting") or {}
    reason = str(state.get("reason") or "")
    if reason in PULL_FAILURES:
        return _image_pull(pod, str(state.get("message") or ""), events)
    if reason in CONFIGURATION_FAILURES:
        return Diagnosis(
            cause=Cause.CONFIGURATION,
            message=f"the container cannot be started: {state.get('message') or reason}",
            permanent=reason == "CreateContainerConfigError",
        )
    if _is_scheduled(pod):
        return _preparing(events)
    return _unscheduled(pod, events, pools)


def _is_scheduled(pod: KubernetesObject) -> bool:
    return condition(pod, "PodScheduled") is not None or bool(pod["spec"].get("nodeName"))


def _preparing(events: Sequence[KubernetesObject]) -> Diagnosis:
    mount = latest(events, "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
    if mount is not None:
        return Diagnosis(
            cause=Cause.CONFIGURATION,
            message=f"the node cannot prepare the pod: {mount.get('message')}",
        )
    if latest(events, "Pulling") and not latest(events, "Pulled"):
        return Diagnosis(cause=Cause.STARTING, message="the node is pulling the image")
    return Diagnosis(cause=Cause.STARTING, message="the node is starting the container")


def _image_pull(
    pod: KubernetesObject, message: str, events: Sequence[KubernetesObject]
) -> Diagnosis:
    image = pod["spec"]["containers"][0].get("image", "")
    failures = [e for e in events if "pull image" in str(e.get("message") or "")]
    detail = str(failures[-1].get("message") if failures else message)
    if _SIGNED_OUT.search(detail):
        why = "the registry refuses the node's credentials"
        hint = (
            "grant the node pool's service account roles/artifactregistry.reader on the "
            "repository, or name a Secret in image_pull_secrets of job_variables"
        )
    elif _NOT_THERE.search(detail):
        why = "the registry does not have it"
        hint = "was it deleted? call again with the same function to build it anew"
    else:
        why, hint = detail or "the node does not say why", None
    return Diagnosis(
        cause=Cause.IMAGE_PULL,
        message=f"the node cannot pull {image}: {why}",
        hint=hint,
        permanent=hint is not None,
    )


def _unscheduled(
    pod: KubernetesObject,
    events: Sequence[KubernetesObject],
    pools: Sequence[NodePool] | None,
) -> Diagnosis:
    """Weigh what the autoscaler said last, then what the scheduler said."""
    said = latest(events, "TriggeredScaleUp", "FailedScaleUp", "NotTriggerScaleUp")
    reason = said.get("reason") if said else None
    detail = str(said.get("message") or "") if said else ""
    if reason == "TriggeredScaleUp":
        return Diagnosis(
            cause=Cause.SCALING_UP,
            message="the cluster's autoscaler is adding a node; TPU and GPU nodes take minutes",
        )
    if reason == "FailedScaleUp":
        return _failed_scale_up(detail)
    scheduler = _scheduler_message(pod, events)
    if _SHORTAGE.search(scheduler) and not _selector_misses_all(scheduler):
        return _no_room(scheduler, detail)
    if _selector_misses_all(scheduler) or reason == "NotTriggerScaleUp":
        return _no_node_pool(pod, detail, pools)
    return Diagnosis(cause=Cause.STARTING, message=scheduler or "the pod waits for a node")


def _scheduler_message(pod: KubernetesObject, events: Sequence[KubernetesObject]) -> str:
    event = latest(events, "FailedScheduling")
    if event is not None:
        return str(event.get("message") or "")
    conditions = (pod.get("status") or {}).get("conditions") or ()
    unscheduled = (c for c in conditions if c.get("type") == "PodScheduled")
    return str(next((c.get("message") or "" for c in unscheduled), ""))


def _selector_misses_all(message: str) -> bool:
    """Whether the scheduler found no node with the labels: `0/3 nodes …: 3 node(s) didn't …`."""
    total = re.search(r"\b0/(\d+) nodes are available", message)
    missed = re.search(r"(\d+) node\(s\) didn't match Pod's node affinity/selector", message)
    return bool(total and (total[1] == "0" or (missed and missed[1] == total[1])))


def _failed_scale_up(detail: str) -> Diagnosis:
    if "quota" in detail.lower():
        return Diagnosis(
            cause=Cause.CLOUD_QUOTA,
            message="the autoscaler cannot add a node: the project's quota is used up",
            hint="ask for more under IAM & Admin > Quotas, or take another accelerator or region",
        )
    if re.search(r"out of resources|stockout|exhausted", detail, re.I):
        return Diagnosis(
            cause=Cause.CLOUD_CAPACITY,
            message="the autoscaler cannot add a node: the zone has none to give at the moment",
            hint="it keeps trying; another zone, a reservation or `:spot` may be had sooner",
        )
    return Diagnosis(cause=Cause.SCALING_UP, message=f"the autoscaler cannot add a node: {detail}")


def _no_room(scheduler: str, autoscaler: str) -> Diagnosis:
    lacking = ", ".join(sorted(set(_SHORTAGE.findall(scheduler))))
    if "max node group size reached" in autoscaler or "max cluster" in autoscaler:
        return Diagnosis(
            cause=Cause.NO_ROOM,
            message=f"every fitting node is taken (no {lacking} is free), and the node pool is "
            "at its maximum size",
            hint="wait for other runs to end, or raise the node pool's maximum",
        )
    never = ", ".join(sorted(set(_SHORTAGE.findall(autoscaler))))
    if never:
        return Diagnosis(
            cause=Cause.NO_NODE_POOL,
            message=f"no node has enough {never} for what the run requests, and none that the "
            "autoscaler could add has",
            hint=f"request less {never} in job_variables, or take a larger machine",
            permanent=True,
        )
    return Diagnosis(
        cause=Cause.NO_ROOM, message=f"every fitting node is taken (no {lacking} is free)"
    )


def _no_node_pool(
    pod: KubernetesObject, autoscaler: str, pools: Sequence[NodePool] | None
) -> Diagnosis:
    wanted = pod["spec"].get("nodeSelector") or {}
    labels = ", ".join(f"{name.rpartition('/')[2]}={value}" for name, value in wanted.items())
    message = f"no node pool has {labels or 'room for the pod'}"
    if pools is not None:
        message += f"; the cluster has: {', '.join(map(str, pools)) or 'none'}"
    elif autoscaler:
        message += f" ({autoscaler})"
    return Diagnosis(
        cause=Cause.NO_NODE_POOL,
        message=message,
        hint="create such a node pool, or take an accelerator that the cluster has",
        permanent=bool(wanted) and pools is not None,
    )
