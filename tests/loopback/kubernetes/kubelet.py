"""The kubelets of all nodes: they pull images, run pods, and report how pods end."""

from __future__ import annotations

import asyncio
import base64
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopback.kubernetes.errors import ApiError
from loopback.kubernetes.image_volumes import cannot_mount, images_of
from loopback.kubernetes.jobs import mark_deleted
from loopback.kubernetes.pod_logs import PodLog
from loopback.kubernetes.runtime import Container, ContainerSpec, Runtime, stop
from loopback.kubernetes.store import Object, Store, now, set_condition
from loopback.kubernetes.volumes import Buckets, directories_of, mount_failure

RETRY_SECONDS = 0.2
CHIPS = frozenset({"google.com/tpu", "nvidia.com/gpu"})


class ImagePullFailure(Exception):
    """The registry's answer to a pull that failed, such as `manifest unknown`."""


PullImage = Callable[[str], Awaitable[None]]
"""Makes sure an image is there; raises `ImagePullFailure`."""


@dataclass
class _Running:
    """A pod whose container runs, and what its node will say of its end."""

    container: Container | None = None
    stopping: bool = False
    oom: bool = False
    end_status: dict[str, str] | None = None


async def any_image(image: str) -> None:
    """Take every image for present."""


class Kubelet:
    """Runs the pods that have a node.

    Args:
        store: The cluster's objects.
        runtime: What runs containers.
        directory: Where logs and working directories go.
        pull_image: What checks images.
        spawn: Starts a task that ends with the cluster.
    """

    def __init__(
        self,
        store: Store,
        runtime: Runtime,
        directory: Path,
        pull_image: PullImage,
        spawn: Callable[[Any], object],
    ) -> None:
        self._store = store
        self._runtime = runtime
        self._directory = directory
        self.pull_image = pull_image
        self._spawn = spawn
        self._running: dict[str, _Running] = {}
        self._logs: dict[str, PodLog] = {}
        self.is_away = False
        self.starts = 0
        self.buckets = Buckets()

    def log(self, pod: Object) -> PodLog:
        """Return a pod's output."""
        uid = pod["metadata"]["uid"]
        return self._logs.setdefault(uid, PodLog(self._directory / f"{uid}.log"))

    def restart(self, seconds: float) -> None:
        """Stop, and start again after a while; containers go on, and nobody reads their output."""
        self.starts += 1
        self.is_away = True
        self._spawn(self._come_back(seconds))

    async def _come_back(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.is_away = False

    def reconcile(self) -> None:
        """Start pods that were given a node, and stop those that are to go."""
        for pod in self._store.list("pods"):
            uid = pod["metadata"]["uid"]
            deleted = pod["metadata"].get("deletionTimestamp")
            if deleted and uid not in self._running:
                self._remove(pod)
            elif deleted:
                self._stop(pod, self._running[uid], pod["metadata"]["deletionGracePeriodSeconds"])
            elif pod["spec"].get("nodeName") and uid not in self._running and _is_new(pod):
                self._running[uid] = _Running()
                self._spawn(self._run(pod))

    def kill_all(self) -> None:
        """Leave no process behind."""
        for running in self._running.values():
            if running.container is not None:
                running.container.signal(signal.SIGKILL)

    def runs(self, pod: Object) -> bool:
        """Whether a pod has been taken on, and has not ended."""
        return pod["metadata"]["uid"] in self._running

    def container(self, pod: Object) -> Container | None:
        """Return the container of a pod that runs; None of others."""
        running = self._running.get(pod["metadata"]["uid"])
        return running.container if running else None

    # What nodes do to pods

    def run_out_of_memory(self, pod: Object) -> None:
        """Kill a pod's container as the kernel does when its memory limit is reached."""
        running = self._running[pod["metadata"]["uid"]]
        running.oom = True
        assert running.container is not None
        running.container.signal(signal.SIGKILL)

    def evict(self, pod: Object, message: str, grace_seconds: float = 0.5) -> None:
        """Stop a pod because its node is under pressure, or because of what it does itself.

        Only pressure on the node is a disturbance: a pod that is beyond a limit of its own has
        no condition that says so, and its Job takes it for a failure.
        """
        if message.startswith("The node was low on resource"):
            self._disrupt(pod, "TerminationByKubelet", message)
        self._end_as(pod, {"reason": "Evicted", "message": message}, grace_seconds)

    def drain(self, pod: Object, grace_seconds: float = 0.5) -> None:
        """Stop a pod because its node is being drained."""
        self._disrupt(pod, "EvictionByEvictionAPI", "Eviction API: evicting")
        mark_deleted(self._store, pod, grace_seconds)

    def preempt(self, pod: Object, grace_seconds: float = 0.5) -> None:
        """Stop a pod because its node shuts down, as Spot VMs do."""
        message = "Pod was terminated in response to imminent node shutdown."
        self._disrupt(pod, "TerminationByKubelet", message)
        self._end_as(pod, {"reason": "Terminated", "message": message}, grace_seconds)

    def displace(self, pod: Object, grace_seconds: float = 0.5) -> None:
        """Stop a pod because one of higher priority needs its place."""
        self._disrupt(
            pod, "PreemptionByScheduler", "preempting to accommodate a higher priority pod"
        )
        mark_deleted(self._store, pod, grace_seconds)

    def lose(self, pod: Object) -> None:
        """Lose a pod together with its node: nobody reports how its container ended."""
        running = self._running.pop(pod["metadata"]["uid"], _Running())
        if running.container is not None:
            running.container.signal(signal.SIGKILL)
        self._disrupt(pod, "DeletionByPodGC", "PodGC: node no longer exists")
        self._edit(pod, lambda item: item["status"].update(phase="Failed"))

    def _disrupt(self, pod: Object, reason: str, message: str) -> None:
        self._edit(
            pod, lambda item: set_condition(item, "DisruptionTarget", "True", reason, message)
        )

    def _end_as(self, pod: Object, status: dict[str, str], grace_seconds: float) -> None:
        running = self._running[pod["metadata"]["uid"]]
        running.end_status = status
        self._stop(pod, running, grace_seconds)

    def _stop(self, pod: Object, running: _Running, grace_seconds: float) -> None:
        if running.container is None:
            self._running.pop(pod["metadata"]["uid"], None)
            self._remove(pod)
            return
        if not running.stopping:
            running.stopping = True
            self._spawn(stop(running.container, grace_seconds))

    # The life of a pod

    async def _run(self, pod: Object) -> None:
        spec = await self._prepare(pod)
        if spec is None:
            return
        running = self._running[pod["metadata"]["uid"]]
        try:
            running.container = await self._runtime.start(spec)
        except OSError as error:
            self._waiting(pod, "RunContainerError", str(error))
            self._ended(pod, running, 128)
            return
        started = {"running": {"startedAt": now()}}
        self._report(pod, phase="Running", state=started, ready=True)
        self._event(pod, "Normal", "Started", "Started container")
        code = await running.container.wait()
        self._ended(pod, running, code)

    async def _prepare(self, pod: Object) -> ContainerSpec | None:
        """Pull the image and read the variables, again and again while either fails."""
        while pod["metadata"]["uid"] in self._running and self._lives(pod):
            if failure := mount_failure(self._store, self.buckets, pod):
                self._event(pod, "Warning", failure.reason, failure.message)
                self._waiting(pod, "ContainerCreating", "")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            images = (*images_of(pod).values(), pod["spec"]["containers"][0]["image"])
            if all([await self._pull(pod, image) for image in dict.fromkeys(images)]):
                try:
                    return self._container_spec(pod)
                except ApiError as error:
                    self._waiting(pod, "CreateContainerConfigError", _kubelet_words(error))
                except OSError as error:
                    self._waiting(pod, "CreateContainerError", str(error))
            await asyncio.sleep(RETRY_SECONDS)
        return None

    async def _pull(self, pod: Object, image: str) -> bool:
        self._event(pod, "Normal", "Pulling", f'Pulling image "{image}"')
        try:
            await self.pull_image(image)
        except ImagePullFailure as failure:
            self._event(pod, "Warning", "Failed", f'Failed to pull image "{image}": {failure}')
            self._waiting(pod, "ErrImagePull", str(failure))
            self._waiting(pod, "ImagePullBackOff", f'Back-off pulling image "{image}"')
            return False
        self._event(pod, "Normal", "Pulled", f'Successfully pulled image "{image}"')
        return True

    def _container_spec(self, pod: Object) -> ContainerSpec:
        container = pod["spec"]["containers"][0]
        directory = self._directory / pod["metadata"]["uid"]
        directory.mkdir(exist_ok=True)
        images = images_of(pod)
        if images and (problem := cannot_mount(self._runtime_of(pod))):
            raise OSError(problem)
        return ContainerSpec(
            pod=pod["metadata"]["name"],
            image=container["image"],
            command=(*container.get("command", ()), *container.get("args", ())),
            environment=self._environment(pod, container),
            log_file=self.log(pod).file,
            directory=directory,
            security=container.get("securityContext") or {},
            volumes=directories_of(self._store, self.buckets, pod, directory),
            images=images,
            read_only=frozenset(
                mount["mountPath"]
                for mount in container.get("volumeMounts") or ()
                if mount.get("readOnly")
            ),
        )

    def _runtime_of(self, pod: Object) -> str:
        node = self._store.get("nodes", "", pod["spec"]["nodeName"])
        return str(node["status"]["nodeInfo"]["containerRuntimeVersion"])

    def _environment(self, pod: Object, container: Object) -> dict[str, str]:
        namespace, found = pod["metadata"]["namespace"], _stand_ins(container)
        for source in container.get("envFrom") or ():
            secret = self._store.get("secrets", namespace, source["secretRef"]["name"])
            found.update({key: _decode(value) for key, value in secret["data"].items()})
        for entry in container.get("env") or ():
            reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
            if reference:
                secret = self._store.get("secrets", namespace, reference["name"])
                found[entry["name"]] = _decode(secret["data"][reference["key"]])
            else:
                found[entry["name"]] = entry.get("value", "")
        return {"HOSTNAME": pod["spec"].get("hostname", pod["metadata"]["name"]), **found}

    def _ended(self, pod: Object, running: _Running, code: int) -> None:
        self._running.pop(pod["metadata"]["uid"], None)
        if not self._lives(pod):
            return
        reason = "OOMKilled" if running.oom else "Completed" if code == 0 else "Error"
        state = {"terminated": {"exitCode": code, "reason": reason, "finishedAt": now()}}
        succeeded = code == 0 and running.end_status is None
        self._report(
            pod,
            phase="Succeeded" if succeeded else "Failed",
            state=state,
            ready=False,
            **(running.end_status or {}),
        )

    def _waiting(self, pod: Object, reason: str, message: str) -> None:
        state = {"waiting": {"reason": reason, "message": message}}
        self._report(pod, phase="Pending", state=state, ready=False)

    def _report(
        self, pod: Object, *, phase: str, state: Object, ready: bool, **status: str
    ) -> None:
        container = pod["spec"]["containers"][0]
        entry = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "restartCount": 0,
            "state": state,
        }
        new = {"phase": phase, "containerStatuses": [entry], **status}
        self._edit(pod, lambda item: item["status"].update(new))

    def _remove(self, pod: Object) -> None:
        """Take a pod away, unless its Job is still to count how it ended."""
        has_ended = pod["status"].get("phase") in ("Succeeded", "Failed")
        if self._lives(pod) and not (has_ended and pod["metadata"].get("finalizers")):
            self._store.remove("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])

    def _lives(self, pod: Object) -> bool:
        return self._store.current("pods", pod) is not None

    def _edit(self, pod: Object, change: Callable[[Object], object]) -> None:
        if self._lives(pod):
            metadata = pod["metadata"]
            self._store.edit("pods", metadata["namespace"], metadata["name"], change)

    def _event(self, pod: Object, kind: str, reason: str, message: str) -> None:
        if self._lives(pod):
            self._store.record_event(pod, kind, reason, message)


def _stand_ins(container: Object) -> dict[str, str]:
    """Say that a container's chips, which stand in for real ones, have no device files."""
    asked = container.get("resources", {}).get("limits") or {}
    return {"KINETIC_DEVICE_CHECK": "0"} if asked.keys() & CHIPS else {}


def _is_new(pod: Object) -> bool:
    return bool(pod["status"].get("phase") == "Pending")


def _decode(value: str) -> str:
    return base64.b64decode(value).decode()


def _kubelet_words(error: ApiError) -> str:
    return error.message.replace("secrets ", "secret ")
