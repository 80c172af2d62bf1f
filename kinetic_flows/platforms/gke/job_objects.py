"""What is made and deleted in a cluster for one Job."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    core_path,
    jobs_path,
)
from kinetic_flows.core.errors import KineticError, LaunchError
from kinetic_flows.platforms.gke.diagnosis import launch_error
from kinetic_flows.platforms.gke.manifests import owned_by_job
from kinetic_flows.platforms.gke.room import is_full, make_room
from kinetic_flows.platforms.gke.state import Object

ROOM_SECONDS = 15.0
ROOM_PAUSE_SECONDS = 0.5


class JobObjects:
    """Makes Jobs with their Secrets, and deletes Jobs and pods.

    Args:
        client: The cluster.
        namespace: Where they are.
    """

    def __init__(self, client: KubernetesClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def create(self, job: dict[str, Any], secret: dict[str, Any]) -> tuple[Object, bool]:
        """Create a Job and its Secret; whatever of them exists already is kept.

        Args:
            job: The Job.
            secret: What its pods are handed.

        Returns:
            The Job as it is in the cluster, and whether it was not there before.

        Raises:
            LaunchError: The cluster refuses, or cannot be reached.
        """
        # The Secret is there before the Job, so that no pod ever waits for it; it is given to
        # the Job afterwards, whose deletion takes it along.
        path = core_path(self._namespace, "secrets")
        secret_path = core_path(self._namespace, "secrets", secret["metadata"]["name"])
        is_ours = self._create(path, secret, "create the run's Secret") is not None
        try:
            made, is_new = self._create_job(job)
        except KineticError:
            if is_ours:
                # Another client may have started it, with the one that was there.
                self._delete_quietly(secret_path)
            raise
        owned = owned_by_job(made)
        self._ask("PATCH", secret_path, "hand the run's Secret to its Job", body=owned)
        return made, is_new

    def delete_job(self, job: Mapping[str, Any]) -> None:
        """Delete a Job in the foreground: it stays, making no more pods, until they have ended."""
        path = jobs_path(self._namespace, job["metadata"]["name"])
        # Never one of the same name that was made since.
        options = {
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": job["metadata"]["uid"]},
        }
        self._delete(path, options, "delete the Job")

    def end_pods(self, pods: Iterable[Mapping[str, Any]], grace_seconds: float) -> None:
        """Give a deleted Job's pods another grace period than their own."""
        for pod in pods:
            path = core_path(self._namespace, "pods", pod["metadata"]["name"])
            options = {
                "gracePeriodSeconds": int(grace_seconds),
                "preconditions": {"uid": pod["metadata"]["uid"]},
            }
            self._delete(path, options, "end the pod")

    def _create_job(self, manifest: dict[str, Any]) -> tuple[Object, bool]:
        created = self._create_with_room(jobs_path(self._namespace), manifest)
        path = jobs_path(self._namespace, manifest["metadata"]["name"])
        return created or self._ask("GET", path, "read the Job"), created is not None

    def _create_with_room(self, path: str, manifest: dict[str, Any]) -> dict[str, Any] | None:
        """Create a Job; where a quota on Jobs is full, finished ones give way."""
        deadline = time.monotonic() + ROOM_SECONDS
        while True:
            try:
                return self._create(path, manifest, "create the Job")
            except LaunchError as error:
                refusal = error.__cause__
                is_full_of_jobs = isinstance(refusal, KubernetesRefused) and is_full(refusal)
                if not is_full_of_jobs or time.monotonic() > deadline:
                    raise
                made = self._client.spawn(make_room(self._client, self._namespace)).result()
                if not made:
                    raise
            # A quota is counted anew a moment after something it counts is gone.
            time.sleep(ROOM_PAUSE_SECONDS)

    def _create(self, path: str, body: dict[str, Any], action: str) -> dict[str, Any] | None:
        """Create an object; None when it exists, as names are a run's own."""
        try:
            return self._client.ask("POST", path, body=body)
        except KubernetesRefused as refusal:
            if refusal.status != HTTPStatus.CONFLICT:
                raise launch_error(refusal, action) from refusal
            return None

    def _delete(self, path: str, options: Mapping[str, Any], action: str) -> None:
        try:
            self._client.ask("DELETE", path, body=options)
        except KubernetesRefused as refusal:
            if refusal.status not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                raise launch_error(refusal, action) from refusal

    def _delete_quietly(self, path: str) -> None:
        """Clean up behind a failure that is told already."""
        try:
            self._client.ask("DELETE", path)
        except KineticError:
            return

    def _ask(self, method: str, path: str, action: str, body: Any = None) -> dict[str, Any]:
        try:
            return self._client.ask(method, path, body=body)
        except KubernetesRefused as refusal:
            raise launch_error(refusal, action) from refusal
