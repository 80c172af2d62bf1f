"""Queued provisioning: all nodes of a slice asked of flex-start at once, by a request of ours.

Where a slice has several hosts, GKE gives its nodes together, to who has a ProvisioningRequest:
that names a PodTemplate and how many such pods there will be, and the pods say by an annotation
which request they consume. Both belong to the run's Job from the first, so that they go with it
whatever becomes of this client; that pods are there before their request is allowed, they wait for
it. Queues of Kueue's that others made may make such requests themselves; ours do not.

https://cloud.google.com/kubernetes-engine/docs/how-to/provisioningrequest
"""

from __future__ import annotations

import contextlib
import copy
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    core_path,
)
from kinetic_flows.core.accelerators import NodePool
from kinetic_flows.core.accelerators.model import FLEX_LABEL
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.launcher import Phase
from kinetic_flows.core.settings.node_variables import asked_labels
from kinetic_flows.platforms.gke.diagnosis import Cause, Diagnosis, condition, launch_error
from kinetic_flows.platforms.gke.manifests import owned_by_job
from kinetic_flows.platforms.gke.names import QUEUE_LABEL, RUN_ID_POD_LABEL
from kinetic_flows.platforms.gke.phase import PodStatus
from kinetic_flows.platforms.gke.placement import MAX_RUN_ANNOTATION, is_others_queue

API = "autoscaling.x-k8s.io/v1"
"""https://github.com/kubernetes/autoscaler/tree/master/cluster-autoscaler/apis/provisioningrequest"""

CONSUMES_ANNOTATION = "autoscaling.x-k8s.io/consume-provisioning-request"
CLASS_ANNOTATION = "autoscaling.x-k8s.io/provisioning-class-name"
PROVISIONING_CLASS = "queued-provisioning.gke.io"

LOOK_SECONDS = 3.0
"""How old the last word of a request may be."""

_SCHEDULING = ("nodeSelector", "affinity", "tolerations", "priorityClassName")
_CONTAINER = ("name", "image", "resources")


class QueuedProvisioning:
    """Asks flex-start for the nodes of runs, and reads what becomes of that.

    Args:
        client: The cluster.
        namespace: The namespace of runs.
    """

    def __init__(self, client: KubernetesClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._known: dict[str, tuple[float, Mapping[str, Any] | None]] = {}
        self._guard = threading.Lock()

    def ask_for_nodes(self, job: Mapping[str, Any]) -> None:
        """Ask for the nodes of a Job, if it is to consume a request of its own.

        Args:
            job: The Job, as the cluster has it; asking again changes nothing.

        Raises:
            LaunchError: The cluster refuses.
        """
        name = job["metadata"]["name"]
        if _request_of(job) != name:
            return
        try:
            self._create(core_path(self._namespace, "podtemplates"), pod_template(job))
            self._create(self._path(), provisioning_request(job))
        except KineticError:
            # Another client may have started the Job, and asked.
            if self._read(name) is None:
                raise

    def explained(self, job: Mapping[str, Any] | None, status: PodStatus) -> PodStatus:
        """Return the status of a run, with what its request waits for if it has one.

        Args:
            job: Its Job.
            status: What its Job and pods say.
        """
        name = _request_of(job) if job else None
        if not name or status.phase is not Phase.PENDING or status.is_placed:
            return status
        found = explain_request(self._look(name))
        if found is None:
            return status
        return replace(
            status,
            reason=str(found),
            cause=found.cause,
            waiting=found,
            is_lasting=found.permanent,
            message=found.message,
        )

    def _look(self, name: str) -> Mapping[str, Any] | None:
        with self._guard:
            read, known = self._known.get(name, (0.0, None))
            if read and time.monotonic() - read < LOOK_SECONDS:
                return known
        known = self._read(name)
        with self._guard:
            self._known[name] = (time.monotonic(), known)
        return known

    def _read(self, name: str) -> Mapping[str, Any] | None:
        """Return a request; None where it is not told: Job and pods say the rest."""
        with contextlib.suppress(KineticError):
            return self._client.ask("GET", self._path(name))
        return None

    def _create(self, path: str, body: Mapping[str, Any]) -> None:
        try:
            self._client.ask("POST", path, body=dict(body))
        except KubernetesRefused as refusal:
            if refusal.status != HTTPStatus.CONFLICT:
                raise launch_error(refusal, "ask flex-start for the nodes") from refusal

    def _path(self, *name: str) -> str:
        path = f"/apis/{API}/namespaces/{self._namespace}/provisioningrequests"
        return "/".join((path, *name))


def with_request(manifest: dict[str, Any], pools: Sequence[NodePool] | None) -> dict[str, Any]:
    """Return a Job's manifest whose pods consume a request of its own, where they need one.

    Args:
        manifest: The Job, which has a name.
        pools: The cluster's node pools; None when they are not known.
    """
    if not needs_request(manifest, pools):
        return manifest
    changed = copy.deepcopy(manifest)
    consumed = {
        CONSUMES_ANNOTATION: manifest["metadata"]["name"],
        CLASS_ANNOTATION: PROVISIONING_CLASS,
    }
    for metadata in (changed["metadata"], changed["spec"]["template"].setdefault("metadata", {})):
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **consumed}
    return changed


