"""Google Kubernetes Engine: clusters, their node pools, and the operations on them.

https://cloud.google.com/kubernetes-engine/docs/reference/rpc/google.container.v1
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from google.cloud import container_v1 as api

from loopback.google.answers import (
    Code,
    GoogleRefusal,
    busy_cluster,
    invalid,
    missing,
    taken,
)
from loopback.google.cluster_rules import check_cluster, check_quota, check_update
from loopback.google.node_pool_rules import check_pool
from loopback.google.operations import Operations, Work
from loopback.google.serving import Serving
from loopback.google.state import Caller, GoogleState, Project

SERVICE = "google.container.v1.ClusterManager"
VERSION = "1.33.5-gke.1201000"

Status: Any = api.Cluster.Status
PoolStatus: Any = api.NodePool.Status
OperationStatus: Any = api.Operation.Status
Type: Any = api.Operation.Type


class Container:
    """Clusters, by `projects/P/locations/L/clusters/C`.

    Args:
        state: What Google keeps.
        operations: What is on its way.
        serving: Serves the clusters' own API.
    """

    def __init__(self, state: GoogleState, operations: Operations, serving: Serving) -> None:
        self.clusters: dict[str, api.Cluster] = {}
        self.operations: dict[str, tuple[api.Operation, Work]] = {}
        self.upgrades = api.ClusterUpgradeInfo(
            end_of_standard_support_timestamp="2100-01-01T00:00:00Z",
            end_of_extended_support_timestamp="2101-01-01T00:00:00Z",
        )
        self._state = state
        self._works = operations
        self._serving = serving

    def methods(self) -> dict[str, tuple[Any, Any]]:
        return {
            "ListClusters": (api.ListClustersRequest, self._list),
            "GetCluster": (api.GetClusterRequest, self._get),
            "CreateCluster": (api.CreateClusterRequest, self._create),
            "UpdateCluster": (api.UpdateClusterRequest, self._update),
            "DeleteCluster": (api.DeleteClusterRequest, self._delete),
            "SetLabels": (api.SetLabelsRequest, self._set_labels),
            "GetNodePool": (api.GetNodePoolRequest, self._get_pool),
            "CreateNodePool": (api.CreateNodePoolRequest, self._create_pool),
            "DeleteNodePool": (api.DeleteNodePoolRequest, self._delete_pool),
            "SetNodePoolAutoscaling": (api.SetNodePoolAutoscalingRequest, self._set_autoscaling),
            "SetNodePoolSize": (api.SetNodePoolSizeRequest, self._set_size),
            "FetchClusterUpgradeInfo": (api.FetchClusterUpgradeInfoRequest, self._upgrade_info),
            "ListOperations": (api.ListOperationsRequest, self._list_operations),
            "GetOperation": (api.GetOperationRequest, self._get_operation),
        }

    # Clusters

    def find(self, name: str) -> api.Cluster:
        """Return a cluster.

        Raises:
            GoogleRefusal: There is none.
        """
        name = name.replace("/zones/", "/locations/")
        if name not in self.clusters:
            raise missing(f"Not found: {name}.")
        return self.clusters[name]

    def described(self, name: str, caller: Caller) -> api.Cluster:
        """Return a cluster to somebody; a look at it is a look at what is on its way."""
        self._require(caller, "container.clusters.get", name)
        self.find(name)
        self._look_at_work_on(name)
        return self.find(name)

    def _list(self, request: Any, caller: Caller) -> Any:
        project = self._require(caller, "container.clusters.list", request.parent)
        location = request.parent.rpartition("/")[2]
        found = [
            cluster
            for name, cluster in self.clusters.items()
            if name.startswith(f"{project.resource}/") and location in ("-", cluster.location)
        ]
        return api.ListClustersResponse(clusters=found)

    def _get(self, request: Any, caller: Caller) -> Any:
        return self.described(request.name, caller)

    def _create(self, request: Any, caller: Caller) -> Any:
        project = self._require(caller, "container.clusters.create", request.parent)
        location = request.parent.rpartition("/")[2]
        cluster = api.Cluster(request.cluster)
        name = f"{project.resource}/locations/{location}/clusters/{cluster.name}"
        if name in self.clusters:
            raise taken(f"Already exists: {name}.")
        check_cluster(cluster, location, project)
        for pool in cluster.node_pools:
            check_pool(pool, location, autopilot=False)
            self._require_there(pool, location)
            self._require_account(caller, project, pool)
        check_quota(cluster, project)
        self._complete(cluster, location, project)
        self.clusters[name] = cluster

        def finish() -> None:
            self._state.policies.identity_pools |= {
                cluster.workload_identity_config.workload_pool
            } - {""}
            cluster.endpoint = self._serving.start(name, cluster)
            cluster.status = Status.RUNNING
            for pool in cluster.node_pools:
                pool.status = PoolStatus.RUNNING
                self._serving.show(name, pool)

        def fail(refusal: GoogleRefusal) -> None:
            cluster.status, cluster.status_message = Status.ERROR, str(refusal)

        return self._begin(Type.CREATE_CLUSTER, name, finish, fail)

    def _complete(self, cluster: api.Cluster, location: str, project: Project) -> None:
        """Fill in what Google chooses."""
        where = "zones" if location.count("-") == 2 else "locations"
        cluster.location = cluster.zone = location
        cluster.locations = [location] if where == "zones" else [f"{location}-{z}" for z in "abc"]
        cluster.status = Status.PROVISIONING
        cluster.create_time = datetime.now(UTC).isoformat(timespec="seconds")
        cluster.current_master_version = cluster.initial_cluster_version or VERSION
        cluster.network = cluster.network or "default"
        cluster.subnetwork = cluster.subnetwork or "default"
        cluster.label_fingerprint = "a9dc16a7"
        cluster.master_auth.cluster_ca_certificate = ""
        cluster.self_link = (
            f"https://container.googleapis.com/v1/{project.resource}/{where}/{location}/clusters/"
            f"{cluster.name}"
        )
        if cluster.autopilot.enabled:
            cluster.workload_identity_config.workload_pool = f"{project.id}.svc.id.goog"
            cluster.addons_config.gcs_fuse_csi_driver_config.enabled = True
        elif not cluster.node_pools:
            config = api.NodeConfig(cluster.node_config)
            size = cluster.initial_node_count
            pool = api.NodePool(name="default-pool", config=config, initial_node_count=size)
            cluster.node_pools.append(pool)
        for pool in cluster.node_pools:
            _complete_pool(pool, cluster)

    def _update(self, request: Any, caller: Caller) -> Any:
        self._require(caller, "container.clusters.update", request.name)
        cluster = self.find(request.name)
        change = check_update(request.update, cluster)
        self._require_idle(request.name)

        def finish() -> None:
            change(cluster)
            self._state.policies.identity_pools |= {
                cluster.workload_identity_config.workload_pool
            } - {""}
            self._serving.changed(request.name, cluster)

        return self._begin(Type.UPDATE_CLUSTER, request.name, finish)

    def _delete(self, request: Any, caller: Caller) -> Any:
        self._require(caller, "container.clusters.delete", request.name)
        cluster = self.find(request.name)
        self._require_idle(request.name)
        before, cluster.status = cluster.status, Status.STOPPING

        def finish() -> None:
            self._serving.stop(request.name)
            del self.clusters[request.name]

        def fail(_: GoogleRefusal) -> None:
            cluster.status = before

        return self._begin(Type.DELETE_CLUSTER, request.name, finish, fail)

    def _set_labels(self, request: Any, caller: Caller) -> Any:
        self._require(caller, "container.clusters.update", request.name)
        cluster = self.find(request.name)
        if request.label_fingerprint != cluster.label_fingerprint:
            raise GoogleRefusal(
                Code.FAILED_PRECONDITION, "Labels could not be set due to fingerprint mismatch."
            )
        self._require_idle(request.name)

        def finish() -> None:
            cluster.resource_labels = dict(request.resource_labels)
            cluster.label_fingerprint = base64.b16encode(repr(request.resource_labels).encode())[
                -8:
            ].decode()

        return self._begin(Type.SET_LABELS, request.name, finish)

    # Node pools

    def _pool(self, name: str) -> tuple[str, api.Cluster, api.NodePool]:
        where, _, pool_name = name.partition("/nodePools/")
        cluster = self.find(where)
        for pool in cluster.node_pools:
            if pool.name == pool_name:
                return where, cluster, pool
        raise missing(f"Not found: {name}.")

    def _get_pool(self, request: Any, caller: Caller) -> Any:
        self._require(caller, "container.clusters.get", request.name)
        self._pool(request.name)
        self._look_at_work_on(request.name)
        return self._pool(request.name)[2]

    def _create_pool(self, request: Any, caller: Caller) -> Any:
        project = self._require(caller, "container.clusters.update", request.parent)
        cluster, pool = self.find(request.parent), api.NodePool(request.node_pool)
        name = f"{request.parent}/nodePools/{pool.name}"
        if any(each.name == pool.name for each in cluster.node_pools):
            raise taken(f"Already exists: {name}.")
        check_pool(pool, cluster.location, autopilot=cluster.autopilot.enabled)
        self._require_there(pool, cluster.location)
        self._require_account(caller, project, pool)
        check_quota(api.Cluster(node_pools=[pool], location=cluster.location), project)
        self._require_idle(request.parent)
        _complete_pool(pool, cluster)
        cluster.node_pools.append(pool)

        def kept() -> api.NodePool:
            return self._pool(name)[2]

        def finish() -> None:
            kept().status = PoolStatus.RUNNING
            self._serving.show(request.parent, kept())

        def fail(refusal: GoogleRefusal) -> None:
            kept().status, kept().status_message = PoolStatus.ERROR, str(refusal)

        return self._begin(Type.CREATE_NODE_POOL, name, finish, fail)

    def _delete_pool(self, request: Any, caller: Caller) -> Any:
        self._require(caller, "container.clusters.update", request.name)
        where, cluster, pool = self._pool(request.name)
        self._require_idle(where)
        pool.status = PoolStatus.STOPPING

        def finish() -> None:
            self._serving.hide(where, pool)
            cluster.node_pools = [each for each in cluster.node_pools if each.name != pool.name]

        def fail(refusal: GoogleRefusal) -> None:
            pool.status, pool.status_message = PoolStatus.ERROR, str(refusal)

        return self._begin(Type.DELETE_NODE_POOL, request.name, finish, fail)

    def _set_autoscaling(self, request: Any, caller: Caller) -> Any:
        def change(pool: api.NodePool) -> None:
            pool.autoscaling = request.autoscaling

        return self._change_pool(request.name, caller, change)

    def _set_size(self, request: Any, caller: Caller) -> Any:
        def change(pool: api.NodePool) -> None:
            pool.initial_node_count = request.node_count

        return self._change_pool(request.name, caller, change, Type.SET_NODE_POOL_SIZE)

    def _change_pool(
        self,
        name: str,
        caller: Caller,
        change: Callable[[api.NodePool], None],
        kind: Any = Type.UPDATE_CLUSTER,
    ) -> Any:
        self._require(caller, "container.clusters.update", name)
        where, cluster, pool = self._pool(name)
        changed = api.NodePool(pool)
        change(changed)
        check_pool(changed, cluster.location, autopilot=cluster.autopilot.enabled)
        self._require_idle(where)

        def finish() -> None:
            change(self._pool(name)[2])
            self._serving.show(where, self._pool(name)[2])

        return self._begin(kind, name, finish)

    # Operations

    def _look_at_work_on(self, name: str) -> None:
        target = f"/clusters/{name.partition('/clusters/')[2]}"
        for operation, work in list(self.operations.values()):
            if operation.target_link.endswith(target):
                work.look()

    def _begin(
        self,
        kind: Any,
        target: str,
        finish: Callable[[], None],
        fail: Callable[[GoogleRefusal], None] = lambda _: None,
    ) -> Any:
        where = target.partition("/clusters/")[0]
        project, location = self._state.project(where), where.rpartition("/")[2]
        word = "zones" if location.count("-") == 2 else "locations"
        work = self._works.begin(f"{where}/operations/operation-{{n}}", finish, fail=fail)
        root = f"https://container.googleapis.com/v1/projects/{project.number}/{word}/{location}"
        short = work.name.rpartition("/")[2]
        operation = api.Operation(
            name=short,
            zone=location,
            location=location,
            operation_type=kind,
            status=OperationStatus.RUNNING,
            self_link=f"{root}/operations/{short}",
            target_link=f"{root}/clusters/{target.partition('/clusters/')[2]}",
            start_time=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self.operations[work.name] = (operation, work)
        return _shown(operation, work)

    def _require_idle(self, cluster: str) -> None:
        for operation, work in self.operations.values():
            target = operation.target_link.partition("/clusters/")[2].partition("/")[0]
            is_here = work.name.partition("/operations/")[0] == cluster.partition("/clusters/")[0]
            if is_here and not work.done and target == cluster.partition("/clusters/")[2]:
                raise busy_cluster(operation.name)

    def _list_operations(self, request: Any, caller: Caller) -> Any:
        self._require(caller, "container.operations.list", request.parent)
        project, location = self._state.project(request.parent), request.parent.rpartition("/")[2]
        found = [
            _shown(operation, work)
            for name, (operation, work) in self.operations.items()
            if name.startswith(f"{project.resource}/") and location in ("-", operation.location)
        ]
        return api.ListOperationsResponse(operations=found)

    def _operation(self, name: str) -> tuple[api.Operation, Work]:
        project, short = self._state.project(name), name.rpartition("/")[2]
        location = name.split("/")[3]
        full = f"{project.resource}/locations/{location}/operations/{short}"
        if full not in self.operations:
            raise missing(f"Not found: {name}.")
        return self.operations[full]

    def _get_operation(self, request: Any, caller: Caller) -> Any:
        self._require(caller, "container.operations.get", request.name)
        operation, work = self._operation(request.name)
        work.look()
        return _shown(operation, work)

    def _upgrade_info(self, request: Any, caller: Caller) -> Any:
        self._require(caller, "container.clusters.get", request.name)
        self.find(request.name)
        return self.upgrades

    # Rights

    def _require(self, caller: Caller, permission: str, name: str) -> Project:
        project = self._state.project(name)
        self._state.require(caller, permission, project.resource)
        return project

    def _require_there(self, pool: api.NodePool, location: str) -> None:
        """Refuse nodes of a kind that the zone lacks."""
        kinds = [each.accelerator_type for each in pool.config.accelerators]
        for what in (pool.config.machine_type, *kinds):
            if not self._state.has(location, what):
                raise invalid(f"'{what}' does not exist in zone '{location}'.")

    def _require_account(self, caller: Caller, project: Project, pool: api.NodePool) -> None:
        """Refuse nodes that are a service account which the caller may not act as."""
        email = pool.config.service_account
        if email in ("", "default"):
            return
        if email not in self._state.accounts:
            raise invalid(f'Service account "{email}" does not exist.')
        where = (self._state.accounts[email].name, project.resource)
        self._state.require(caller, "iam.serviceAccounts.actAs", *where)


def _complete_pool(pool: api.NodePool, cluster: api.Cluster) -> None:
    pool.status = PoolStatus.PROVISIONING
    pool.version = cluster.current_master_version
    pool.locations = pool.locations or cluster.locations
    pool.config.machine_type = pool.config.machine_type or "e2-medium"
    pool.config.disk_size_gb = pool.config.disk_size_gb or 100
    pool.self_link = f"{cluster.self_link}/nodePools/{pool.name}"
    pool.etag = "etag-1"


def _shown(operation: api.Operation, work: Work) -> Any:
    """Return an operation as it is now, with its progress as GKE tells it."""
    shown = api.Operation(operation)
    if work.done:
        shown.status = OperationStatus.DONE
        shown.end_time = datetime.now(UTC).isoformat(timespec="seconds")
        if work.error:
            shown.error = work.error.status()
            shown.status_message = str(work.error)
        return shown
    done = api.OperationProgress.Metric(name="CLUSTER_DEPLOYING", int_value=work.looks)
    of = api.OperationProgress.Metric(name="CLUSTER_DEPLOYING_TOTAL", int_value=work.steps)
    shown.progress = api.OperationProgress(metrics=[done, of])
    return shown
