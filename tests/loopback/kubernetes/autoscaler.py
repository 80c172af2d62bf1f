"""The cluster's autoscaler: adds nodes of node pools for pods that have none.

Whether the cloud has machines is what tests say (`capacity.py`). What it tells in events of pods
is in GKE's words: `TriggeredScaleUp`, `FailedScaleUp`, `NotTriggerScaleUp`.

https://cloud.google.com/kubernetes-engine/docs/concepts/cluster-autoscaler
https://cloud.google.com/kubernetes-engine/docs/how-to/cluster-autoscaler-visibility#messages
https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/core/scaleup/orchestrator/skippedreasons.go
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from loopback.kubernetes.fitting import (
    Placed,
    Surroundings,
    misfit,
    requested,
    shortage,
)
from loopback.kubernetes.gke import consumed_request
from loopback.kubernetes.node_groups import (
    ANY_RESERVATION,
    NODE_POOL_LABEL,
    NodeGroup,
    Reservation,
    zones_in_turn,
)
from loopback.kubernetes.sayings import Sayings
from loopback.kubernetes.store import Object, Store, random_suffix, set_condition

STOCK_OUT = "GCE out of resources"
QUOTA = "GCE quota exceeded"
RESERVATION_USED_UP = "Reservation capacity exceeded"
NO_RESERVATION = "Reservation not found"
"""What the cloud answers in place of a node.

