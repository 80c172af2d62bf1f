"""Who nodes, builds, pods and those who launch are to Google Cloud."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.platforms.gke.setup import names
from kinetic_flows.platforms.gke.setup.accounts import Purpose
from kinetic_flows.platforms.gke.setup.grants import People
from kinetic_flows.platforms.gke.setup.request import SetupRequest

DEFAULT_ACCOUNT = "default"
"""What GKE calls Compute Engine's default service account."""


def purposes(request: SetupRequest) -> tuple[Purpose, ...]:
    """Return which service accounts are made.

    A cluster of others has its own nodes and pods; the worker's is made where there is one.
    """
    of_cluster: tuple[Purpose, ...] = () if request.joins else ("nodes", "pods")
    of_worker: tuple[Purpose, ...] = ("launch",) if request.worker else ()
    return (*of_cluster, "builds", *of_worker)


def own_members(request: SetupRequest) -> frozenset[str]:
    """Return every member that is made for the cluster alone, now or by other options."""
    every: tuple[Purpose, ...] = ("nodes", "builds", "pods", "launch")
    identity = f"serviceAccount:{request.project}.svc.id.goog"
    bound = (f"{identity}[{request.namespace}/{names.PODS}]",)
    return frozenset((*(_member(request, purpose) for purpose in every), *bound))


class Directory:
    """Says who is who; where the cluster is somebody else's, it is looked at once.

    Args:
        request: What somebody wants.
        apis: Google's APIs.
    """

    def __init__(self, request: SetupRequest, apis: GoogleApis) -> None:
        self._request = request
        self._apis = apis
        self._lock = threading.Lock()
        self._found: People | None = None

    def people(self) -> People:
        """Return who is who.

        Raises:
            CloudRefusal: The cluster, which is somebody else's, is not there or may not be
                looked at.
        """
        with self._lock:
            if self._found is None:
                self._found = self._look()
            return self._found

    def _look(self) -> People:
        request = self._request
        launchers = (
            *request.members,
            *((_member(request, "launch"),) if request.worker else ()),
        )
        made = partial(People, builds=_member(request, "builds"), launchers=launchers)
        if not request.joins:
            return made(nodes=(_member(request, "nodes"),), pods=(_member(request, "pods"),))
        nodes, pods = _of_others(request, self._apis)
        return made(nodes=nodes, pods=pods, makes_nodes=False)


def _member(request: SetupRequest, purpose: Purpose) -> str:
    return f"serviceAccount:{names.account_email(request.project, request.cluster, purpose)}"


def _of_others(request: SetupRequest, apis: GoogleApis) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return who the nodes and the pods of somebody else's cluster are.

    Pods are their namespace's default account, by Workload Identity; without it, their node's.
    https://cloud.google.com/kubernetes-engine/docs/how-to/workload-identity
    """
    where = f"projects/{request.project}/locations/{request.location}"
    cluster = apis.read(
        f"look at cluster {request.cluster}",
        lambda: apis.container.get_cluster(name=f"{where}/clusters/{request.cluster}"),
    )
    number = _number(request.project, apis)
    nodes = tuple(sorted({_node_member(account, number) for account in _node_accounts(cluster)}))
    pool = cluster.workload_identity_config.workload_pool
    if not pool:
        return nodes, nodes
    identities = f"//iam.googleapis.com/projects/{number}/locations/global/workloadIdentityPools"
    account = f"ns/{request.namespace}/sa/default"
    return nodes, (f"principal:{identities}/{pool}/subject/{account}",)


def _node_accounts(cluster: Any) -> set[str]:
    found = {pool.config.service_account for pool in cluster.node_pools}
    if cluster.autoscaling.enable_node_autoprovisioning or cluster.autopilot.enabled:
        found.add(cluster.autoscaling.autoprovisioning_node_pool_defaults.service_account)
    return {account or DEFAULT_ACCOUNT for account in found}


def _node_member(account: str, number: str) -> str:
    email = f"{number}-compute@developer.gserviceaccount.com"
    return f"serviceAccount:{email if account == DEFAULT_ACCOUNT else account}"


def _number(project: str, apis: GoogleApis) -> str:
    found = apis.read(
        f"look at project {project}",
        lambda: apis.projects.get_project(name=f"projects/{project}"),
    )
    return found.name.rpartition("/")[2]
