"""The whole cluster, in a thread of its own, for tests of any kind."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from base64 import b64encode
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from loopback.kubernetes.access import TOKEN, Access
from loopback.kubernetes.admission import DEFAULT_CLASS, Admission
from loopback.kubernetes.api import Api
from loopback.kubernetes.autoscaler import Autoscaler
from loopback.kubernetes.capacity import Capacity
from loopback.kubernetes.jobs import JobController, delete_job, mark_deleted
from loopback.kubernetes.kubelet import Kubelet, PullImage, any_image
from loopback.kubernetes.node_groups import NODE_POOL_LABEL, NodeGroup
from loopback.kubernetes.node_trouble import NodeTrouble
from loopback.kubernetes.pod_security import PREFIX
from loopback.kubernetes.provisioning import Provisioning
from loopback.kubernetes.runtime import ProcessRuntime, Runtime
from loopback.kubernetes.sayings import Sayings
from loopback.kubernetes.scheduler import Scheduler
from loopback.kubernetes.store import Object, Store
from loopback.kubernetes.volumes import FUSE_DRIVER, Buckets
from loopback.kubernetes.workloads import Workloads

Result = TypeVar("Result")

_CONTROLLED = (
    "pods",
    "jobs",
    "nodes",
    "persistentvolumeclaims",
    "deployments",
    "statefulsets",
    "secrets",
    "provisioningrequests",
)
"""What controllers, scheduler and kubelets look at."""


class LoopbackCluster:
    """A Kubernetes cluster that lives in a thread; usable as a context manager.

    Args:
        directory: Where its kubeconfig, logs and working directories go.
        runtime: What runs containers; None for child processes.
        pull_image: What checks images; every image is there by default.
        version: Kubernetes version: its schemas are used, and of its fields those that it has by
            default.
        image_volumes: Whether pods may have images as volumes; None for as that version has it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        runtime: Runtime | None = None,
        pull_image: PullImage = any_image,
        version: str = "1.31",
        image_volumes: bool | None = None,
    ) -> None:
        self.directory = directory
        self.store = Store()
        self.access = Access()
        self.admission = Admission(self.store, version, image_volumes)
        self._kubelet = Kubelet(
            self.store, runtime or ProcessRuntime(), directory, pull_image, self._spawn
        )
        sayings = Sayings(self.store)
        self._autoscaler = Autoscaler(self.store, self._spawn, sayings, version)
        self._scheduler = Scheduler(self.store, self._autoscaler, sayings)
        self._autoscaler.reconcile = self._scheduler.reconcile
        self._provisioning = Provisioning(self.store, self._autoscaler)
        self.capacity = Capacity(
            self._call,
            self.store,
            self._autoscaler,
            self._kubelet,
            self.admission.autopilot,
            self._provisioning,
        )
        self.trouble = NodeTrouble(self._call, self.store, self._kubelet)
        self._jobs = JobController(self.store, self.admission, self._spawn)
        self._workloads = Workloads(self.store, self.admission)
        self._api = Api(self.store, self.admission, self.access, self._kubelet)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failures: list[BaseException] = []
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self.url = ""

    def __enter__(self) -> LoopbackCluster:
        self._thread.start()
        self._wait(self._start())
        self.add_namespace("default")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._failures:
            raise self._failures[0]

    # What tests do to the cluster

    @property
    def requests(self) -> list[str]:
        """Every request so far, as method and path with query."""
        return self._api.requests

    @property
    def pod_ports(self) -> dict[int, int]:
        """Where ports of pods are on this machine, by port; they share its addresses."""
        return self._api.pod_ports

    @contextmanager
    def speaking(self, *protocols: str) -> Iterator[None]:
        """Have the API server speak other protocols to those who start commands in pods."""
        before, self._api.exec_protocols = self._api.exec_protocols, protocols
        try:
            yield
        finally:
            self._api.exec_protocols = before

    def kubeconfig(self, token: str = TOKEN, namespace: str = "default") -> Path:
        """Write a kubeconfig for this cluster and return where it is."""
        path = self.directory / f"kubeconfig-{token}-{namespace}.json"
        context = {"cluster": "loopback", "user": "tester", "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "loopback", "cluster": {"server": self.url}}],
            "users": [{"name": "tester", "user": {"token": token}}],
            "contexts": [{"name": "loopback", "context": context}],
            "current-context": "loopback",
        }
        path.write_text(json.dumps(config))
        return path

    def add_namespace(self, name: str, **labels: str) -> None:
        """Make a namespace with its default service account.

        Args:
            name: Its name.
            labels: What it says of Pod Security, such as `enforce="restricted"`.
        """
        spelt = {f"{PREFIX}/{mode}": level for mode, level in labels.items()}

        def add() -> None:
            metadata = {"name": name, "labels": spelt}
            self.store.create("namespaces", "", {"metadata": metadata})
            self.store.create("serviceaccounts", name, {"metadata": {"name": "default"}})

        self._call(add)

    def add_secret(self, name: str, values: dict[str, str]) -> None:
        """Make a Secret in the default namespace."""
        data = {key: b64encode(value.encode()).decode() for key, value in values.items()}
        body = {"metadata": {"name": name}, "data": data}
        self._call(lambda: self.store.create("secrets", "default", body))

    def add_claim(
        self,
        name: str,
        *modes: str,
        phase: str = "Bound",
        storage_class: str = "standard-rwo",
        **spec: object,
    ) -> None:
        """Make a PersistentVolumeClaim in the default namespace.

        Args:
            name: Its name.
            modes: Its access modes; ReadWriteOnce where none is said.
            phase: Whether it is `Bound`, `Pending` or `Lost`.
            storage_class: What makes its volume.
            spec: Further fields of its specification.
        """
        body = {
            "metadata": {"name": name},
            "spec": {
                "accessModes": list(modes or ("ReadWriteOnce",)),
                "resources": {"requests": {"storage": "10Gi"}},
                "storageClassName": storage_class,
                **spec,
            },
            "status": {"phase": phase},
        }
        self._call(lambda: self.store.create("persistentvolumeclaims", "default", body))

    def add_storage_class(self, name: str, binding: str, *, is_default: bool = False) -> None:
        """Make a storage class that binds claims `Immediate` or at their first pod's coming.

        Args:
            name: Its name.
            binding: When it binds claims.
            is_default: Whether claims that name none are given it.
        """
        annotations = {DEFAULT_CLASS: "true"} if is_default else {}
        body = {
            "metadata": {"name": name, "annotations": annotations},
            "provisioner": "pd.csi.storage.gke.io",
            "volumeBindingMode": binding,
        }
        self._call(lambda: self.store.create("storageclasses", "", body))

    def add_fuse_driver(self) -> None:
        """Enable the driver for Cloud Storage FUSE, as an add-on of GKE."""
        body = {"metadata": {"name": FUSE_DRIVER}, "spec": {"volumeLifecycleModes": ["Ephemeral"]}}
        self._call(lambda: self.store.create("csidrivers", "", body))

    @property
    def buckets(self) -> Buckets:
        """The buckets that pods can mount."""
        return self._kubelet.buckets

    def add_nodes(self, group: NodeGroup) -> None:
        """Make a node pool, or change what the autoscaler may do with it."""
        self._call(lambda: self._autoscaler.add_group(group))

    def remove_group(self, name: str) -> None:
        """Forget a node pool, of which no more nodes come."""
        self._call(lambda: self._autoscaler.remove_group(name))

    def add_quota(self, name: str, hard: dict[str, str], used: dict[str, str]) -> None:
        """Bound what the namespace `default` may have, with what others have taken of it.

        Jobs and pods beyond it are refused; other resources are only shown.
        """
        body = {
            "metadata": {"name": name},
            "spec": {"hard": hard},
            "status": {"hard": hard, "used": used},
        }
        self._call(lambda: self.store.create("resourcequotas", "default", body))

    def remove_node(self, name: str) -> None:
        """Let a node vanish with everything that runs on it."""

        def remove() -> None:
            self.store.remove("nodes", "", name)
            for pod in self.store.list("pods"):
                if pod["spec"].get("nodeName") == name:
                    self._kubelet.lose(pod)

        self._call(remove)

    def remove_nodes(self, group: NodeGroup) -> None:
        """Let all nodes of a node pool vanish."""
        for node in self.list("nodes"):
            if node["metadata"]["labels"].get(NODE_POOL_LABEL) == group.name:
                self.remove_node(node["metadata"]["name"])

    def run_out_of_memory(self, pod: str, namespace: str = "default") -> None:
        """Kill a running pod for its use of memory."""
        self._call(lambda: self._kubelet.run_out_of_memory(self._pod(pod, namespace)))

    def evict(self, pod: str, message: str, namespace: str = "default") -> None:
        """Evict a running pod for pressure on its node, or for what it does itself."""
        self._call(lambda: self._kubelet.evict(self._pod(pod, namespace), message))

    def drain(self, pod: str, namespace: str = "default") -> None:
        """Evict a running pod through the API, as `kubectl drain` does."""
        self._call(lambda: self._kubelet.drain(self._pod(pod, namespace)))

    def preempt(self, pod: str, namespace: str = "default") -> None:
        """Take the Spot VM of a running pod back, and its node out of the cluster."""

        def preempt() -> None:
            item = self._pod(pod, namespace)
            self.store.remove("nodes", "", item["spec"]["nodeName"])
            self._kubelet.preempt(item)

        self._call(preempt)

    def delete_pod(self, pod: str, namespace: str = "default") -> None:
        """Delete a running pod, as `kubectl delete pod` does."""
        self._call(lambda: mark_deleted(self.store, self._pod(pod, namespace)))

    def restart_kubelets(self, seconds: float = 0.3) -> None:
        """Restart every node's kubelet; pods go on, and nobody reads their output meanwhile."""
        self._call(lambda: self._kubelet.restart(seconds))

    def rotate_log(self, pod: str, namespace: str = "default") -> None:
        """Begin a new file for a pod's output; the old one is shown to nobody."""
        self._call(lambda: self._kubelet.log(self._pod(pod, namespace)).rotate())

    def displace(self, pod: str, namespace: str = "default") -> None:
        """Give a running pod's place to one of higher priority."""
        self._call(lambda: self._kubelet.displace(self._pod(pod, namespace)))

    def change(
        self, plural: str, name: str, change: Callable[[Object], object], namespace: str = "default"
    ) -> None:
        """Change an object as somebody with every right could, by `kubectl edit`."""

        def edit() -> None:
            before = self.store.get(plural, namespace, name)
            after = self.store.edit(plural, namespace, name, change)
            self.store.owners(before).note_update(before, after, "kubectl-edit")

        self._call(edit)

    def remove(self, plural: str, name: str, namespace: str = "default") -> None:
        """Take an object away, as somebody with every right could."""
        self._call(lambda: self.store.remove(plural, namespace, name))

    def stop_api(self) -> None:
        """Stop the API server gracefully: watches are held open, nobody else is answered."""
        self._wait(self._stop_listening())

    def start_api(self) -> None:
        """Start the API server again: what was held open ends."""
        self._wait(self._listen(int(self.url.rpartition(":")[2])))

    def output(self, pod: str, namespace: str = "default") -> bytes:
        """Return what a running pod has printed so far."""
        return self._call(lambda: self._kubelet.log(self._pod(pod, namespace)).file.read_bytes())

    def list(self, plural: str, namespace: str | None = None) -> Sequence[Object]:
        """Return objects of a kind, without asking the API."""
        return self._call(lambda: copy.deepcopy(self.store.list(plural, namespace)))

    def event_reasons(self) -> Sequence[str]:
        """Return the reasons of all events, oldest first."""
        history = self._call(lambda: list(self.store.history))
        return [change.object["reason"] for change in history if change.plural == "events"]

    def wait_for(
        self, plural: str, holds: Callable[[Object], object], *, timeout_seconds: float = 20
    ) -> Object:
        """Wait until an object of a kind is as a test wants it, and return it."""
        return self._wait(self._until(plural, holds, timeout_seconds))

    # Inside

    async def _start(self) -> None:
        self._runner = web.AppRunner(self._api.application(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen(0)
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._spawn(self._control())
        await asyncio.sleep(0)

    async def _listen(self, port: int) -> None:
        assert self._runner is not None
        self._api.is_stopping = False
        self._api.starts += 1
        self._site = web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True)
        await self._site.start()

    async def _stop_listening(self) -> None:
        assert self._site is not None
        self._api.is_stopping = True
        await self._site.stop()

    async def _stop(self) -> None:
        self._kubelet.kill_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._runner is not None
        await self._runner.cleanup()

    async def _control(self) -> None:
        """Let every controller look whenever something changed."""
        stale = False
        with self.store.watching() as queue:
            while True:
                change = await queue.get()
                stale = stale or change.plural in _CONTROLLED
                if change.plural == "pods":
                    self._jobs.account(change.object)
                if stale and queue.empty():
                    stale = False
                    self._jobs.reconcile()
                    self._workloads.reconcile()
                    self._provisioning.reconcile()
                    self._scheduler.reconcile()
                    self._kubelet.reconcile()
                    self._collect()

    def _collect(self) -> None:
        """Take Jobs away that were deleted in the foreground, once their pods are gone."""
        for job in self.store.list("jobs"):
            if job["metadata"].get("deletionTimestamp") and not self.store.owned("pods", job):
                delete_job(self.store, job)

    def _pod(self, name: str, namespace: str) -> Object:
        return self.store.get("pods", namespace, name)

    async def _until(
        self, plural: str, holds: Callable[[Object], object], timeout_seconds: float
    ) -> Object:
        with self.store.watching() as queue:
            for item in self.store.list(plural):
                if holds(item):
                    return copy.deepcopy(item)
            async with asyncio.timeout(timeout_seconds):
                while True:
                    change = await queue.get()
                    if change.plural == plural and holds(change.object):
                        return change.object

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()):
            self._failures.append(failure)

    def _call(self, act: Callable[[], Result]) -> Result:
        async def call() -> Result:
            return act()

        return self._wait(call())

    def _wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        future: Future[Result] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()
