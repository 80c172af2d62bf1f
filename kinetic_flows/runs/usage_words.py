"""What a run has used, in words: chip-hours, and what they cost by prices that are known."""

from __future__ import annotations

from collections.abc import Iterator

from kinetic_flows.core.moments import took
from kinetic_flows.core.money import ESTIMATE, dollars, no_price
from kinetic_flows.runs.usage import Usage

_DIGITS = ((0.001, 5), (0.1, 3), (100.0, 2))
"""How many digits of hours are told that are fewer than these."""


def hours(number: float) -> str:
    """Return a number of hours with as many digits as say something: `0.042`, `1.60`, `320`."""
    if not number:
        return "0"
    digits = next((digits for limit, digits in _DIGITS if number < limit), 0)
    return f"{number:,.{digits}f}"


def usage_rows(usage: Usage) -> Iterator[tuple[str, str]]:
    """Return what a run has used, as rows; none where it had nothing to be counted.

    Args:
        usage: What it has used.
    """
    if not usage.running:
        return
    yield from _time_rows(usage)
    cost = cost_words(usage)
    if cost:
        yield "cost", cost


def _time_rows(usage: Usage) -> Iterator[tuple[str, str]]:
    """Say chip-hours, and of CPUs the time of several hosts."""
    running, waiting = usage.running_chip_hours, usage.waiting_chip_hours
    time, hosts = took(usage.running_seconds), usage.running[-1].hosts
    if running is not None and any(each.chips for each in usage.running):
        chips = " and ".join(f"{each.chips}{_where(usage, each.name)}" for each in usage.running)
        waited = f"; waited {took(usage.waiting_seconds)} for them: " if waiting else ""
        more = f"{waited}{hours(waiting)} more" if waiting else ""
        yield "chips", f"{chips} for {time}: {hours(running)} chip-hours{more}"
    elif hosts > 1:
        yield "hosts", f"{hosts} for {time} each"


def cost_words(usage: Usage) -> str:
    """Say what it cost: `about $4.32, an estimate by Google's list prices ...`."""
    if not usage.running_seconds:
        return ""
    if usage.usd is None:
        unknown = next(each.name for each in usage.running if each.usd is None)
        return no_price(unknown)
    if not usage.sources:
        return ""
    return f"about {dollars(usage.usd)}, {ESTIMATE} by {' and '.join(usage.sources)}"


def _where(usage: Usage, name: str) -> str:
    return f" ({name})" if len(usage.running) > 1 else ""