def needs_request(manifest: Mapping[str, Any], pools: Sequence[NodePool] | None) -> bool:
    """Whether nodes for a Job are to be asked for by a request of its own.

    Slices of several hosts are, but where the cluster is known to have flex-start without a queue
    for them; and so is a single node where only queued ones fit.

    Args:
        manifest: The Job.
        pools: The cluster's node pools; None when they are not known.
    """
    template = manifest["spec"]["template"]
    asked = asked_labels(template["spec"])
    if asked.get(FLEX_LABEL) != ("true",):
        return False
    queue = (manifest["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    is_queued_elsewhere = is_others_queue(queue)
    if is_queued_elsewhere or _request_of(manifest):
        return False
    fitting = [pool for pool in pools or () if pool.may_have(asked)]
    if fitting:
        return all(pool.is_queued for pool in fitting)
    return int(manifest["spec"].get("completions") or 1) > 1


def pod_template(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a Job's pods decides which nodes they fit, for its request to name.

    Args:
        job: The Job, as the cluster has it.
    """
    pod = job["spec"]["template"]["spec"]
    spec = {name: pod[name] for name in _SCHEDULING if pod.get(name)}
    containers = [
        {name: each[name] for name in _CONTAINER if name in each} for each in pod["containers"]
    ]
    metadata = _metadata(job)
    # GKE's own defaults for pods are applied to it, too, as Google's page has it.
    metadata["labels"]["cloud.google.com/apply-warden-policies"] = "true"
    return {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": metadata,
        "template": {"spec": {**spec, "containers": containers, "restartPolicy": "Never"}},
    }


def provisioning_request(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the request for all nodes of a Job.

    Args:
        job: The Job, as the cluster has it.
    """
    seconds = (job["metadata"].get("annotations") or {}).get(MAX_RUN_ANNOTATION)
    parameters = {"maxRunDurationSeconds": seconds} if seconds else {}
    pods = {
        "count": int(job["spec"].get("completions") or 1),
        "podTemplateRef": {"name": job["metadata"]["name"]},
    }
    return {
        "apiVersion": API,
        "kind": "ProvisioningRequest",
        "metadata": _metadata(job),
        "spec": {
            "provisioningClassName": PROVISIONING_CLASS,
            "parameters": parameters,
            "podSets": [pods],
        },
    }


def explain_request(request: Mapping[str, Any] | None) -> Diagnosis | None:
    """Say what a request waits for, or why it is over; None where its nodes are there.

    Args:
        request: The request; None when it cannot be read.
    """
    if request is None:
        return None
    count = sum(int(each.get("count") or 0) for each in request["spec"].get("podSets") or ())
    nodes = f"the {count} nodes" if count > 1 else "the node"
    if failed := condition(request, "Failed"):
        return _failed(str(failed.get("message") or failed.get("reason") or ""), nodes)
    for kind in ("CapacityRevoked", "BookingExpired"):
        if gone := condition(request, kind):
            return Diagnosis(
                cause=Cause.CLOUD_CAPACITY,
                message=f"flex-start has taken {nodes} back: {gone.get('message') or kind}",
                hint="call again",
                permanent=True,
            )
    if condition(request, "Provisioned"):
        return None
    if not condition(request, "Accepted"):
        return Diagnosis(
            cause=Cause.SCALING_UP,
            message=f"flex-start has not taken up the request for {nodes} yet",
        )
    conditions = (request.get("status") or {}).get("conditions") or ()
    told = [each for each in conditions if each.get("type") == "Provisioned"]
    waiting: Mapping[str, Any] = next(iter(told), {})
    reason = waiting.get("reason")
    said = str(waiting.get("message") or "") if reason != "NotProvisioned" else ""
    come = "come together" if count > 1 else "comes"
    return Diagnosis(
        cause=_cause_of_wait(str(reason), said),
        message=f"flex-start has the request: {nodes} {come} as soon as the zone has them"
        + (f" ({said})" if said else ""),
    )


def _cause_of_wait(reason: str, said: str) -> Cause:
    """Tell from a wait of its turn what nobody waits for who has another choice."""
    if reason == "QuotaExceeded":
        return Cause.CLOUD_QUOTA
    is_endless = reason == "ResourcePoolExhausted" and "indefinite" in said
    return Cause.CLOUD_CAPACITY if is_endless else Cause.SCALING_UP


def _failed(said: str, nodes: str) -> Diagnosis:
    is_quota = "quota" in said.lower()
    return Diagnosis(
        cause=Cause.CLOUD_QUOTA if is_quota else Cause.CLOUD_CAPACITY,
        message=f"flex-start does not give {nodes}: {said}",
        hint="ask for more under IAM & Admin > Quotas, or take another accelerator or region"
        if is_quota
        else "take another accelerator, or another zone",
        permanent=True,
    )


def _request_of(job: Mapping[str, Any]) -> str | None:
    annotations: Mapping[str, str] = job["metadata"].get("annotations") or {}
    return annotations.get(CONSUMES_ANNOTATION)


def _metadata(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of an object that goes with a Job."""
    known = job["metadata"]
    run_id = (known.get("labels") or {}).get(RUN_ID_POD_LABEL)
    labels = {"app.kubernetes.io/managed-by": "kinetic"}
    return {
        "name": known["name"],
        "namespace": known["namespace"],
        "labels": {**labels, RUN_ID_POD_LABEL: run_id} if run_id else labels,
        **owned_by_job(job)["metadata"],
    }
