"""A team's Prefect server in the cluster, with PostgreSQL, made of the manifests that ship."""

from __future__ import annotations

import base64
import copy
import hashlib
import secrets
from typing import Any

from kinetic_flows.clients.kubernetes.apply import read_object
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.platforms.gke.setup.costs import disk_cost
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import SetupCluster, cluster_of
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_objects import (
    ClusterObjects,
    KubernetesObject,
)
from kinetic_flows.platforms.gke.setup.kubernetes.in_cluster import members_of
from kinetic_flows.platforms.gke.setup.kubernetes.rollout import is_workload
from kinetic_flows.platforms.gke.setup.kubernetes.shipped_manifests import shipped_objects
from kinetic_flows.platforms.gke.setup.model import Wanted
from kinetic_flows.platforms.gke.setup.names import PODS_URL, PREFECT_NAMESPACE
from kinetic_flows.platforms.gke.setup.request import SetupRequest

SERVER = "prefect-server"
SERVER_POD = f"{SERVER}-0"
SERVER_PORT = 4200
DATABASE = "prefect-database"
AUTH_KEY = "auth-string"
VALUES_ANNOTATION = "kinetic-flows/values"
"""Annotation of pods with a digest of what they read when they start, and is kept elsewhere."""


def databases(wanted: Wanted) -> tuple[ClusterObjects, ...]:
    """Return the database of a server in the cluster, and its disk; nothing for another server."""
    if wanted.request.prefect != "cluster":
        return ()
    return database_objects(cluster_of(wanted.request, wanted.apis))


def servers(wanted: Wanted) -> tuple[ClusterObjects, ...]:
    """Return the server in the cluster; nothing where Prefect is elsewhere."""
    if wanted.request.prefect != "cluster":
        return ()
    return server_objects(wanted.request, cluster_of(wanted.request, wanted.apis))


def database_objects(cluster: SetupCluster) -> tuple[ClusterObjects, ...]:
    """Return the disk with its password, and the database that runs on it."""
    objects = shipped_objects("prefect", "database.yaml")
    claim = next(each for each in objects if each["kind"] == "PersistentVolumeClaim")
    others = tuple(each for each in objects if each is not claim)
    size = int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi"))
    password = secret(DATABASE, password=secrets.token_hex(24))
    return (
        ClusterObjects(
            cluster=cluster,
            kind="disk of Prefect's database",
            name=f"{PREFECT_NAMESPACE}/{DATABASE}",
            wanted=lambda: (claim,),
            made_once=lambda: (password,),
            details=(f"{size} GiB, and a password that stays in the cluster",),
            data="Prefect's runs, deployments and blocks",
            goes_along=False,
            cost=disk_cost(size),
            leftover=lambda: _disk(cluster, claim),
        ),
        ClusterObjects(
            cluster=cluster,
            kind="Prefect's database",
            name=f"{PREFECT_NAMESPACE}/{DATABASE}",
            wanted=lambda: others,
            details=("PostgreSQL, which only the server may connect to",),
            goes_along=False,
        ),
    )


def server_objects(request: SetupRequest, cluster: SetupCluster) -> tuple[ClusterObjects, ...]:
    """Return the server, and the right of members to reach it.

    Args:
        request: What is wanted.
        cluster: The cluster.

    Raises:
        ConfigurationError: Kubernetes knows no such member.
    """
    server = tuple(
        _reached_from(each, request.namespace) for each in shipped_objects("prefect", "server.yaml")
    )

    def wanted() -> tuple[KubernetesObject, ...]:
        known = server_auth(cluster.client) or ""
        return tuple(restarted_for(each, known) for each in server)

    role, binding = shipped_objects("prefect", "access.yaml")
    members = members_of(request)
    access = (role, {**binding, "subjects": members}) if members else (role,)
    password = secret(SERVER, **{AUTH_KEY: f"kinetic:{secrets.token_hex(24)}"})
    return (
        ClusterObjects(
            cluster=cluster,
            kind="Prefect server",
            name=f"{PREFECT_NAMESPACE}/{SERVER}",
            wanted=wanted,
            made_once=lambda: (password,),
            details=(f"{PODS_URL}, reached from elsewhere by `kinetic server connect`",),
            goes_along=False,
        ),
        ClusterObjects(
            cluster=cluster,
            kind="rights to reach Prefect",
            name=f"{PREFECT_NAMESPACE}/{role['metadata']['name']}",
            wanted=lambda: access,
            details=tuple(f"{member} may connect to it" for member in request.members),
        ),
    )


def server_auth(client: KubernetesClient) -> str | None:
    """Return what the server asks of everybody, as `user:password`; None while there is none.

    Raises:
        KubernetesRefused: It may not be read.
        KubernetesUnreachable: The cluster does not answer.
    """
    found = read_object(client, secret(SERVER))
    known = ((found or {}).get("data") or {}).get(AUTH_KEY)
    return base64.b64decode(known).decode() if known else None


def secret(name: str, namespace: str = PREFECT_NAMESPACE, **values: str) -> dict[str, Any]:
    """Return a Secret.

    Args:
        name: Its name.
        namespace: Its namespace.
        **values: What it holds, by key.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def restarted_for(item: KubernetesObject, *values: str) -> KubernetesObject:
    """Return a workload whose pods are started again when one of some values changes.

    Args:
        item: Any object; other ones than workloads are returned as they are.
        *values: What its pods read only when they start.
    """
    if not is_workload(item):
        return item
    adapted = copy.deepcopy(dict(item))
    metadata = adapted["spec"]["template"]["metadata"]
    digest = hashlib.sha256("\n".join(values).encode()).hexdigest()[:16]
    metadata["annotations"] = {**metadata.get("annotations", {}), VALUES_ANNOTATION: digest}
    return adapted


def _reached_from(item: KubernetesObject, namespace: str) -> KubernetesObject:
    """Return an object of the server as it is where runs are in another namespace."""
    if item["kind"] != "NetworkPolicy":
        return item
    adapted = copy.deepcopy(dict(item))
    (rule,) = adapted["spec"]["ingress"]
    (peer,) = rule["from"]
    peer["namespaceSelector"]["matchLabels"] = {"kubernetes.io/metadata.name": namespace}
    return adapted


def _disk(cluster: SetupCluster, claim: KubernetesObject) -> tuple[str, ...]:
    """Say which disk stays, also where its cluster goes.

    https://cloud.google.com/kubernetes-engine/docs/how-to/deleting-a-cluster
    """
    live = read_object(cluster.client, claim) or {}
    volume = (live.get("spec") or {}).get("volumeName")
    if not volume:
        return ()
    known = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}}
    found = read_object(cluster.client, known) or {}
    disk = ((found.get("spec") or {}).get("csi") or {}).get("volumeHandle") or volume
    return (f"the disk {disk} stays, and costs, also when the cluster is gone",)
