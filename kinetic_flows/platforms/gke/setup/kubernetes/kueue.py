"""Kueue, by which runs wait in a queue until the nodes that they need may be had.

A queue has a flavor for each node pool, found by the labels that GKE gives its nodes, with as many
chips as the pool may have; what has no accelerator waits for nothing. Runs go to the queue that
`queue_name` among their job variables names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.kubernetes.apply import read_object
from kinetic_flows.clients.kubernetes.client import KubernetesRefused
from kinetic_flows.clients.retry import Transient, insist
from kinetic_flows.core.accelerators.model import GPU_RESOURCE, TPU_RESOURCE
from kinetic_flows.core.errors import CloudError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.platforms.gke.setup.clusters.pool_list import FoundPool, found_pools
from kinetic_flows.platforms.gke.setup.clusters.pool_messages import accelerator_pool
from kinetic_flows.platforms.gke.setup.clusters.pool_options import pool_name
from kinetic_flows.platforms.gke.setup.clusters.turns import GkeTarget
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import (
    SetupCluster,
    cluster_of,
    refused,
)
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_objects import (
    ClusterObjects,
    KubernetesObject,
)
from kinetic_flows.platforms.gke.setup.kubernetes.upstream import Release, UpstreamRelease
from kinetic_flows.platforms.gke.setup.model import Change, Resource, Tell, Wanted
from kinetic_flows.platforms.gke.setup.names import MANAGED_LABEL, QUEUE
from kinetic_flows.platforms.gke.setup.request import SetupRequest

if TYPE_CHECKING:
    from google.cloud import container_v1
else:
    container_v1 = LazyModule("google.cloud.container_v1")

KUEUE = Release(
    project="Kueue",
    version="v0.16.4",
    url="https://github.com/kubernetes-sigs/kueue/releases/download/v0.16.4/manifests.yaml",
    namespace="kueue-system",
    option="--kueue-manifest",
)
"""https://kueue.sigs.k8s.io/docs/installation/"""

OTHERS = "kinetic-any"
"""The flavor of what asks for no accelerator."""

API = "kueue.x-k8s.io/v1beta2"

MAX_FLAVORS = 16
"""Of a queue's group: https://kueue.sigs.k8s.io/docs/reference/kueue.v1beta2/"""

WEBHOOK_PAUSES_SECONDS = (2.0, 4.0, 8.0, 15.0, 30.0)
"""Before a queue is made again that Kueue did not take, whose webhook answers a little later."""

ANY_NUMBER = "1000000"

_UNLIMITED = {"cpu": ANY_NUMBER, "memory": "1000Ti", "ephemeral-storage": "1000Ti"}
_CHIPS = (GPU_RESOURCE, TPU_RESOURCE)


def resources(wanted: Wanted) -> tuple[Resource, ...]:
    """Return Kueue, where it is asked for."""
    request = wanted.request
    if not request.kueue:
        return ()
    cluster = cluster_of(request, wanted.apis)
    return (UpstreamRelease(cluster=cluster, release=KUEUE, source=request.kueue_manifest),)


def queues(wanted: Wanted) -> tuple[Resource, ...]:
    """Return the queue of runs, where Kueue is asked for."""
    return (queue_of(wanted),) if wanted.request.kueue else ()


def queue_of(wanted: Wanted) -> RunQueue:
    """Return the queue of runs of a cluster, which need not be there."""
    request = wanted.request
    target = GkeTarget(apis=wanted.apis, location=request.location, name=request.cluster)
    return RunQueue(cluster=cluster_of(request, wanted.apis), request=request, target=target)


@dataclass(frozen=True, kw_only=True)
class RunQueue:
    """The queue of runs, with what the node pools that are there may have.

    Attributes:
        cluster: The cluster.
        request: What is wanted.
        target: The cluster in the Kubernetes Engine API, which knows its node pools.
        pauses_seconds: Before it is made again where Kueue does not answer yet.
    """

    cluster: SetupCluster
    request: SetupRequest
    target: GkeTarget
    pauses_seconds: tuple[float, ...] = WEBHOOK_PAUSES_SECONDS
    kind: str = "queue"

    @property
    def name(self) -> str:
        """Its name."""
        return f"{self.request.namespace}/{QUEUE}"

    def creation(self) -> Change:
        """Return what is made where there is none."""
        return self._objects().creation()

    def compare(self) -> Change:
        """Compare it with what the node pools may have."""
        return self._objects().compare()

    def apply(self, tell: Tell) -> None:
        """Make it as the node pools are, as soon as Kueue takes it."""

        def attempt() -> None:
            try:
                self._objects().apply(tell)
            except CloudError as error:
                if not _is_of_webhook(error):
                    raise
                tell("waiting for Kueue to answer")
                raise Transient(error) from error

        insist(attempt, self.pauses_seconds)

    def follow(self, tell: Tell) -> bool:
        """Bring a queue that was made here to what the node pools are now.

        Args:
            tell: Told how far it is.

        Returns:
            Whether something was changed.

        Raises:
            KineticError: It cannot be looked at, or changed.
        """
        queue = _object("ClusterQueue", QUEUE, {})
        try:
            found = read_object(self.cluster.client, queue)
        except KubernetesRefused as refusal:
            raise refused(refusal, f"look at the queue {QUEUE}") from refusal
        labels = ((found or {}).get("metadata") or {}).get("labels") or {}
        if labels.get(MANAGED_LABEL) != self.request.cluster or not self.compare().is_needed:
            return False
        self.apply(tell)
        return True

    def plan_removal(self, *, purge: bool) -> Change:
        """Return whether it is removed."""
        return self._objects().plan_removal(purge=purge)

    def remove(self, tell: Tell) -> None:
        """Remove it."""
        self._objects().remove(tell)

    def _objects(self) -> ClusterObjects:
        return ClusterObjects(
            cluster=self.cluster,
            kind=self.kind,
            name=self.name,
            wanted=self._wanted,
            details=(f"runs go there with job variable queue_name={QUEUE}",),
        )

    def _wanted(self) -> tuple[KubernetesObject, ...]:
        found = self.target.look()
        pools = found_pools(found) if found and not found.autopilot.enabled else ()
        return queue_objects(with_wanted(pools, self.request), self.request.namespace)


