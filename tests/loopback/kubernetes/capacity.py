"""What Google Cloud has to give, said by tests: at once, and without waiting for anything.

A test makes node pools and says what their scale-ups meet::

    cluster.add_nodes(node_group("tpu-v6e-8", "v6e", max_nodes=4))   # empty, and autoscaled
    cluster.add_nodes(node_group("l4:spot", "spots", nodes=2))       # Spot VMs
    cluster.add_nodes(node_group("h100x8:flex", "flex"))             # flex-start: waits, then gives
    cluster.add_nodes(node_group("v5p-16", "slice"))                 # all hosts come at once
    cluster.add_nodes(node_group("l4", "reserved", reservation="mine"))
    cluster.add_nodes(node_group("l4", "class", compute_class="gpus"))
    cluster.add_nodes(node_group("l4", "zonal", zones=("us-central1-a", "us-central1-b")))
    cluster.add_nodes(node_group("h100x8:flex", "queue", queued=True))  # by ProvisioningRequests

    capacity = cluster.capacity
    capacity.stock_out("v6e")          # scale-ups fail: `GCE out of resources`; then back-off
    capacity.stock_out("zonal", "us-central1-a")   # only there
    capacity.fail("v6e", QUOTA)        # scale-ups fail with any words of autoscaler.py
    capacity.restock("v6e")            # there are some again, and what waits is helped at once
    capacity.retry("v6e")              # ends the back-off: it is tried again, and may fail again
    capacity.withhold("v6e")           # scale-ups are asked for, and wait (as flex-start does)
    capacity.give("flex")              # what waits is given, and what comes later, too
    capacity.give("flex", nodes=1)     # only one of those that wait
    capacity.take_away("spots")        # every node shuts down, as Spot VMs do when preempted
    capacity.reserve(Reservation(name="mine", count=2, in_use=1))   # again to change it
    capacity.unreserve("mine")
    capacity.be_autopilot()            # see autopilot.py for what it refuses and changes
    capacity.compute_class("gpus")     # a ComputeClass object
    capacity.serve_provisioning_requests()   # see provisioning.py; give("queue") provides

`cluster.wait_for("events", lambda e: e["reason"] == "TriggeredScaleUp")` and the like tell when
something has happened; `cluster.event_reasons()` lists all. Node pools without `nodes` and with
`max_nodes=0` have no autoscaling.
"""

from __future__ import annotations

from collections.abc import Callable

from loopback.kubernetes.autopilot import Autopilot
from loopback.kubernetes.autoscaler import STOCK_OUT, Autoscaler, Coming
from loopback.kubernetes.kubelet import Kubelet
from loopback.kubernetes.node_groups import Reservation
from loopback.kubernetes.provisioning import Provisioning
from loopback.kubernetes.store import KINDS, Object, Store

Call = Callable[[Callable[[], object]], object]
"""Does something in the cluster's thread."""


