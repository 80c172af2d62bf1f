"""Things made of Kubernetes objects: compared by what the cluster says that applying would change.

What somebody else has set in an object stays, and is told.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.kubernetes.apply import (
    Edit,
    apply_object,
    create_object,
    delete_object,
    read_object,
)
from kinetic_flows.clients.kubernetes.client import KubernetesRefused
from kinetic_flows.core.errors import CloudError
from kinetic_flows.core.interruption import pause
from kinetic_flows.platforms.gke.setup.kubernetes.cluster_access import SetupCluster, refused
from kinetic_flows.platforms.gke.setup.kubernetes.rollout import (
    Rollout,
    growing_pauses,
    is_workload,
)
from kinetic_flows.platforms.gke.setup.model import Action, Change, Cost, Tell
from kinetic_flows.platforms.gke.setup.names import MANAGED_LABEL, labels
from kinetic_flows.platforms.gke.templates import template_changes

KubernetesObject = Mapping[str, Any]

SHOWN_DIFFERENCES = 8
GONE_SECONDS = 300.0

_GIVEN = (
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "generation",
    "managedFields",
    "deletionTimestamp",
)
"""What the API server writes into an object's metadata."""


@dataclass(frozen=True, kw_only=True)
class ClusterObjects:
    """One thing that is wanted in the cluster, made of one object or several.

    Attributes:
        cluster: The cluster.
        kind: What it is.
        name: Its name.
        wanted: Returns its objects, in the order in which they are made; asked when the cluster
            is there, and before that for what they are called.
        made_once: Returns objects that are made where they are missing and never changed, such as
            passwords; None for none.
        details: What it will be, a line each.
        data: What of people it holds, in a few words, for which it is left unless it is purged;
            empty for nothing.
        goes_along: Whether it is left to go with its cluster where that goes.
        cost: What it costs; None for nothing of its own.
        leftover: Returns what else there is to say where it is left, a line each.
    """

    cluster: SetupCluster
    kind: str
    name: str
    wanted: Callable[[], tuple[KubernetesObject, ...]]
    made_once: Callable[[], tuple[KubernetesObject, ...]] | None = None
    details: tuple[str, ...] = ()
    data: str = ""
    goes_along: bool = True
    cost: Cost | None = None
    leftover: Callable[[], tuple[str, ...]] = tuple

    def creation(self) -> Change:
        """Return what is to be done where there is nothing yet."""
        return Change(
            kind=self.kind, name=self.name, action="create", details=self.details, cost=self.cost
        )

    def compare(self) -> Change:
        """Compare its objects with what applying them would make of them."""
        standing = self.cluster.look().standing
        if standing == "missing":
            return self.creation()
        if standing == "coming":
            why = "the cluster is being made"
            return Change(kind=self.kind, name=self.name, action="unknown", why=why, cost=self.cost)
        wanted = self._wanted()
        once = self.made_once() if self.made_once else ()
        found = [(item, self._read(item)) for item in (*once, *wanted)]
        if not any(live for _, live in found):
            return self.creation()
        lines = [f"{_called(item)}: is missing" for item, live in found if live is None]
        edits: list[str] = []
        for item, live in found[len(once) :]:
            if live is not None:
                changes, kept = self._differences(item, live)
                lines += changes
                edits += [f"{_called(item)}: {edit}" for edit in kept]
        return Change(
            kind=self.kind,
            name=self.name,
            action="change" if lines else "keep",
            details=(*_first(lines), *edits),
            cost=self.cost,
        )

    def apply(self, tell: Tell) -> None:
        """Make its objects, and wait until its pods are ready."""
        for item in self.made_once() if self.made_once else ():
            with _told(f"make the {_called(item)}"):
                create_object(self.cluster.client, self._marked(item, None))
        workloads = []
        for item in self._wanted():
            with _told(f"make the {_called(item)}"):
                live = read_object(self.cluster.client, item)
                applied = apply_object(self.cluster.client, self._marked(item, live))
            for edit in applied.edits:
                tell(f"{_called(item)}: {edit}")
            if is_workload(item):
                workloads.append(item)
        for item in workloads:
            Rollout(cluster=self.cluster, item=item).wait(tell)

    def plan_removal(self, *, purge: bool) -> Change:
        """Say whether it is removed: what was made here, unless it holds people's data."""
        look = self.cluster.look()
        found = [] if look.standing != "there" else [*self._made_here()]
        action: Action = "remove"
        why, details = "", tuple(_called(item) for item in found)
        if not found:
            action, details = "keep", ()
        elif look.is_ours and self.goes_along:
            details = ("with the cluster",)
        elif self.data and not purge:
            action, why = "leave", f"it holds {self.data}; --purge removes it"
            why += ", as long as the cluster is there" if look.is_ours else ""
            with _told(f"look at the {self.kind} {self.name}"):
                details = self.leftover()
        return Change(
            kind=self.kind,
            name=self.name,
            action=action,
            details=details,
            why=why,
        )

    def remove(self, tell: Tell) -> None:
        """Remove what was made here, and wait until it is gone."""
        look = self.cluster.look()
        if look.standing != "there" or (look.is_ours and self.goes_along):
            return
        found = [*self._made_here()]
        for item in reversed(found):
            with _told(f"delete the {_called(item)}"):
                delete_object(self.cluster.client, item)
        self._wait_until_gone(found, tell)

    def _wait_until_gone(self, items: list[KubernetesObject], tell: Tell) -> None:
        ends, pauses = time.monotonic() + GONE_SECONDS, growing_pauses()
        while left := [item for item in items if self._read(item) is not None]:
            if time.monotonic() > ends:
                raise CloudError(
                    f"the {_called(left[0])} was deleted and is still there after "
                    f"{GONE_SECONDS:.0f} seconds",
                    value=_called(left[0]),
                    hint="something still uses it, or its controller does not answer; try again",
                )
            tell(f"waiting for the end of the {_called(left[0])}")
            pause(next(pauses))

    def _wanted(self) -> tuple[KubernetesObject, ...]:
        with _told(f"look at the {self.kind} {self.name}"):
            return self.wanted()

    def _made_here(self) -> Iterator[KubernetesObject]:
        """Yield its objects that carry the mark."""
        for item in (*(self.made_once() if self.made_once else ()), *self._wanted()):
            live = self._read(item)
            if live is not None and _mark(live) == self.cluster.name:
                yield item

    def _differences(
        self, item: KubernetesObject, live: KubernetesObject
    ) -> tuple[list[str], tuple[Edit, ...]]:
        with _told(f"compare the {_called(item)}"):
            tried = apply_object(self.cluster.client, self._marked(item, live), only_try=True)
        if item["kind"] == "Secret":
            differs = live.get("data") != tried.object.get("data")
            return [f"{_called(item)}: other values"] if differs else [], tried.edits
        lines = [
            f"{_called(item)}: {line}"
            for line in template_changes(_comparable(live), _comparable(tried.object))
        ]
        if not lines and is_workload(item):
            waits = Rollout(cluster=self.cluster, item=item).waits_for()
            lines = [f"{_called(item)} is not ready: {waits}"] if waits else []
        return lines, tried.edits

    def _marked(self, item: KubernetesObject, live: KubernetesObject | None) -> dict[str, Any]:
        """Return an object with the mark, unless it was made by somebody else."""
        marked = copy.deepcopy(dict(item))
        if live is None or _mark(live) == self.cluster.name:
            marked["metadata"].setdefault("labels", {}).update(labels(self.cluster.name))
        return marked

    def _read(self, item: KubernetesObject) -> dict[str, Any] | None:
        with _told(f"look at the {_called(item)}"):
            return read_object(self.cluster.client, item)


@contextmanager
def _told(action: str) -> Iterator[None]:
    try:
        yield
    except KubernetesRefused as refusal:
        raise refused(refusal, action) from refusal


def _mark(item: KubernetesObject) -> str | None:
    found: str | None = (item["metadata"].get("labels") or {}).get(MANAGED_LABEL)
    return found


def _called(item: KubernetesObject) -> str:
    metadata = item["metadata"]
    where = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{item['kind']} {where}{metadata['name']}"


def _comparable(item: KubernetesObject) -> dict[str, Any]:
    metadata = {name: value for name, value in item["metadata"].items() if name not in _GIVEN}
    return {**{k: v for k, v in item.items() if k != "status"}, "metadata": metadata}


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - SHOWN_DIFFERENCES
    return [*lines[:SHOWN_DIFFERENCES], *([f"and {more} more"] if more > 0 else [])]