def with_wanted(pools: Sequence[FoundPool], request: SetupRequest) -> tuple[FoundPool, ...]:
    """Return the node pools as they are when what is wanted of them is done.

    Args:
        pools: The cluster's node pools.
        request: What is wanted.
    """
    made = {pool_name(pool): pool for pool in request.pools}
    messages = [accelerator_pool(request, pool) for pool in request.pools]
    wanted = found_pools(container_v1.Cluster(name=request.cluster, node_pools=messages))
    limits = {pool.name: pool.most for pool in wanted if not made[pool.name].keeps_limit}
    there = tuple(replace(pool, most=limits.get(pool.name, pool.most)) for pool in pools)
    # One with the accelerator under another name is used as it is.
    had = {pool.name for pool in there} | {str(pool.accelerator) for pool in there}
    new = (pool for pool in wanted if not had & {pool.name, str(pool.accelerator)})
    return (*there, *new)


def queue_objects(pools: Sequence[FoundPool], namespace: str) -> tuple[KubernetesObject, ...]:
    """Return a queue for runs, and the flavors that it has.

    Args:
        pools: The cluster's node pools.
        namespace: The namespace of runs.
    """
    # A run is given the first flavor that its labels do not rule out and that has room: one without
    # an accelerator must not meet one of an accelerator first, nor an ordinary one Spot VMs.
    # https://kueue.sigs.k8s.io/docs/concepts/cluster_queue/#flavors-and-resources
    known = [pool for pool in pools if pool.accelerator and pool.accelerator.label]
    known = sorted(known, key=lambda pool: pool.pool.spot)[: MAX_FLAVORS - 1]
    flavors = [_flavor(pool) for pool in known]
    any_flavor = _object("ResourceFlavor", OTHERS, {})
    # Where there are no pools at all, GKE makes nodes of any kind.
    most = {} if pools else dict.fromkeys(_CHIPS, ANY_NUMBER)
    quotas = [
        {"name": OTHERS, "resources": _amounts(most)},
        *({"name": pool.name, "resources": _resources(pool)} for pool in known),
    ]
    group = {"coveredResources": [*_UNLIMITED, *_CHIPS], "flavors": quotas}
    spec: dict[str, Any] = {"namespaceSelector": {}, "resourceGroups": [group]}
    return (
        *flavors,
        any_flavor,
        _object("ClusterQueue", QUEUE, spec),
        _object("LocalQueue", QUEUE, {"clusterQueue": QUEUE}, namespace=namespace),
    )


def _flavor(pool: FoundPool) -> dict[str, Any]:
    """Return what runs on a node pool are known by: the labels that they ask their node for."""
    accelerator = pool.accelerator
    labels = accelerator.node_selector if accelerator else {}
    return _object("ResourceFlavor", pool.name, {"nodeLabels": labels})


def _resources(pool: FoundPool) -> list[dict[str, str]]:
    accelerator = pool.accelerator
    chips = {
        # Of a pool that is not scaled nobody says a limit.
        name: ANY_NUMBER if pool.most is None else str(int(count) * pool.most)
        for name, count in (accelerator.resources if accelerator else {}).items()
    }
    return _amounts(chips)


def _amounts(chips: Mapping[str, str]) -> list[dict[str, str]]:
    amounts = {**_UNLIMITED, **dict.fromkeys(_CHIPS, "0"), **chips}
    return [{"name": name, "nominalQuota": amount} for name, amount in amounts.items()]


def _object(
    kind: str, name: str, spec: Mapping[str, Any], *, namespace: str | None = None
) -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def _is_of_webhook(error: CloudError) -> bool:
    """Whether the API server could not ask Kueue, or does not know its kinds yet."""
    cause = error.__cause__
    if not isinstance(cause, KubernetesRefused):
        return False
    return "failed calling webhook" in cause.body or cause.status == 404
