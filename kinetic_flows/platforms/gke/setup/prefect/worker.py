"""The Prefect worker in the cluster, which starts the runs of deployments."""

from __future__ import annotations

from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import SetupCluster, cluster_of
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_objects import (
    ClusterObjects,
    KubernetesObject,
)
from kinetic_flows.platforms.gke.setup.kubernetes.in_cluster import IDENTITY, ROLE
from kinetic_flows.platforms.gke.setup.kubernetes.shipped_manifests import objects_of
from kinetic_flows.platforms.gke.setup.model import Wanted
from kinetic_flows.platforms.gke.setup.names import PODS_URL, WORKER, account_email
from kinetic_flows.platforms.gke.setup.prefect.prefect_place import PrefectPlace
from kinetic_flows.platforms.gke.setup.prefect.prefect_server import restarted_for, secret
from kinetic_flows.platforms.gke.setup.request import SetupRequest
from kinetic_flows.platforms.gke.worker_manifest import API_SECRET, worker_manifest


def workers(wanted: Wanted) -> tuple[ClusterObjects, ...]:
    """Return the worker; nothing where none is wanted."""
    if not wanted.request.worker:
        return ()
    cluster = cluster_of(wanted.request, wanted.apis)
    return (worker_objects(wanted.request, cluster, wanted.prefect),)


def worker_objects(
    request: SetupRequest, cluster: SetupCluster, prefect: PrefectPlace | None
) -> ClusterObjects:
    """Return the worker.

    Args:
        request: What is wanted.
        cluster: The cluster.
        prefect: Whose runs it starts; None where it is only to be removed.

    Raises:
        ConfigurationError: Pods cannot reach that Prefect API.
    """
    manifest = worker_manifest(
        pool=request.work_pool,
        namespace=request.namespace,
        api_url=(prefect.pods_url if prefect else PODS_URL) or "",
        environ={},
    )
    google = account_email(request.project, request.cluster, "launch")
    objects = tuple(
        _acting_as(each, google)
        for each in objects_of(manifest.text)
        # Who launches has it, worker or not; it is made with the other rights.
        if (each["kind"], each["metadata"]["name"]) != ("Role", ROLE)
    )

    def wanted() -> tuple[KubernetesObject, ...]:
        keys = prefect.pods_credentials() if prefect else {}
        restarted = (restarted_for(each, *keys.values()) for each in objects)
        return (secret(API_SECRET, request.namespace, **keys), *restarted)

    return ClusterObjects(
        cluster=cluster,
        kind="Prefect worker",
        name=f"{request.namespace}/{WORKER}",
        wanted=wanted,
        details=(f"takes runs of work pool {request.work_pool}",),
    )


def _acting_as(item: KubernetesObject, google: str) -> KubernetesObject:
    if item["kind"] != "ServiceAccount":
        return item
    return {**item, "metadata": {**item["metadata"], "annotations": {IDENTITY: google}}}
