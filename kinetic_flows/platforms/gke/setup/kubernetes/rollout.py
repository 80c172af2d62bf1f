"""Whether the pods of a Deployment or StatefulSet are ready, and what they wait for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.kubernetes.apply import read_object
from kinetic_flows.clients.kubernetes.client import KubernetesRefused, core_path
from kinetic_flows.core.errors import CloudError
from kinetic_flows.core.interruption import pause
from kinetic_flows.platforms.gke.diagnosis import (
    Cause,
    Diagnosis,
    container_status,
    events_about,
    explain_denial,
    latest,
)
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import SetupCluster, refused
from kinetic_flows.platforms.gke.setup.model import Tell
from kinetic_flows.platforms.gke.waiting import explain_waiting

READY_SECONDS = 900.0
"""A node may have to be made first, and images of some hundred MB be pulled."""

LAST_PAUSE_SECONDS = 3.0
PERMANENT_SECONDS = 90.0
"""How long a reason that waiting cannot help is waited for all the same; it may have been mended
by what is being made beside it."""


def growing_pauses() -> Iterator[float]:
    """Yield the seconds between looks, short ones first: what is there already takes no time."""
    seconds = 0.05
    while True:
        yield seconds
        seconds = min(seconds * 1.5, LAST_PAUSE_SECONDS)


def is_workload(item: Mapping[str, Any]) -> bool:
    """Whether an object has pods that are waited for."""
    return item["kind"] in ("Deployment", "StatefulSet")


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """The pods of one workload, of the version that was applied last.

    Attributes:
        cluster: The cluster.
        item: The Deployment or StatefulSet.
    """

    cluster: SetupCluster
    item: Mapping[str, Any]

    def wait(self, tell: Tell) -> None:
        """Wait until all pods are ready.

        Raises:
            CloudError: They are not in time, or wait for what will not come.
        """
        began, said, hopeless_since = time.monotonic(), "", None
        pauses = growing_pauses()
        while found := self._find():
            now = time.monotonic()
            hopeless_since = (hopeless_since or now) if found.permanent else None
            is_hopeless = hopeless_since is not None and now - hopeless_since > PERMANENT_SECONDS
            if is_hopeless or now - began > READY_SECONDS:
                raise self._late(found, now - began)
            if found.message != said:
                said = found.message
                tell(said.replace(" of the run ", " of the pod "))
            pause(next(pauses))

    def waits_for(self) -> str:
        """Return what the pods wait for; empty when all are ready."""
        found = self._find()
        return found.message if found else ""

    def _find(self) -> Diagnosis | None:
        try:
            live = read_object(self.cluster.client, self.item)
            if live is not None and _is_ready(live):
                return None
            return self._diagnosis(live or dict(self.item))
        except KubernetesRefused as refusal:
            raise refused(refusal, f"look at {self.item['metadata']['name']}") from refusal

    def _diagnosis(self, live: Mapping[str, Any]) -> Diagnosis:
        namespace = str(self.item["metadata"]["namespace"])
        labels = self.item["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        client = self.cluster.client
        pods = client.ask("GET", core_path(namespace, "pods"), query={"labelSelector": selector})
        events = client.ask("GET", core_path(namespace, "events"))
        known = events.get("items") or []
        found = explain_waiting(live, pods.get("items") or [], known)
        if found is not None and pods.get("items"):
            return found
        refusal = latest(events_about(known, live), "FailedCreate")
        if refusal is not None:
            return explain_denial(str(refusal.get("message") or ""), "make the pod")
        return _restarting(pods.get("items") or []) or Diagnosis(
            cause=found.cause if found else Cause.STARTING, message="its pod is starting"
        )

    def _late(self, found: Diagnosis, seconds: float) -> CloudError:
        metadata = self.item["metadata"]
        return CloudError(
            f"{metadata['namespace']}/{metadata['name']} is not ready after {seconds:.0f} seconds: "
            f"{found.message}",
            value=metadata["name"],
            hint=found.hint
            or f"look at it with: kubectl describe pods --namespace {metadata['namespace']}",
        )


def _is_ready(live: Mapping[str, Any]) -> bool:
    """Whether a workload's pods are those of its newest version, and all ready.

    https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#complete-deployment
    """
    status, wanted = live.get("status") or {}, (live.get("spec") or {}).get("replicas", 1)
    if status.get("observedGeneration", 0) < live["metadata"].get("generation", 1):
        return False
    updated = status.get("updatedReplicas", 0)
    ready = status.get("readyReplicas", 0)
    return bool(updated == wanted and ready == wanted and status.get("replicas", 0) == wanted)


def _restarting(pods: list[dict[str, Any]]) -> Diagnosis | None:
    """Say how the container ended that is being started again."""
    for pod in pods:
        state = container_status(pod).get("lastState") or {}
        ended = state.get("terminated") or (container_status(pod).get("state") or {}).get(
            "terminated"
        )
        if ended:
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            return Diagnosis(
                cause=Cause.STARTING,
                message=f"its container ended with code {ended.get('exitCode')} "
                f"({ended.get('reason') or 'no reason given'}) and is started again",
                hint=f"see why: kubectl logs {name} --namespace {namespace} --previous",
            )
    return None
