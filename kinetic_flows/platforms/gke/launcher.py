"""Runs as Jobs of a Kubernetes cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    KubernetesUnreachable,
    core_path,
    jobs_path,
)
from kinetic_flows.clients.prefect.job_rendering import render_job
from kinetic_flows.core.accelerators import Accelerator, NodePool
from kinetic_flows.core.errors import KineticError, LaunchError
from kinetic_flows.core.launcher import (
    LaunchNeeds,
    LaunchRequest,
    Observation,
    Phase,
    Preflight,
)
from kinetic_flows.core.pool_rooms import PoolRoom
from kinetic_flows.platforms.gke.capacity import node_pools
from kinetic_flows.platforms.gke.diagnosis import condition, launch_error
from kinetic_flows.platforms.gke.handover import launch_variables, secret_values
from kinetic_flows.platforms.gke.manifests import base_job_template, owned_by_job, run_secret
from kinetic_flows.platforms.gke.names import kubernetes_job_name, run_secret_name
from kinetic_flows.platforms.gke.output import PodOutputs
from kinetic_flows.platforms.gke.phase import PodStatus, Timeouts, evaluate, gives_up, timeouts_of
from kinetic_flows.platforms.gke.pool_rooms import rooms
from kinetic_flows.platforms.gke.preflight import preflight
from kinetic_flows.platforms.gke.preflight_request import PreflightRequest
from kinetic_flows.platforms.gke.provisioning import QueuedProvisioning, with_request
from kinetic_flows.platforms.gke.reach import is_reachable
from kinetic_flows.platforms.gke.requests import Surroundings
from kinetic_flows.platforms.gke.rights import may_create_jobs
from kinetic_flows.platforms.gke.room import is_full, make_room
from kinetic_flows.platforms.gke.state import RunView
from kinetic_flows.platforms.gke.waited import WaitClock
from kinetic_flows.platforms.gke.watcher import REQUIRED, SERVER, NamespaceWatcher

PREFLIGHT_HOLDS_SECONDS = 120.0
OUTPUT_SECONDS = 10.0
FORCED_END_SECONDS = 10.0
ROOM_SECONDS = 15.0
ROOM_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True)
class LauncherSettings:
    """Where and how runs are launched.

    Attributes:
        namespace: Namespace of their Jobs.
        timeouts: How long runs may wait for their pods, where their Jobs do not say.
    """

    namespace: str = "default"
    timeouts: Timeouts = field(default_factory=Timeouts)


class KubernetesLauncher:
    """Launcher whose processes are pods, each run's being one Job.

    Args:
        client: The cluster.
        settings: Where and how runs are launched.
    """

    def __init__(self, client: KubernetesClient, settings: LauncherSettings | None = None) -> None:
        self._client = client
        settings = settings or LauncherSettings()
        self._namespace, self._timeouts = settings.namespace, settings.timeouts
        self._node_pools: tuple[NodePool, ...] | None = None
        self.surroundings: dict[Accelerator, Surroundings] = {}
        self._checked: dict[PreflightRequest, tuple[float, Preflight]] = {}
        self._watcher = NamespaceWatcher(client, self._namespace)
        self._outputs = PodOutputs(client, self._namespace, self._watcher.state)
        self._guard = threading.Lock()
        self._checking: dict[PreflightRequest, threading.Lock] = {}
        self._statuses: dict[str, tuple[RunView, PodStatus]] = {}
        self._given_up: dict[str, str] = {}
        self._clock = WaitClock()
        self._queued = QueuedProvisioning(client, self._namespace)
        self._place_uid: str | None = None

    def preflight(self, needs: LaunchNeeds) -> Preflight:
        """Find out what speaks against launching a run, before anything is built for it.

        Runs that are launched together are looked into once.

        Args:
            needs: What the run is going to need.

        Raises:
            LaunchError: The cluster cannot be reached.
        """
        request = PreflightRequest.of(needs, self._namespace)
        with self._checking.setdefault(request, threading.Lock()):
            checked, found = self._checked.get(request, (0.0, None))
            is_old = time.monotonic() - checked > PREFLIGHT_HOLDS_SECONDS
            if found is None or found.problems or is_old:
                found = preflight(self._client, request)
                self._checked[request] = (time.monotonic(), found)
                self._node_pools = found.node_pools
                told = Surroundings(pools=found.seen_pools, limited=found.limited)
                self.surroundings[needs.accelerator] = told
        return found

    def reaches(self, url: str) -> bool | None:
        """Whether pods can reach a URL: not this machine's own; None where the cluster is here.

        Raises:
            LaunchError: The cluster's own address cannot be found out.
        """
        return is_reachable(url, self._client.host())

    def node_pools(self) -> tuple[NodePool, ...] | None:
        """Return the cluster's node pools, those scaled to zero only where GKE is asked itself.

        Raises:
            LaunchError: The cluster does not tell.
        """
        return node_pools(self._client)

    def rooms(self) -> tuple[PoolRoom, ...] | None:
        """Return the node pools with what is free in them; None where nodes are not shown.

        Raises:
            LaunchError: The cluster does not answer in time, or refuses.
        """
        return rooms(self._client)

    def may_launch(self) -> bool:
        """Whether this user may create Jobs here; False without any credentials.

        Raises:
            LaunchError: The cluster cannot be reached.
        """
        return may_create_jobs(self._client, self._namespace)

    def place(self) -> str:
        """Return the namespace, with what tells it from others of its name; asked for once.

        Clusters have many addresses and namespaces the same names everywhere. Every namespace has
        a service account `default`, whose uid no other has. Where it is not told, the name is all.
        """
        if self._place_uid is None:
            path = core_path(self._namespace, "serviceaccounts", "default")
            try:
                self._place_uid = str(self._client.ask("GET", path)["metadata"]["uid"])
            except KubernetesRefused:
                self._place_uid = ""
            except KubernetesUnreachable:
                # Asked again next time: to follow a run outlasts an outage.
                return self._namespace
        return "/".join(filter(None, (self._namespace, self._place_uid)))

    def start(self, request: LaunchRequest) -> None:
        """Create the run's Secret and Job; whatever of them exists already is kept.

        Raises:
            LaunchError: The cluster refuses, or cannot be reached.
        """
        job_name = kubernetes_job_name(request.name, request.key)
        manifest = render_job(
            request.template or base_job_template(),
            launch_variables(request, job_name, self._namespace),
            run_id=request.run_id,
            name=request.name,
        )
        manifest = with_request(manifest, self._node_pools)
        # The Secret is there before the Job, so that no pod ever waits for it; it is given to
        # the Job afterwards, whose deletion takes it along.
        secret = run_secret(
            run_secret_name(job_name),
            self._namespace,
            request.run_id,
            secret_values(request.environment),
        )
        path = core_path(self._namespace, "secrets")
        is_ours = self._create(path, secret, "create the run's Secret") is not None
        try:
            job = self._create_job(manifest, job_name)
        except KineticError:
            if is_ours:
                # Another client may have started it, with the one that was there.
                self._delete_quietly(self._secret_path(job_name))
            raise
        self._ask(
            "PATCH",
            self._secret_path(job_name),
            "hand the run's Secret to its Job",
            body=owned_by_job(job),
        )
        self._queued.ask_for_nodes(job)
        self._watcher.state.made(job)

    def observe(self, run_id: str, position: int | None = 0) -> Observation:
        """Look at the run's Job and pods, reading the first host's output from a position on.

        Args:
            run_id: The run.
            position: Where to read on; None to leave its output alone.

        Raises:
            LaunchError: The cluster does not tell.
        """
        view = self._watcher.view(run_id)
        status = self._status(run_id, view)
        seen = Observation(
            phase=status.phase,
            exit_code=status.exit_code,
            reason=self._reason(status),
            cause=status.cause,
            restarts=status.restarts,
            is_lasting=status.is_lasting,
            message=status.message,
            waited_seconds=self._clock.waited(run_id, status.waiting_since),
            is_placed=status.is_placed,
            is_outdated=not status.phase.is_final and self._trouble() is not None,
            waits=status.waits,
        )
        if position is None:
            return seen
        if status.phase.is_final:
            self._outputs.finish(run_id, lambda: self._watcher.state.view(run_id), OUTPUT_SECONDS)
        output, end = self._outputs.read(run_id, view, position)
        return replace(seen, output=output, position=end)

    def stop(self, run_id: str, grace_seconds: float) -> None:
        """Delete the run's Job, and wait until its pods have ended.

        Args:
            run_id: The run; nothing happens when it has no Job, or its Job has ended.
            grace_seconds: Time between SIGTERM and SIGKILL.

        Raises:
            LaunchError: The cluster refuses, or cannot be reached.
        """
        job = self._watcher.view(run_id).job
        if job is None or condition(job, "Failed") or condition(job, "Complete"):
            return
        self._delete_job(job)
        state = self._watcher.state

        def is_gone() -> bool:
            view = state.view(run_id)
            return view.job is None and not view.pods

        self._end_pods(run_id, grace_seconds)
        if not state.wait(is_gone, grace_seconds + FORCED_END_SECONDS):
            # A node that is gone never confirms the end of its pods.
            self._end_pods(run_id, 0)
            state.wait(is_gone, FORCED_END_SECONDS)

    def discard(self, run_id: str) -> None:
        """Delete the run's Job, which has ended, before its time to live is over.

        Raises:
            LaunchError: The cluster refuses, or cannot be reached.
        """
        job = self._watcher.view(run_id).job
        if job is not None:
            self._delete_job(job)

    def launches(self, run_id: str = "") -> tuple[str, ...]:
        """Return the keys of the Jobs there are of a run's candidates; of all runs for no id.

        Raises:
            LaunchError: The cluster does not tell.
        """
        self._watcher.view(run_id)
        return self._watcher.state.launches(run_id)

    def kept(self) -> Mapping[str, datetime]:
        """Return nothing: Kubernetes itself removes Jobs that finished a while ago."""
        return {}

    def forget(self, run_id: str) -> None:
        """Do nothing: Kubernetes removes a finished Job, and with it its Secret."""

    def _status(self, run_id: str, view: RunView) -> PodStatus:
        given_up = self._given_up.get(run_id)
        if given_up:
            return PodStatus(phase=Phase.FAILED, reason=given_up, is_lasting=True)
        known = self._statuses.get(run_id)
        if known is None or known[0] is not view:
            known = self._statuses[run_id] = (view, evaluate(view, self._node_pools))
        status = self._queued.explained(view.job, known[1])
        if status.phase.is_final:
            self._statuses.pop(run_id, None)
        timeouts = timeouts_of(view.job, self._timeouts)
        reason = gives_up(status, timeouts, self._clock.waited(run_id, status.waiting_since))
        return self._give_up(run_id, reason) if reason else status

    def _give_up(self, run_id: str, reason: str) -> PodStatus:
        with self._guard:
            self._given_up.setdefault(run_id, reason)
        job = self._watcher.state.view(run_id).job
        if job is not None:
            self._delete_job(job)
        return PodStatus(phase=Phase.FAILED, reason=self._given_up[run_id], is_lasting=True)

    def _trouble(self) -> KineticError | None:
        return self._watcher.state.trouble((*REQUIRED, SERVER))

    def _reason(self, status: PodStatus) -> str:
        trouble = self._trouble()
        if trouble is None or status.phase.is_final or not self._watcher.state.is_stale():
            return status.reason
        return f"nothing is heard of the cluster: {trouble.message}"

    def _create_job(self, manifest: dict[str, Any], job_name: str) -> dict[str, Any]:
        created = self._create_with_room(jobs_path(self._namespace), manifest)
        path = jobs_path(self._namespace, job_name)
        return created or self._ask("GET", path, "read the Job")

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

    def _delete_job(self, job: Mapping[str, Any]) -> None:
        """Delete a Job in the foreground: it stays, making no more pods, until they have ended."""
        path = jobs_path(self._namespace, job["metadata"]["name"])
        # Never one of the same name that was made since.
        options = {
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": job["metadata"]["uid"]},
        }
        self._delete(path, options, "delete the Job")

    def _end_pods(self, run_id: str, grace_seconds: float) -> None:
        """Give a deleted Job's pods another grace period than their own."""
        for pod in self._watcher.state.view(run_id).pods:
            path = core_path(self._namespace, "pods", pod["metadata"]["name"])
            options = {
                "gracePeriodSeconds": int(grace_seconds),
                "preconditions": {"uid": pod["metadata"]["uid"]},
            }
            self._delete(path, options, "end the pod")

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

    def _secret_path(self, job_name: str) -> str:
        return core_path(self._namespace, "secrets", run_secret_name(job_name))
