"""Node pools with what is free in them now, and what keeps them from growing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kinetic_flows.core.accelerators import Accelerator, NodePool
from kinetic_flows.core.display import counted
from kinetic_flows.core.moments import ago


@dataclass(frozen=True, kw_only=True)
class WaitingRun:
    """A run that waits for a node.

    Attributes:
        run_id: The run's id.
        name: The function's name, as its Job has it.
        since: Since when; None when that is not told.
    """

    run_id: str
    name: str
    since: datetime | None = None

    def __str__(self) -> str:
        return f"{self.name} ({self.run_id[:8]})"


@dataclass(frozen=True, kw_only=True)
class FailedScaleUp:
    """The last time that a node could not be added.

    Attributes:
        message: Why, in words.
        at: When; None when that is not told.
    """

    message: str
    at: datetime | None = None

    def told(self, now: datetime) -> str:
        """Return it with how long ago it was.

        Args:
            now: The present moment.
        """
        return f"{self.message} ({ago(self.at, now)})" if self.at else self.message


@dataclass(frozen=True, kw_only=True)
class PoolRoom:
    """A node pool with what its nodes have, and who waits for them.

    Attributes:
        pool: The node pool.
        nodes: How many nodes it has now; None when they may not be listed.
        chips: Chips or GPUs of all its nodes.
        free_chips: How many of them no pod asks for; None when pods may not be listed.
        free_by_node: The same of each node.
        cpu_millis: Thousandths of a CPU that its nodes have for pods; 0 when they do not tell.
        free_cpu_millis: How many of them no pod asks for; None when pods may not be listed.
        waiting: Runs that wait for one of its nodes; None when pods may not be listed.
        failure: The last time that a node could not be added for somebody who waits, or did
            lately; None for none.
    """

    pool: NodePool
    nodes: int | None = None
    chips: int = 0
    free_chips: int | None = None
    free_by_node: tuple[int, ...] = ()
    cpu_millis: int = 0
    free_cpu_millis: int | None = None
    waiting: tuple[WaitingRun, ...] | None = field(default=None)
    failure: FailedScaleUp | None = None

    @property
    def used_chips(self) -> int | None:
        """How many of its chips pods ask for; None when pods may not be listed."""
        return None if self.free_chips is None else self.chips - self.free_chips

    @property
    def may_grow(self) -> bool:
        """Whether the autoscaler may add a node; not known of a pool whose bounds are not told."""
        return self.pool.most is not None and (self.nodes or 0) < self.pool.most

    @property
    def bounds(self) -> str:
        """How many nodes the autoscaler may make of it, in words; empty where that is not told."""
        if self.pool.most is None:
            return ""
        return f"{self.pool.least or 0} to {self.pool.most}"

    @property
    def ways(self) -> str:
        """How its nodes are had, in words; empty for nodes that are bought on demand."""
        pool = self.pool
        told = (
            "spot" if pool.spot else "",
            "flex-start" if pool.flex else "",
            f"reservation {pool.reservation}" if pool.reservation else "",
            f"compute class {pool.compute_class}" if pool.compute_class else "",
        )
        return ", ".join(filter(None, told))

    @property
    def free(self) -> str:
        """What of it is free, in words: `8 of 16 chips`; empty where that is not known."""
        if self.chips and self.free_chips is not None:
            return f"{self.free_chips} of {self.chips} chips"
        if self.chips or self.free_cpu_millis is None or not self.cpu_millis:
            return ""
        return f"{self.free_cpu_millis / 1000:.1f} of {self.cpu_millis / 1000:.1f} CPUs"

    def runs_that_fit(self, accelerator: Accelerator) -> int | None:
        """Return how many runs, or slices of one, could start now; None where nobody knows.

        Args:
            accelerator: What they run on; of those without one it is not told.
        """
        if not accelerator.count_per_host or self.free_chips is None:
            return None
        return self._hosts_that_fit(accelerator) // accelerator.hosts_per_slice

    def _hosts_that_fit(self, accelerator: Accelerator) -> int:
        each = accelerator.count_per_host
        return sum(free // each for free in self.free_by_node) if each else 0

    def outlook(self, accelerator: Accelerator, now: datetime) -> str:
        """Say what a run on an accelerator would find: room, a node that is added, or a wait.

        Args:
            accelerator: What it runs on.
            now: The present moment.
        """
        return "; ".join([f"{self.pool.name}: {self._has()}", *self._prospects(accelerator, now)])

    def _prospects(self, accelerator: Accelerator, now: datetime) -> Iterator[str]:
        fitting = self.runs_that_fit(accelerator)
        is_full = fitting == 0 or self.nodes == 0
        if is_full and self.may_grow:
            lacking = accelerator.hosts_per_slice - self._hosts_that_fit(accelerator)
            added = min(lacking, (self.pool.most or 0) - (self.nodes or 0))
            told = "a node" if added == 1 else f"{added} nodes"
            short = "" if added == lacking else f", and the run lacks {lacking}"
            yield f"the autoscaler would add {told} (at most {self.pool.most}){short}"
        elif is_full and self.pool.most is not None:
            yield f"it is at its maximum of {counted(self.pool.most, 'node')}"
        elif fitting == 0:
            yield "the run would wait for others to end"
        if self.waiting:
            verb = "waits" if len(self.waiting) == 1 else "wait"
            yield f"{counted(len(self.waiting), 'run')} {verb} before it"
        if self.failure and is_full:
            yield self.failure.told(now)

    def _has(self) -> str:
        if self.nodes is None:
            return "its nodes may not be listed"
        if not self.nodes:
            return "no node now"
        nodes = counted(self.nodes, "node")
        if self.free:
            return f"{nodes}, {self.free} free now"
        return f"{nodes}, {self.chips} chips" if self.chips else nodes

    def __str__(self) -> str:
        if self.nodes is None:
            return self.pool.name
        if not self.nodes:
            return f"{self.pool.name}: no node now"
        nodes = counted(self.nodes, "node")
        if not self.chips:
            return f"{self.pool.name}: {nodes}"
        if self.free_chips is None:
            return f"{self.pool.name}: {nodes}, {self.chips} chips"
        return f"{self.pool.name}: {nodes}, {self.free_chips} of {self.chips} chips free"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, for machines."""
        pool, failure = self.pool, self.failure
        return {
            "pool": pool.name,
            "machine_type": pool.machine_type or None,
            "nodes": self.nodes,
            "min_nodes": pool.least,
            "max_nodes": pool.most,
            "chips": self.chips,
            "used_chips": self.used_chips,
            "free_chips": self.free_chips,
            "cpus": self.cpu_millis / 1000,
            "free_cpus": None if self.free_cpu_millis is None else self.free_cpu_millis / 1000,
            "spot": pool.spot,
            "flex": pool.flex,
            "reservation": pool.reservation,
            "compute_class": pool.compute_class,
            "zones": list(pool.zones),
            "waiting": None if self.waiting is None else [each.run_id for each in self.waiting],
            "last_failure": failure
            and {
                "message": failure.message,
                "at": failure.at.isoformat() if failure.at else None,
            },
        }
