"""Who nodes, builds, pods and those who launch are to Google Cloud."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.platforms.gke.setup import names
from kinetic_flows.platforms.gke.setup.project.accounts import Purpose
from kinetic_flows.platforms.gke.setup.project.grants import People, identity_members
from kinetic_flows.platforms.gke.setup.request import SetupRequest

DEFAULT_ACCOUNT = "default"
"""What GKE calls Compute Engine's default service account."""


def purposes(request: SetupRequest) -> tuple[Purpose, ...]:
    """Return which service accounts are made.

    A cluster of others has nodes with an account; the worker's is made where there is a worker.
    """
    of_nodes: tuple[Purpose, ...] = () if request.joins else ("nodes",)
    of_worker: tuple[Purpose, ...] = ("launch",) if request.worker else ()
    return (*of_nodes, "pods", "builds", *of_worker)


def own_members(request: SetupRequest) -> frozenset[str]:
    """Return every account that is made for the cluster alone, now or by other options."""
    every: tuple[Purpose, ...] = ("nodes", "builds", "pods", "launch")
    return frozenset(_member(request, purpose) for purpose in every)


def bound_members(request: SetupRequest) -> frozenset[str]:
    """Return who acts as them in the cluster, and in any other cluster of the project."""
    return frozenset(identity_members(request.project, *bound_accounts(request)))


def bound_accounts(request: SetupRequest) -> tuple[tuple[str, str], ...]:
    """Return the Kubernetes service accounts that are Google ones: of pods, and of the worker."""
    return (request.namespace, names.PODS), (request.namespace, names.WORKER)


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
        worker = (_member(request, "launch"),) if request.worker else ()
        made = partial(
            People,
            builds=_member(request, "builds"),
            launchers=(*request.members, *worker),
        )
        pods = (_member(request, "pods"),)
        if not request.joins:
            return made(nodes=(_member(request, "nodes"),), pods=pods)
        cluster = _cluster_of_others(request, self._apis)
        nodes = _node_members(cluster, request.project, self._apis)
        has_identities = bool(cluster.workload_identity_config.workload_pool)
        if worker and not has_identities:
            raise _needs_identities(request)
        return made(
            nodes=nodes,
            # Without Workload Identity a pod is what its node is.
            pods=pods if has_identities else nodes,
            makes_nodes=False,
            has_identities=has_identities,
        )


def _member(request: SetupRequest, purpose: Purpose) -> str:
    return f"serviceAccount:{names.account_email(request.project, request.cluster, purpose)}"


def _cluster_of_others(request: SetupRequest, apis: GoogleApis) -> Any:
    where = f"projects/{request.project}/locations/{request.location}"
    return apis.read(
        f"look at cluster {request.cluster}",
        lambda: apis.container.get_cluster(name=f"{where}/clusters/{request.cluster}"),
    )


def _node_members(cluster: Any, project: str, apis: GoogleApis) -> tuple[str, ...]:
    """Return who the nodes of a cluster are."""
    found = {pool.config.service_account for pool in cluster.node_pools}
    if cluster.autoscaling.enable_node_autoprovisioning or cluster.autopilot.enabled:
        found.add(cluster.autoscaling.autoprovisioning_node_pool_defaults.service_account)
    emails = {account for account in found if account not in ("", DEFAULT_ACCOUNT)}
    if found - emails:
        emails.add(f"{_number(project, apis)}-compute@developer.gserviceaccount.com")
    return tuple(f"serviceAccount:{email}" for email in sorted(emails))


def _number(project: str, apis: GoogleApis) -> str:
    found = apis.read(
        f"look at project {project}",
        lambda: apis.projects.get_project(name=f"projects/{project}"),
    )
    return found.name.rpartition("/")[2]


def _needs_identities(request: SetupRequest) -> ConfigurationError:
    return ConfigurationError(
        f"cluster {request.cluster} has no Workload Identity, by which the worker would be let "
        "launch runs",
        value=request.cluster,
        hint="have it turned on with: gcloud container clusters update "
        f"{request.cluster} --location={request.location} --project={request.project} "
        f"--workload-pool={request.project}.svc.id.goog; or leave the worker out",
    )
