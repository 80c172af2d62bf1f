"""Runs as Jobs of a Kubernetes cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeGuard

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    KubernetesUnreachable,
    core_path,
)
from kinetic_flows.clients.prefect.job_rendering import render_job
from kinetic_flows.core.accelerators import Accelerator, NodePool
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.launcher import (
    LaunchNeeds,
    LaunchRequest,
    Observation,
    Phase,
    Preflight,
)
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.platforms.gke.capacity import node_pools
from kinetic_flows.platforms.gke.diagnosis import condition
from kinetic_flows.platforms.gke.handover import launch_variables, secret_values
from kinetic_flows.platforms.gke.job_objects import JobObjects
from kinetic_flows.platforms.gke.manifests import base_job_template, run_secret
from kinetic_flows.platforms.gke.names import kubernetes_job_name, run_secret_name
from kinetic_flows.platforms.gke.output import PodOutputs
from kinetic_flows.platforms.gke.phase import PodStatus, Timeouts, evaluate, gives_up, timeouts_of
from kinetic_flows.platforms.gke.preflight import preflight
from kinetic_flows.platforms.gke.preflight_request import PreflightRequest
from kinetic_flows.platforms.gke.provisioning import QueuedProvisioning, with_request
from kinetic_flows.platforms.gke.reach import is_reachable
from kinetic_flows.platforms.gke.requests import Surroundings
from kinetic_flows.platforms.gke.rights import may_create_jobs
from kinetic_flows.platforms.gke.slices import parts_of, whole
from kinetic_flows.platforms.gke.state import Object, RunView
from kinetic_flows.platforms.gke.waited import WaitClock
from kinetic_flows.platforms.gke.watcher import REQUIRED, SERVER, NamespaceWatcher

if TYPE_CHECKING:
    from kinetic_flows.core.pool_rooms import PoolRoom
    from kinetic_flows.core.process_facts import ProcessFacts
    from kinetic_flows.platforms.gke import access, pool_rooms, process_facts
else:
    # Calls do not look into runs, nor ask what is free.
    access = LazyModule("kinetic_flows.platforms.gke.access")
    pool_rooms = LazyModule("kinetic_flows.platforms.gke.pool_rooms")
    process_facts = LazyModule("kinetic_flows.platforms.gke.process_facts")

PREFLIGHT_HOLDS_SECONDS = 120.0
OUTPUT_SECONDS = 10.0
FORCED_END_SECONDS = 10.0


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
        self._objects = JobObjects(client, self._namespace)
        self._watcher = NamespaceWatcher(client, self._namespace)
        self._outputs = PodOutputs(client, self._namespace, self._watcher.state)
        self._guard = threading.Lock()
        self._checking: dict[PreflightRequest, threading.Lock] = {}
        self._statuses: dict[str, tuple[RunView, PodStatus]] = {}
        self._given_up: dict[str, str] = {}
        self._clock = WaitClock()
        self._queued = QueuedProvisioning(client, self._namespace)
        self._place_uid: str | None = None

    @property
    def access(self) -> access.PodAccess:
        """The way to the pods of what it has launched."""
        return access.PodAccess(self._client, self._namespace, self._watcher)

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
            # Another run on the same accelerator may have been for other nodes.
            self.surroundings[needs.accelerator] = Surroundings(
                pools=found.seen_pools, limited=found.limited, makes_pools=found.makes_pools
            )
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
        return pool_rooms.rooms(self._client)

    def facts(self, key: str) -> ProcessFacts:
        """Return what the cluster knows of the pods of a launch and of their nodes.

        Raises:
            LaunchError: The cluster cannot be reached.
        """
        keys = self._watcher.slices(key)
        views = {each: self._watcher.state.view(each) for each in keys}
        return process_facts.read_facts(self._client, views)

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
        """Create the run's Secret and Job, of each slice; whatever of them exists already is kept.

        Raises:
            LaunchError: The cluster refuses, or cannot be reached.
        """
        made: list[Object] = []
        for part in parts_of(request):
            try:
                job, is_new = self._start(part)
            except KineticError:
                # A slice alone would wait for the others; another client may have started all.
                for each in made:
                    with suppress(KineticError):
                        self._objects.delete_job(each)
                raise
            made += [job] if is_new else []

    def _start(self, request: LaunchRequest) -> tuple[Object, bool]:
        job_name = kubernetes_job_name(request.name, request.key)
        manifest = render_job(
            request.template or base_job_template(),
            launch_variables(request, job_name, self._namespace),
            run_id=request.run_id,
            name=request.name,
        )
        manifest = with_request(manifest, self._node_pools)
        secret = run_secret(
            run_secret_name(job_name),
            self._namespace,
            request.run_id,
            secret_values(request.environment),
        )
        job, is_new = self._objects.create(manifest, secret)
        try:
            self._queued.ask_for_nodes(job)
        except KineticError:
            if is_new:
                # It would wait for nodes that nobody asks for.
                with suppress(KineticError):
                    self._objects.delete_job(job)
            raise
        self._watcher.state.made(job)
        return job, is_new

    def observe(self, run_id: str, position: int | None = 0) -> Observation:
        """Look at the run's Job and pods, reading the first host's output from a position on.

        Args:
            run_id: The run.
            position: Where to read on; None to leave its output alone.

        Raises:
            LaunchError: The cluster does not tell.
        """
        state, keys = self._watcher.state, self._watcher.slices(run_id)
        statuses = {key: self._status(key, state.view(key)) for key in keys}
        status = whole(list(statuses.values()))
        if status.phase is Phase.FAILED:
            self._end_others(statuses)
        waited = [self._clock.waited(key, each.waiting_since) for key, each in statuses.items()]
        seen = Observation(
            phase=status.phase,
            exit_code=status.exit_code,
            reason=self._reason(status),
            cause=status.cause,
            restarts=status.restarts,
            is_lasting=status.is_lasting,
            message=status.message,
            waited_seconds=max(waited),
            is_placed=status.is_placed,
            is_outdated=not status.phase.is_final and self._trouble() is not None,
            waits=status.waits,
        )
        if position is None:
            return seen
        first = keys[0]
        if status.phase.is_final:
            self._outputs.finish(first, lambda: state.view(first), OUTPUT_SECONDS)
        output, end = self._outputs.read(first, state.view(first), position)
        return replace(seen, output=output, position=end)

    def _end_others(self, statuses: Mapping[str, PodStatus]) -> None:
        """Delete the Jobs of slices that go on without one that has failed."""
        for key, status in statuses.items():
            job = self._watcher.state.view(key).job
            if job is not None and not status.phase.is_final:
                self._objects.delete_job(job)

    def stop(self, run_id: str, grace_seconds: float) -> None:
        """Delete the run's Job, and wait until its pods have ended.

        Args:
            run_id: The run; nothing happens when it has no Job, or its Job has ended.
            grace_seconds: Time between SIGTERM and SIGKILL.

        Raises:
            LaunchError: The cluster refuses, or cannot be reached.
        """
        keys, state = self._watcher.slices(run_id), self._watcher.state
        jobs = {key: job for key in keys if _lives(job := state.view(key).job)}
        for job in jobs.values():
            self._objects.delete_job(job)

        def end_pods(seconds: float) -> None:
            self._objects.end_pods([pod for key in jobs for pod in state.view(key).pods], seconds)

        def is_gone() -> bool:
            views = [state.view(key) for key in jobs]
            return not any(view.job or view.pods for view in views)

        end_pods(grace_seconds)
        if not state.wait(is_gone, grace_seconds + FORCED_END_SECONDS if jobs else 0.0):
            # A node that is gone never confirms the end of its pods.
            end_pods(0)
            state.wait(is_gone, FORCED_END_SECONDS)

    def discard(self, run_id: str) -> None:
        """Delete the run's Job, which has ended, before its time to live is over.

        Raises:
            LaunchError: The cluster refuses, or cannot be reached.
        """
        for key in self._watcher.slices(run_id):
            job = self._watcher.state.view(key).job
            if job is not None:
                self._objects.delete_job(job)

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
            self._objects.delete_job(job)
        return PodStatus(phase=Phase.FAILED, reason=self._given_up[run_id], is_lasting=True)

    def _trouble(self) -> KineticError | None:
        return self._watcher.state.trouble((*REQUIRED, SERVER))

    def _reason(self, status: PodStatus) -> str:
        trouble = self._trouble()
        if trouble is None or status.phase.is_final or not self._watcher.state.is_stale():
            return status.reason
        return f"nothing is heard of the cluster: {trouble.message}"


def _lives(job: Object | None) -> TypeGuard[Object]:
    """Whether there is a Job that has not ended."""
    return job is not None and not (condition(job, "Failed") or condition(job, "Complete"))
