"""Why a run has not started yet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.platforms.gke.diagnosis import (
    Cause,
    Diagnosis,
    KubernetesObject,
    condition,
    container_state,
    events_about,
    explain_denial,
    latest,
    pod_phase,
)
from kinetic_flows.platforms.gke.names import QUEUE_LABEL
from kinetic_flows.platforms.gke.scheduling import explain_unscheduled
from kinetic_flows.platforms.gke.volume_diagnosis import explain_mount

PULL_FAILURES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
)
CONFIGURATION_FAILURES = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
)
_OTHER_PLATFORM = re.compile(r"no match for platform|no matching manifest for", re.I)
_NO_ADDRESS = re.compile(r"no IP addresses available|failed to allocate (?:for range|IP)", re.I)
"""What container runtimes say: the CNI's host-local plugin, and containerd of an image's index.

https://github.com/containernetworking/plugins/blob/main/plugins/ipam/host-local/backend/allocator/allocator.go
"""

NO_VOLUME = (
    "if its node cannot mount images, say KINETIC_PREBUILT=install: it takes containerd 2.1 or "
    "CRI-O 1.31"
)

_SIGNED_OUT = re.compile(r"\b(401|403|unauthorized|forbidden|denied|authentication)\b", re.I)
_NOT_THERE = re.compile(r"not found|manifest unknown|does not exist|\b404\b", re.I)


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
    queue = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    namespace = job["metadata"].get("namespace", "default")
    if queue is None:
        return Diagnosis(
            cause=Cause.QUEUE,
            message="the Job is suspended",
            hint=f"resume it with `kubectl patch job {job['metadata']['name']} "
            f"--namespace {namespace} --type=merge "
            '-p \'{"spec":{"suspend":false}}\'`',
        )
    return Diagnosis(
        cause=Cause.QUEUE,
        message=f"queue {queue!r} has not admitted the Job yet",
        hint=f"`kubectl get workloads --namespace {namespace}` and `kubectl describe "
        f"localqueue {queue} --namespace {namespace}` say why",
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
            hint=NO_VOLUME if _volume_images(pod) and reason == "CreateContainerError" else None,
            permanent=reason == "CreateContainerConfigError",
        )
    if _is_scheduled(pod):
        return _preparing(pod, events)
    return explain_unscheduled(pod, events, pools)


def _is_scheduled(pod: KubernetesObject) -> bool:
    return condition(pod, "PodScheduled") is not None or bool(pod["spec"].get("nodeName"))


def _preparing(pod: KubernetesObject, events: Sequence[KubernetesObject]) -> Diagnosis:
    mount = latest(events, "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
    if mount is not None:
        said = str(mount.get("message") or "")
        return explain_mount(pod, said) or _unprepared(said)
    if latest(events, "Pulling") and not latest(events, "Pulled"):
        return Diagnosis(cause=Cause.STARTING, message="the node is pulling the image")
    return Diagnosis(cause=Cause.STARTING, message="the node is starting the container")


def _unprepared(said: str) -> Diagnosis:
    if _NO_ADDRESS.search(said):
        return Diagnosis(
            cause=Cause.NO_ADDRESSES,
            message="its node has no IP address left for the pod",
            hint="wait for other pods to end, or give the node pool a larger range for its pods",
        )
    return Diagnosis(cause=Cause.CONFIGURATION, message=f"the node cannot prepare the pod: {said}")


def _failing_image(pod: KubernetesObject, said: str) -> str:
    """Return the image that is spoken of: the container's own, or one that is a volume."""
    own = str(pod["spec"]["containers"][0].get("image", ""))
    return next((each for each in _volume_images(pod) if each in said), own)


def _volume_images(pod: KubernetesObject) -> list[str]:
    volumes = pod["spec"].get("volumes") or ()
    return [str(each["image"].get("reference")) for each in volumes if each.get("image")]


def _image_pull(
    pod: KubernetesObject, message: str, events: Sequence[KubernetesObject]
) -> Diagnosis:
    failures = [e for e in events if "pull image" in str(e.get("message") or "")]
    detail = str(failures[-1].get("message") if failures else message)
    image = _failing_image(pod, f"{message} {detail}")
    if _OTHER_PLATFORM.search(detail):
        why = "it is not built for the platform of the node"
        hint = "build it for linux/amd64, or take an accelerator whose nodes are of its platform"
    elif _SIGNED_OUT.search(detail):
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