https://cloud.google.com/kubernetes-engine/docs/how-to/cluster-autoscaler-visibility#messages
"""

_BACK_OFF = "in backoff after failed scale-up"
_AT_MAXIMUM = "max node group size reached"

Provision = Callable[[Object], NodeGroup | None]
"""Given a pod that no node pool fits, makes one that would; None where none would."""


@dataclass(eq=False)
class Coming:
    """A node that was asked for.

    Attributes:
        group: Its node pool.
        zone: Its zone.
        free: What it will have free, as far as it is bounded.
        pods: The pods that it was asked for.
        is_due: Whether it is on its way, and not waited for.
    """

    group: NodeGroup
    zone: str
    free: dict[str, int]
    pods: list[Object] = field(default_factory=list)
    is_due: bool = False

    def take(self, pod: Object) -> None:
        """Keep room for a pod."""
        self.pods.append(pod)
        for name, amount in requested(pod).items():
            if name in self.free:
                self.free[name] -= amount


class Autoscaler:
    """Adds nodes of node pools.

    Args:
        store: The cluster's objects.
        spawn: Starts a task that ends with the cluster.
        sayings: What has been said of pods.
        version: The cluster's Kubernetes version.
    """

    def __init__(
        self, store: Store, spawn: Callable[[Any], object], sayings: Sayings, version: str
    ) -> None:
        self._store = store
        self._version = version
        self._spawn = spawn
        self._sayings = sayings
        self.groups: dict[str, NodeGroup] = {}
        self.coming: list[Coming] = []
        self.backing_off: set[str] = set()
        self.withheld: set[str] = set()
        self.failures: dict[str, dict[str, str]] = {}
        self.reservations: dict[str, Reservation] = {}
        self.provision: Provision = lambda pod: None
        self.reconcile: Callable[[], None] = lambda: None

    def add_group(self, group: NodeGroup) -> None:
        """Add a node pool, or change what the autoscaler may do with it."""
        known = group.name in self.groups
        self.groups[group.name] = group
        self.backing_off.discard(group.name)
        if group.is_withheld and not known:
            self.withheld.add(group.name)
        zones = zones_in_turn(group)
        for _ in range(0 if known else group.nodes):
            self.add_node(group, next(zones))

    def remove_group(self, name: str) -> None:
        """Forget a node pool, and the nodes of it that were asked for."""
        self.groups.pop(name, None)
        self.coming = [each for each in self.coming if each.group.name != name]

    # What pods need

    def help(self, pod: Object, around: Surroundings) -> None:
        """Ask for nodes for a pod that fits none, or say why none is asked for."""
        self.forget_pods_that_are_gone()
        if consumed_request(pod):
            return
        if self._has_one_coming(pod, around):
            return
        problems = self._problems(pod, around)
        if None not in problems.values() and (made := self.provision(pod)):
            self.add_group(made)
            problems = self._problems(pod, around)
        for name, problem in problems.items():
            if problem is None:
                self._ask_for(pod, self.groups[name], around)
                return
        counted = Counter(problem for problem in problems.values() if problem)
        reasons = ", ".join(f"{count} {problem}" for problem, count in sorted(counted.items()))
        said = f"pod didn't trigger scale-up: {reasons}".rstrip(": ")
        self._sayings.say(pod, "NotTriggerScaleUp", said)

    def _problems(self, pod: Object, around: Surroundings) -> dict[str, str | None]:
        """Say of each node pool why it is not asked for a node."""
        found: dict[str, str | None] = {}
        for group in self.groups.values():
            # As in the autoscaler, pools are left alone before it is asked whether the pod fits.
            if group.name in self.backing_off:
                found[group.name] = _BACK_OFF
            elif self.size(group) + self._step(group) > group.max_nodes:
                found[group.name] = _AT_MAXIMUM
            else:
                found[group.name] = self._zone_for(pod, group, around)[1]
        return found

    def _zone_for(
        self, pod: Object, group: NodeGroup, around: Surroundings
    ) -> tuple[str, str | None]:
        """Return the zone to ask in, and why none would do; one that is out of stock is last."""
        short, answers = shortage(pod, group.capacity), self.failures.get(group.name, {})
        problems = {
            zone: misfit(pod, group.node_labels(zone), group.node_taints, around) or short
            for zone in sorted(group.zones, key=lambda zone: zone in answers)
        }
        fitting = [zone for zone, problem in problems.items() if problem is None]
        return (fitting[0], None) if fitting else (group.zones[0], problems[group.zones[0]])

    def _has_one_coming(self, pod: Object, around: Surroundings) -> bool:
        """Whether a node that was asked for will take a pod."""
        if any(pod["metadata"]["uid"] == each["metadata"]["uid"] for each in self._helped()):
            return True
        # Those that will have a node are where it will be.
        placed = [
            Placed(pod=other, labels=self._labels(each))
            for each in self.coming
            for other in each.pods
        ]
        around = replace(around, placed=[*around.placed, *placed])
        for each in self.coming:
            problem = misfit(pod, self._labels(each), each.group.node_taints, around)
            if problem is None and shortage(pod, each.free) is None:
                each.take(pod)
                return True
        return False

    def _labels(self, coming: Coming) -> dict[str, str]:
        name = f"coming-{id(coming)}"
        return {"kubernetes.io/hostname": name, **coming.group.node_labels(coming.zone)}

    def _helped(self) -> list[Object]:
        return [pod for each in self.coming for pod in each.pods]

    def forget_pods_that_are_gone(self) -> None:
        """Ask no longer for nodes that nobody waits for, where they are not on their way."""
        for each in self.coming:
            each.pods = [pod for pod in each.pods if self._store.current("pods", pod)]
        slices = {each.group.name for each in self.coming if each.pods and each.group.atomic}
        self.coming = [
            each for each in self.coming if each.is_due or each.pods or each.group.name in slices
        ]

    # Nodes

    def _step(self, group: NodeGroup) -> int:
        return group.max_nodes if group.atomic else 1

    def _ask_for(self, pod: Object, group: NodeGroup, around: Surroundings) -> None:
        zone, _ = self._zone_for(pod, group, around)
        before, step = self.size(group), self._step(group)
        asked = [Coming(group=group, zone=zone, free=dict(group.capacity)) for _ in range(step)]
        asked[0].take(pod)
        self.coming += asked
        change = f"{group.name} {before}->{before + step} (max: {group.max_nodes})"
        self._sayings.say(pod, "TriggeredScaleUp", f"pod triggered scale-up: [{{{change}}}]")
        self.go_on(group, asked)

    def go_on(self, group: NodeGroup, asked: Sequence[Coming]) -> None:
        """Let nodes that were asked for come, fail, or wait until they are given."""
        failure = self.failure_of(group, asked[0].zone, len(asked))
        if failure is None and group.name in self.withheld:
            return
        for each in asked:
            each.is_due = True
        self._spawn(self._fail(group, asked, failure) if failure else self._arrive(group, asked))

    def failure_of(self, group: NodeGroup, zone: str, count: int) -> str | None:
        """Return what the cloud answers in place of so many nodes; None where it gives them."""
        answers = self.failures.get(group.name, {})
        if failure := group.failure or answers.get(zone) or answers.get(""):
            return failure
        if group.reservation in ("", ANY_RESERVATION):
            return None
        reservation = self.reservations.get(group.reservation)
        if reservation is None:
            return NO_RESERVATION
        there = reservation.in_use + self._using(group.reservation)
        return RESERVATION_USED_UP if there + count > reservation.count else None

    def _using(self, reservation: str) -> int:
        return sum(
            len(self.nodes_of(group))
            for group in self.groups.values()
            if group.reservation == reservation
        )

    async def _fail(self, group: NodeGroup, asked: Sequence[Coming], failure: str) -> None:
        await asyncio.sleep(group.delay_seconds)
        lost = self._still(asked)
        if not lost:
            return
        self.coming = [each for each in self.coming if each not in lost]
        self.backing_off.add(group.name)
        for pod in [pod for each in lost for pod in each.pods]:
            self._sayings.say(
                pod,
                "FailedScaleUp",
                f"Node scale up in zones {lost[0].zone} associated with this pod failed: "
                f"{failure}. Pod is at risk of not being scheduled.",
            )
        self.reconcile()

    async def _arrive(self, group: NodeGroup, asked: Sequence[Coming]) -> None:
        await asyncio.sleep(group.delay_seconds)
        for each in self._still(asked):
            self.coming.remove(each)
            self.add_node(group, each.zone)

    def _still(self, asked: Sequence[Coming]) -> list[Coming]:
        return [each for each in self.coming if each in asked]

    def size(self, group: NodeGroup) -> int:
        """Return how many nodes a node pool has, with those that were asked for."""
        asked = sum(each.group.name == group.name for each in self.coming)
        return len(self.nodes_of(group)) + asked

    def nodes_of(self, group: NodeGroup) -> list[Object]:
        """Return the nodes of a node pool."""
        return [
            node
            for node in self._store.list("nodes")
            if node["metadata"]["labels"].get(NODE_POOL_LABEL) == group.name
        ]

    def add_node(
        self, group: NodeGroup, zone: str, labels: Mapping[str, str] | None = None
    ) -> None:
        """Add a node that is ready."""
        body = group.body(f"gke-{group.name}-{random_suffix()}", zone, self._version)
        body["metadata"]["labels"].update(labels or {})
        set_condition(body, "Ready", "True", "KubeletReady")
        self._store.create("nodes", "", body)
