"""A pod that asks for Prefect from the cluster, made only where that is asked for."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    core_path,
    jobs_path,
)
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.findings import Finding
from kinetic_flows.core.pod_security import RESTRICTED
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts
from kinetic_flows.platforms.gke.diagnosis import launch_error
from kinetic_flows.platforms.gke.reach import for_pods, is_reachable, loopback_warning

SUBJECT = "Prefect from a pod"

PROBE_SECONDS = 180.0
"""How long a pod may take, and a node that has to be made for it."""

LOOK_SECONDS = 1.0

IMAGE = f"mirror.gcr.io/library/python:3.{sys.version_info.minor}-slim"
"""Docker Hub's, from Google's mirror, which nodes without an address of their own reach, too.
https://cloud.google.com/artifact-registry/docs/pull-cached-dockerhub-images"""

PROGRAM = """
import json, sys, urllib.error, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=15) as answer:
        print(json.dumps({"status": answer.status}))
except urllib.error.HTTPError as error:
    print(json.dumps({"status": error.code}))
except Exception as error:
    print(json.dumps({"error": str(error)}))
"""
"""Any answer shows that it is reached; who is let in, a run's own credentials decide."""


def reach_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield whether pods can reach Prefect's API, as far as the addresses tell."""
    client, _ = facts.reached.need()
    url = for_pods(facts.api_url.need(), facts.cloud.pods_api_url)
    warning = loopback_warning(url, client.host())
    if warning:
        yield Finding(subject=SUBJECT, level="warning", text=warning)
        return
    text = f"{url} is no address of this machine alone; --probe has a pod ask for it"
    yield Finding(subject=SUBJECT, level="ok", text=text)


def probe_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield what a pod says that asks for Prefect, and remove it whatever happens."""
    client, _ = facts.reached.need()
    url = for_pods(facts.api_url.need(), facts.cloud.pods_api_url)
    if is_reachable(url, client.host()) is False:
        # No pod need be started to know that.
        yield from reach_findings(facts)
        return
    probe = Probe(client, probe_job(facts, url))
    # After Ctrl-C nobody waits for the thread that is here.
    facts.at_end.callback(probe.remove)
    try:
        probe.start()
        told = probe.answer()
    finally:
        probe.remove()
    if told is None:
        text = f"the pod did not end within {PROBE_SECONDS:.0f} s; it was removed"
        yield Finding(subject=SUBJECT, level="unknown", text=text)
    elif "status" in told:
        text = f"{url} answers a pod in {facts.cloud.namespace} ({told['status']})"
        yield Finding(subject=SUBJECT, level="ok", text=text)
    elif "error" not in told:
        text = "the pod ended without a word, before it could ask"
        yield Finding(subject=SUBJECT, level="unknown", text=text)
    else:
        yield Finding(
            subject=SUBJECT,
            level="wrong",
            text=f"a pod in {facts.cloud.namespace} cannot reach {url}: {told['error']}; runs go "
            "on, and only clients that wait set their states",
        )


def probe_job(facts: ClusterFacts, url: str) -> dict[str, Any]:
    """Return a Job of one pod that asks for an address and ends; Kubernetes removes it, too."""
    account = facts.service_account
    container = {
        "name": "probe",
        "image": IMAGE,
        "command": ["python", "-c", PROGRAM, f"{url.rstrip('/')}/health"],
        "securityContext": dict(RESTRICTED),
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"kinetic-probe-{uuid4().hex[:10]}",
            "namespace": facts.cloud.namespace,
            "labels": {"app.kubernetes.io/managed-by": "kinetic"},
        },
        "spec": {
            "backoffLimit": 0,
            # Whoever is killed before it removes the Job leaves it to Kubernetes.
            "activeDeadlineSeconds": int(PROBE_SECONDS),
            "ttlSecondsAfterFinished": 60,
            "template": {"spec": {**pod, **({"serviceAccountName": account} if account else {})}},
        },
    }


class Probe:
    """A Job that is in the cluster until it is removed.

    Args:
        client: The cluster.
        job: The Job.
    """

    def __init__(self, client: KubernetesClient, job: dict[str, Any]) -> None:
        self._client = client
        self._job = job
        self._namespace, self._name = job["metadata"]["namespace"], job["metadata"]["name"]
        self._is_removed = threading.Event()
        self._changing = threading.Lock()

    def start(self) -> None:
        """Have Kubernetes start the pod, unless it is to be removed by now."""
        with self._changing:
            if self._is_removed.is_set():
                return
            try:
                self._client.ask("POST", jobs_path(self._namespace), body=self._job)
            except KubernetesRefused as refusal:
                raise launch_error(refusal, "start a pod that asks for Prefect") from refusal

    def remove(self) -> None:
        """Remove the Job and its pod, once; one that is being started, when that is done."""
        path = jobs_path(self._namespace, self._name)
        with self._changing:
            if self._is_removed.is_set():
                return
            self._is_removed.set()
            # Where that is refused, Kubernetes does it after a while.
            with suppress(KineticError):
                self._client.ask("DELETE", path, body={"propagationPolicy": "Background"})

    def answer(self) -> dict[str, Any] | None:
        """Return what the pod printed, nothing as it may be; None where it did not end in time."""
        until = time.monotonic() + PROBE_SECONDS
        query = {"labelSelector": f"job-name={self._name}"}
        pods = core_path(self._namespace, "pods")
        while time.monotonic() < until and not self._is_removed.is_set():
            for pod in self._client.ask("GET", pods, query=query).get("items") or ():
                if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                    return self._printed(pod["metadata"]["name"])
            self._is_removed.wait(LOOK_SECONDS)
        return None

    def _printed(self, pod: str) -> dict[str, Any]:
        try:
            return self._client.ask("GET", f"{core_path(self._namespace, 'pods', pod)}/log")
        except json.JSONDecodeError:
            return {}