class Capacity:
    """What tests do to the supply of nodes.

    Args:
        call: Does something in the cluster's thread.
        store: The cluster's objects.
        autoscaler: The cluster's autoscaler.
        kubelet: What runs pods.
        autopilot: The rules of Autopilot.
        provisioning: What answers ProvisioningRequests.
    """

    def __init__(
        self,
        call: Call,
        store: Store,
        autoscaler: Autoscaler,
        kubelet: Kubelet,
        autopilot: Autopilot,
        provisioning: Provisioning,
    ) -> None:
        self._call = call
        self._store = store
        self._autoscaler = autoscaler
        self._kubelet = kubelet
        self._autopilot = autopilot
        self._provisioning = provisioning

    def fail(self, group: str, words: str, *zones: str) -> None:
        """Have scale-ups of a node pool fail, those too that wait to be given nodes.

        Args:
            group: The node pool.
            words: What the cloud answers.
            zones: Where; none for everywhere.
        """

        def fail() -> None:
            answers = dict.fromkeys(zones or ("",), words)
            self._autoscaler.failures.setdefault(group, {}).update(answers)
            waiting = [each for each in self._waiting(group) if not zones or each.zone in zones]
            if waiting:
                self._autoscaler.go_on(waiting[0].group, waiting)

        self._call(fail)

    def stock_out(self, group: str, *zones: str) -> None:
        """Let the cloud have none: scale-ups fail, and the node pool is left alone afterwards."""
        self.fail(group, STOCK_OUT, *zones)

    def restock(self, group: str) -> None:
        """Let the cloud have some again, and help the pods that wait."""

        def restock() -> None:
            self._autoscaler.failures.pop(group, None)
            self._autoscaler.backing_off.discard(group)
            self._autoscaler.reconcile()

        self._call(restock)

    def retry(self, group: str) -> None:
        """End the back-off of a node pool, with which it tries again."""

        def retry() -> None:
            self._autoscaler.backing_off.discard(group)
            self._autoscaler.reconcile()

        self._call(retry)

    def withhold(self, group: str) -> None:
        """Have scale-ups wait until they are given nodes."""
        self._call(lambda: self._autoscaler.withheld.add(group))

    def give(self, group: str, nodes: int | None = None) -> None:
        """Give nodes to scale-ups and ProvisioningRequests that wait.

        Args:
            group: The node pool.
            nodes: How many; None for all, and for those that come later.
        """

        def give() -> None:
            waiting = self._waiting(group)[:nodes]
            self._autoscaler.withheld.discard(group)
            if waiting:
                self._autoscaler.go_on(waiting[0].group, waiting)
            if nodes is not None:
                self._autoscaler.withheld.add(group)
            self._provisioning.reconcile()

        self._call(give)

    def waiting(self, group: str) -> int:
        """Return how many nodes of a node pool were asked for and wait to be given."""
        count: list[int] = []
        self._call(lambda: count.append(len(self._waiting(group))))
        return count[0]

    def take_away(self, group: str) -> None:
        """Shut down every node of a node pool, as Google does with Spot VMs."""

        def take_away() -> None:
            for node in self._autoscaler.nodes_of(self._autoscaler.groups[group]):
                self._shut_down(node)
            self._provisioning.revoke(group)

        self._call(take_away)

    def _shut_down(self, node: Object) -> None:
        name = node["metadata"]["name"]
        pods = [pod for pod in self._store.list("pods") if pod["spec"].get("nodeName") == name]
        self._store.remove("nodes", "", name)
        for pod in pods:
            if self._kubelet.runs(pod):
                self._kubelet.preempt(pod)

    def reserve(self, reservation: Reservation) -> None:
        """Make a reservation, or change it."""
        reserved = self._autoscaler.reservations
        self._call(lambda: reserved.update({reservation.name: reservation}))

    def unreserve(self, name: str) -> None:
        """Delete a reservation."""
        self._call(lambda: self._autoscaler.reservations.pop(name, None))

    def be_autopilot(self) -> None:
        """Have the cluster be one of Autopilot: its rules, and node pools made for pods."""

        def change() -> None:
            self._autopilot.is_on = True
            self._autoscaler.provision = self._autopilot.node_pool_for

        self._call(change)

    def compute_class(self, name: str) -> None:
        """Make a ComputeClass."""

        def make() -> None:
            self._define("computeclasses")
            self._store.create("computeclasses", "", {"metadata": {"name": name}, "spec": {}})

        self._call(make)

    def serve_provisioning_requests(self) -> None:
        """Have the cluster know ProvisioningRequests, as GKE's do."""
        self._call(lambda: self._define("provisioningrequests"))

    def expire_bookings(self, group: str) -> None:
        """End the time for which what was provisioned is kept for its pods."""
        self._call(lambda: self._provisioning.expire(group))

    def _define(self, plural: str) -> None:
        name = f"{plural}.{KINDS[plural].group}"
        there = {each["metadata"]["name"] for each in self._store.list("customresourcedefinitions")}
        if name not in there:
            self._store.create("customresourcedefinitions", "", {"metadata": {"name": name}})

    def _waiting(self, group: str) -> list[Coming]:
        self._autoscaler.forget_pods_that_are_gone()
        return [
            each for each in self._autoscaler.coming if each.group.name == group and not each.is_due
        ]
