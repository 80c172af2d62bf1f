"""ProvisioningRequests: all nodes of a run asked for at once, and given at once.

A request names PodTemplates with how many pods of each there will be. It is accepted where a node
pool of queued provisioning would hold them, waits until a test gives nodes (`Capacity.give`), and
then all of them are there. Its pods say by annotations which request they consume.

https://cloud.google.com/kubernetes-engine/docs/how-to/provisioningrequest
https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/apis/provisioningrequest/autoscaling.x-k8s.io/v1/types.go
"""

from __future__ import annotations

from typing import Any

from loopback.kubernetes.autoscaler import Autoscaler
from loopback.kubernetes.errors import ApiError
from loopback.kubernetes.fitting import misfit, shortage
from loopback.kubernetes.gke import CONSUMES, add_tolerations
from loopback.kubernetes.node_groups import NodeGroup
from loopback.kubernetes.store import Object, Store, has_condition, set_condition

PLURAL = "provisioningrequests"
CLASS = "queued-provisioning.gke.io"
REQUEST_LABEL = "autoscaling.gke.io/provisioning-request"

_INITIAL = (
    ("Accepted", "NotAccepted", "Provisioning Request wasn't accepted."),
    ("Provisioned", "NotProvisioned", "Provisioning Request wasn't provisioned."),
    ("Failed", "NotFailed", "Provisioning Request hasn't failed."),
)
_ACCEPTED = ("SuccessfullyQueued", "Provisioning Request was successfully queued.")
_WAITING = (
    "ResourcePoolExhausted",
    (
        "Waiting for resources. Currently there are not enough resources available to fulfill "
        "the request."
    ),
)
_PROVISIONED = ("Provisioned", "Provisioning Request was successfully provisioned.")
_EXPIRED = (
    "BookingExpired",
    (
        "Capacity booking for the Provisioning Request has expired and the nodes are now "
        "candidates for scale down when underutilized."
    ),
)
_REVOKED = (
    "CapacityRevoked",
    (
        "Capacity provisioned for the Provisioning Request was reclaimed and is no longer "
        "available in the cluster."
    ),
)


class Provisioning:
    """Answers ProvisioningRequests.

    Args:
        store: The cluster's objects.
        autoscaler: Who adds nodes.
    """

    def __init__(self, store: Store, autoscaler: Autoscaler) -> None:
        self._store = store
        self._autoscaler = autoscaler
        self._groups: dict[str, str] = {}

    def reconcile(self) -> None:
        """Look at every request that is not settled."""
        for request in list(self._store.list(PLURAL)):
            settled = any(has_condition(request, each) for each in ("Provisioned", "Failed"))
            if not settled and request["spec"].get("provisioningClassName") == CLASS:
                self._advance(request)

    def revoke(self, group: str) -> None:
        """Say of the requests that a node pool's nodes came by that these are gone."""
        self._tell_provisioned(group, "CapacityRevoked", *_REVOKED)

    def expire(self, group: str) -> None:
        """Say that what was provisioned is no longer kept, and take away what nobody uses."""
        self._tell_provisioned(group, "BookingExpired", *_EXPIRED)
        used = {pod["spec"].get("nodeName") for pod in self._store.list("pods")}
        for node in self._autoscaler.nodes_of(self._autoscaler.groups[group]):
            if node["metadata"]["name"] not in used:
                self._store.remove("nodes", "", node["metadata"]["name"])

    def _tell_provisioned(self, group: str, kind: str, reason: str, message: str) -> None:
        for request in list(self._store.list(PLURAL)):
            mine = self._groups.get(request["metadata"]["uid"]) == group
            if mine and has_condition(request, "Provisioned"):
                self._tell(request, kind, reason, message)

    def _advance(self, request: Object) -> None:
        if not (request.get("status") or {}).get("conditions"):
            for kind, reason, message in _INITIAL:
                self._tell(request, kind, reason, message, holds="False")
        try:
            pods = self._pods(request)
        except ApiError as error:
            self._tell(request, "Failed", "PodTemplateNotFound", error.message)
            return
        queued = [group for group in self._autoscaler.groups.values() if group.queued]
        fitting = [group for group in queued if all(self._fits(pod, group) for pod in pods)]
        if not fitting:
            self._fail_unfit(request, queued)
            return
        self._tell(request, "Accepted", *_ACCEPTED)
        self._provide(request, fitting[0], len(pods))

    def _fail_unfit(self, request: Object, queued: list[NodeGroup]) -> None:
        names = ", ".join(group.name for group in queued)
        message = "Provisioning Request's pods cannot be scheduled in the nodepool, affected "
        self._tell(request, "Failed", "FailedToSchedule", f"{message}nodepools: {names or 'none'}")

    def _provide(self, request: Object, group: NodeGroup, count: int) -> None:
        zone = group.zones[0]
        if len(self._autoscaler.nodes_of(group)) + count > group.max_nodes:
            message = f"max cluster limit reached, nodepools out of resources: {group.name}"
            self._tell(request, "Failed", "OutOfResources", message)
        elif failure := self._autoscaler.failure_of(group, zone, count):
            self._tell(request, "Failed", "FailedToProvision", failure)
        elif group.name in self._autoscaler.withheld:
            self._tell(request, "Provisioned", *_WAITING, holds="False")
        else:
            name = request["metadata"]["name"]
            for _ in range(count):
                self._autoscaler.add_node(group, zone, {REQUEST_LABEL: name})
            self._groups[request["metadata"]["uid"]] = group.name
            self._tell(request, "Provisioned", *_PROVISIONED)

    def _pods(self, request: Object) -> list[Object]:
        """Return the pods that a request is about, as their templates describe them."""
        namespace, name = request["metadata"]["namespace"], request["metadata"]["name"]
        found = []
        for each in request["spec"].get("podSets") or ():
            template = self._store.get("podtemplates", namespace, each["podTemplateRef"]["name"])
            pod: dict[str, Any] = {
                "metadata": {"namespace": namespace, "annotations": {CONSUMES: name}},
                "spec": {**template["template"]["spec"]},
            }
            add_tolerations(pod)
            found += [pod] * int(each["count"])
        return found

    def _fits(self, pod: Object, group: NodeGroup) -> bool:
        labels = group.node_labels(group.zones[0])
        return misfit(pod, labels, group.node_taints) is None and not shortage(pod, group.capacity)

    def _tell(
        self, request: Object, kind: str, reason: str, message: str, *, holds: str = "True"
    ) -> None:
        metadata = request["metadata"]

        def tell(item: Object) -> None:
            set_condition(item, kind, holds, reason, message)

        self._store.edit(PLURAL, metadata["namespace"], metadata["name"], tell)
