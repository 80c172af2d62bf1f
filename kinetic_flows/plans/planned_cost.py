"""What a planned run would cost: by the hour, by earlier runs, and at most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from kinetic_flows.core.moments import duration
from kinetic_flows.core.money import ESTIMATE, dollars, no_price

if TYPE_CHECKING:
    from kinetic_flows.core.accelerators.prices import Price

SECONDS_AN_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class PlannedCost:
    """What a run would cost, an estimate by prices that are known.

    Attributes:
        hourly: US dollars for an hour of all its hosts.
        source: Whose prices they are, in words.
        runs: How many earlier runs are looked at that ended well.
        median: What half of those cost less than, in US dollars; None for none.
        last: What the last of them cost; None for none.
        limit: What the run may cost before it is ended, in US dollars; None for any amount.
    """

    hourly: float
    source: str
    runs: int = 0
    median: float | None = None
    last: float | None = None
    limit: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, for machines."""
        return asdict(self)


def planned_cost(
    price: Price | None, seconds: Sequence[float], limit: float | None = None
) -> PlannedCost | None:
    """Return what a run would cost; None where no price is known.

    Args:
        price: What an hour costs.
        seconds: How long earlier runs took, the newest first.
        limit: What the run may cost before it is ended; None for any amount.
    """
    if price is None:
        return None
    costs = [price.hourly * each / SECONDS_AN_HOUR for each in seconds]
    return PlannedCost(
        hourly=price.hourly,
        source=price.source,
        runs=len(costs),
        median=median(costs) if costs else None,
        last=costs[0] if costs else None,
        limit=limit,
    )


def hourly_words(hourly: float, count: int) -> str:
    """Say what an hour costs: `about $21.60 an hour (8 x $2.70)`.

    Args:
        hourly: What it costs, in US dollars.
        count: How many chips, or nodes without any, that is for.
    """
    several = f" ({count} x {dollars(hourly / count)})" if count > 1 else ""
    return f"about {dollars(hourly)} an hour{several}"


def cost_rows(cost: PlannedCost | None, hardware: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Return what a plan says of costs; nothing for CPUs and machines without a price.

    Args:
        cost: What the run would cost; None where no price is known.
        hardware: The accelerator in GKE's words, as `RunPlan.hardware`; empty on this machine.
    """
    if cost is None:
        if hardware.get("count"):
            yield "cost", no_price(str(hardware.get("name") or "it"))
        return
    count = hardware.get("count") or hardware.get("hosts") or 1
    yield "cost", f"{hourly_words(cost.hourly, count)}, {ESTIMATE} by {cost.source}"
    if cost.median is not None and cost.last is not None:
        yield "", _past_words(cost.runs, cost.median, cost.last)
    if cost.limit is not None and cost.hourly:
        after = duration(cost.limit / cost.hourly * SECONDS_AN_HOUR)
        yield "", f"ended when it has cost {dollars(cost.limit)} (max_cost): after {after}"


def _past_words(runs: int, median: float, last: float) -> str:
    if runs == 1:
        return f"the last run cost about {dollars(last)}"
    return f"the last {runs} runs cost about {dollars(median)} each (median), {dollars(last)} last"
