"""Changing a GKE cluster: one operation after the other, and those that others started first.

GKE refuses an operation on a cluster while another is under way, and what was interrupted (Ctrl-C,
a closed laptop) goes on there. So whatever is under way is waited for, and what is left to be done
is found out anew after each operation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from kinetic_flows.clients.google.operations import (
    find_cluster_operation,
    wait_for_cluster,
)
from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.errors import CloudError
from kinetic_flows.core.interruption import LOOK_SECONDS, pause
from kinetic_flows.platforms.gke.setup.model import Tell

if TYPE_CHECKING:
    from google.cloud.container_v1 import Cluster, NodePool

    from kinetic_flows.clients.google.apis import GoogleApis

MAX_REFUSALS = 20
"""How often an operation may be refused since another came first."""

YOUNG_ACCOUNT_PAUSES = (8, 20, 40, 80, 160)
"""Before a step is tried again whose service account GKE does not know yet, in first looks at an
operation (a quarter of a second): a new one takes up to a minute to be known everywhere.
https://cloud.google.com/iam/docs/access-change-propagation
"""

_CHANGED_MEANWHILE = frozenset({"busy", "conflict", "name-taken"})


@dataclass(frozen=True, kw_only=True)
class Step:
    """One operation on a cluster.

    Attributes:
        what: What it does, as it stands behind `cannot`: `make node pool l4`.
        start: Starts it, and returns the operation.
        doing: What is told while it goes on, where its resource is named already.
    """

    what: str
    start: Callable[[], Any]
    doing: str = "being made"

    def tell(self, tell: Tell, text: str) -> None:
        """Tell how far it is, without naming the resource once more."""
        far = text.removeprefix(self.what).removeprefix(": ")
        tell(f"{self.doing}: {far}" if far else self.doing)


@dataclass(frozen=True, kw_only=True)
class GkeTarget:
    """A GKE cluster that is looked at and changed.

    Attributes:
        apis: Google's APIs, which have the project.
        location: The cluster's zone or region.
        name: Its name.
    """

    apis: GoogleApis
    location: str
    name: str

    @property
    def parent(self) -> str:
        """The full name of what it is in."""
        return f"projects/{self.apis.project}/locations/{self.location}"

    @property
    def path(self) -> str:
        """Its full name."""
        return f"{self.parent}/clusters/{self.name}"

    def look(self) -> Cluster | None:
        """Return it; None when there is none.

        Raises:
            CloudError: It cannot be looked at.
        """
        return self.apis.find(
            f"look at cluster {self.name}",
            lambda: self.apis.container.get_cluster(name=self.path),
        )

    def take(self, next_step: Callable[[Cluster | None], Step | None], tell: Tell) -> None:
        """Take one step after another until none is left.

        Args:
            next_step: Returns what is to be done next with the cluster as it is; None for nothing.
            tell: Told how far it is.

        Raises:
            CloudError: A step was refused, or failed.
        """
        taken: set[str] = set()
        again = _Again(self.apis.poll_seconds)
        with _Turn(_lock(self.path)):
            while True:
                self._wait_for_others(tell)
                step = next_step(self.look())
                if step is None:
                    return
                if step.what in taken:
                    raise self._in_vain(step)
                try:
                    operation = self.apis.call(step.what, step.start)
                except CloudRefusal as refusal:
                    again.pause_after(refusal, tell)
                    continue
                wait_for_cluster(self.apis, operation, step.what, partial(step.tell, tell))
                taken.add(step.what)

    def _in_vain(self, step: Step) -> CloudError:
        return CloudError(
            f"cannot {step.what}: GKE says that it has done so, and cluster {self.name} is as "
            "before",
            value=self.name,
            hint="somebody, or another tool, may be changing it back; see what was done with: "
            f"gcloud container operations list --location={self.location} "
            f"--project={self.apis.project}",
        )

    def _wait_for_others(self, tell: Tell) -> None:
        """Wait for what is under way, which may have been started by an earlier run of this."""
        seen: set[str] = set()
        while operation := find_cluster_operation(self.apis, self.location, self.name):
            kind = operation.operation_type.name.lower().replace("_", " ")
            try:
                wait_for_cluster(self.apis, operation, f"wait for GKE to {kind}", tell)
            except CloudRefusal as refusal:
                # What it leaves behind decides what is to be done now.
                if refusal.reason == "unreachable" or operation.name in seen:
                    raise
                tell(refusal.message)
            seen.add(operation.name)


def pool_of(cluster: Cluster | None, name: str) -> NodePool | None:
    """Return a cluster's node pool of a name; None when there is none."""
    pools = cluster.node_pools if cluster else ()
    return next((pool for pool in pools if pool.name == name), None)


class _Again:
    """Whether a step that was refused is taken again, and when.

    Args:
        unit_seconds: What pauses are counted in.
    """

    def __init__(self, unit_seconds: float) -> None:
        self._unit_seconds = unit_seconds
        self._refusals = 0
        self._pauses = iter(YOUNG_ACCOUNT_PAUSES)

    def pause_after(self, refusal: CloudRefusal, tell: Tell) -> None:
        """Wait for a refusal to be over.

        Raises:
            CloudRefusal: That does not help.
        """
        if refusal.reason in _CHANGED_MEANWHILE and self._refusals < MAX_REFUSALS:
            self._refusals += 1
            pause(LOOK_SECONDS)
            return
        units = next(self._pauses, None) if _is_of_account(refusal) else None
        if units is None:
            raise refusal
        tell("waiting for the service account of nodes to be known")
        pause(units * self._unit_seconds)


def _is_of_account(refusal: CloudRefusal) -> bool:
    """Whether a service account that was made just now is not known yet."""
    words = refusal.words.lower()
    return "service account" in words and ("does not exist" in words or "not found" in words)


class _Turn:
    """A cluster's lock, for which a thread waits in a way that Ctrl-C ends."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        while not self._lock.acquire(timeout=LOOK_SECONDS):
            pause(0)

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@lru_cache(maxsize=64)
def _lock(path: str) -> threading.Lock:  # noqa: ARG001 - one for each cluster
    return threading.Lock()
