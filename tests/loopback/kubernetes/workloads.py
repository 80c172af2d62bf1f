"""The controllers of Deployments and StatefulSets, as far as workloads of one pod show them.

A Deployment's pods are its own here, without a ReplicaSet between.
https://kubernetes.io/docs/concepts/workloads/controllers/
"""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

from loopback.kubernetes.admission import Admission
from loopback.kubernetes.errors import ApiError
from loopback.kubernetes.jobs import mark_deleted
from loopback.kubernetes.store import Object, Store, random_suffix

REVISION = "controller-revision-hash"


class Workloads:
    """Makes the pods that Deployments and StatefulSets want, and says how many are ready.

    Args:
        store: The cluster's objects.
        admission: What is checked before pods are made.
    """

    def __init__(self, store: Store, admission: Admission) -> None:
        self._store = store
        self._admission = admission

    def reconcile(self) -> None:
        """Bring every workload nearer to what its specification wants."""
        for plural in ("deployments", "statefulsets"):
            for item in list(self._store.list(plural)):
                self._advance(plural, item)

    def _advance(self, plural: str, item: Object) -> None:
        revision = _revision(item)
        pods = self._store.owned("pods", item)
        current = [pod for pod in pods if pod["metadata"]["labels"].get(REVISION) == revision]
        for pod in pods:
            if pod not in current or pod["status"].get("phase") in ("Succeeded", "Failed"):
                mark_deleted(self._store, pod, 1)
        wanted = item["spec"].get("replicas", 1)
        if plural == "deployments":
            missing = [random_suffix() for _ in range(wanted - len(current))]
        else:
            # The next pod of a name is made when the one before is gone.
            there = {pod["metadata"]["name"].rpartition("-")[2] for pod in pods}
            missing = [str(number) for number in range(wanted) if str(number) not in there]
        for suffix in missing:
            self._make(item, suffix, revision)
        self._report(plural, item, revision)

    def _make(self, item: Object, suffix: str, revision: str) -> None:
        metadata, template = item["metadata"], copy.deepcopy(item["spec"]["template"])
        pod = {
            "metadata": {
                **template.get("metadata", {}),
                "name": f"{metadata['name']}-{suffix}",
                "labels": {**template["metadata"]["labels"], REVISION: revision},
                "ownerReferences": [
                    {
                        "apiVersion": item["apiVersion"],
                        "kind": item["kind"],
                        "name": metadata["name"],
                        "uid": metadata["uid"],
                        "controller": True,
                    }
                ],
            },
            "spec": template["spec"],
        }
        try:
            self._admission.check_pod(metadata["namespace"], pod)
        except ApiError as refusal:
            self._store.record_event(item, "Warning", "FailedCreate", refusal.message)
            return
        self._store.create("pods", metadata["namespace"], pod)

    def _report(self, plural: str, item: Object, revision: str) -> None:
        pods = self._store.owned("pods", item)
        ready = [pod for pod in pods if _is_ready(pod)]
        updated = [pod for pod in pods if pod["metadata"]["labels"].get(REVISION) == revision]
        counts: dict[str, Any] = {
            "observedGeneration": item["metadata"]["generation"],
            "replicas": len(pods),
            "readyReplicas": len(ready),
            "availableReplicas": len(ready),
            "updatedReplicas": len(updated),
        }
        if plural == "statefulsets":
            counts |= {"updateRevision": revision, "currentRevision": revision}
        metadata = item["metadata"]

        def report(stored: Object) -> None:
            stored.setdefault("status", {}).update(counts)

        self._store.edit(plural, metadata["namespace"], metadata["name"], report)


def _is_ready(pod: Object) -> bool:
    statuses = pod["status"].get("containerStatuses") or ()
    return bool(statuses) and all(each["ready"] for each in statuses)


def _revision(item: Object) -> str:
    text = json.dumps(item["spec"]["template"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
