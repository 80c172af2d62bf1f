"""The plan of a call on several accelerators: what differs between them, and how one is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from kinetic_flows.core.moments import duration
from kinetic_flows.plans.past import PastRuns
from kinetic_flows.plans.planned_cost import PlannedCost
from kinetic_flows.plans.planned_rehearsal import PlannedRehearsal


def tried_in_words(options: ListOptions) -> str:
    """Return how one of several accelerators is found, in words.

    Args:
        options: How the function is to run, or how its plan says that one is found.
    """
    if options.strategy == "race":
        told = "all at once: the first whose pods start wins, the others are withdrawn"
    else:
        told = (
            f"in order: the next after {duration(options.fallback_after_seconds)} of waiting, or "
            "at once where one cannot be had"
        )
    larger = "; one with more memory after a death for want of it"
    return f"{told}{larger}" if options.on_oom else told


class ListOptions(Protocol):
    """What options and plans alike say of a list."""

    @property
    def strategy(self) -> str:
        """`in_order` or `race`."""
        ...

    @property
    def fallback_after_seconds(self) -> float:
        """How long each is waited for before the next is tried."""
        ...

    @property
    def on_oom(self) -> str | None:
        """`larger`, or None."""
        ...


@dataclass(frozen=True, kw_only=True)
class PlannedCandidate:
    """One of the accelerators that a run may go on.

    Attributes:
        accelerator: Its canonical name.
        hardware: The accelerator in GKE's words, as `RunPlan.hardware`.
        asks_for: What each host's process asks of its node, by the name of the resource, and of
            where that may be.
        rooms: Node pools that could take it, with what is free; None when that is not known.
        image: The image's reference.
        cached: Whether that exists already; None when nobody has looked.
        left_out: Why the run cannot go on it, a sentence each; empty where it can.
        past: How long the function took on it; None for never, or not known.
        cost: What the run would cost on it, an estimate; None where no price is known.
        rehearsed: What the last rehearsal of the function said of it; None where there was none.
    """

    accelerator: str
    hardware: Mapping[str, Any] = field(default_factory=dict)
    asks_for: Mapping[str, str] = field(default_factory=dict)
    rooms: tuple[str, ...] | None = field(default=None, compare=False)
    image: str = ""
    cached: bool | None = None
    left_out: tuple[str, ...] = ()
    past: PastRuns | None = field(default=None, compare=False)
    cost: PlannedCost | None = field(default=None, compare=False)
    rehearsed: PlannedRehearsal | None = field(default=None, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, for machines."""
        return {
            "accelerator": self.accelerator,
            "hardware": dict(self.hardware),
            "asks_for": dict(self.asks_for),
            "rooms": None if self.rooms is None else list(self.rooms),
            "image": self.image,
            "cached": self.cached,
            "left_out": list(self.left_out),
            "past": self.past.to_json() if self.past else None,
            "cost": self.cost.to_json() if self.cost else None,
            "rehearsed": self.rehearsed.to_json() if self.rehearsed else None,
        }


@dataclass(frozen=True, kw_only=True)
class PlannedList:
    """How a run finds its accelerator among several.

    Attributes:
        candidates: Each of them, in the order of preference.
        strategy: `in_order` or `race`.
        fallback_after_seconds: How long each is waited for before the next is tried.
        on_oom: `larger` where it goes on with one that has more memory after a death for want of
            it; None where that ends it.
    """

    candidates: tuple[PlannedCandidate, ...]
    strategy: str
    fallback_after_seconds: float
    on_oom: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, for machines."""
        return {
            "strategy": self.strategy,
            "fallback_after_seconds": self.fallback_after_seconds,
            "on_oom": self.on_oom,
            "candidates": [each.to_json() for each in self.candidates],
        }
