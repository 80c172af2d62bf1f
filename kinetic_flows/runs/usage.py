"""What a run has used: chips, for how long they were asked for, waited for and had, and money.

All of it follows from the run's flow run: when it was launched, began and ended, what its runner
and its client have told in labels, and its accelerator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kinetic_flows.clients.prefect.labels import (
    ACCELERATOR_LABEL,
    CACHED_FROM_LABEL,
    HOSTS_LABEL,
    LAUNCHED_LABEL,
    PLATFORM_LABEL,
    SINCE_LABEL,
    SLICES_LABEL,
    USED_LABEL,
)
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.clients.prefect.timings import timings_of
from kinetic_flows.core.accelerators import Accelerator, parse_accelerator
from kinetic_flows.core.accelerators.prices import price_of
from kinetic_flows.core.errors import AcceleratorError

SECONDS_AN_HOUR = 3600.0
LOCAL = "local"


@dataclass(frozen=True, kw_only=True)
class Used:
    """For how long a run had one accelerator.

    Attributes:
        name: The accelerator's name.
        chips: How many chips it has; 0 for CPUs, and on this machine; None where nobody knows.
        hosts: How many hosts.
        seconds: For how long.
        usd: What that cost, an estimate in US dollars; None where no price is known.
        source: Whose price it is, in words; empty where none is known, or this machine has none.
    """

    name: str
    chips: int | None
    hosts: int
    seconds: float
    usd: float | None = None
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a run has used.

    Attributes:
        waiting_seconds: For how long it has waited for its hosts, before its first start.
        running: For how long it had them, by accelerator, in the order of its first starts on
            each; from the moment that its image was pulled on them.
    """

    waiting_seconds: float = 0.0
    running: tuple[Used, ...] = field(default=())

    @property
    def running_seconds(self) -> float:
        """For how long it had its hosts, over all its starts."""
        return sum(each.seconds for each in self.running)

    @property
    def waiting_chip_hours(self) -> float | None:
        """Chip-hours that it has waited for; None where its chips are not known."""
        chips = self.running[0].chips if self.running else 0
        return None if chips is None else chips * self.waiting_seconds / SECONDS_AN_HOUR

    @property
    def running_chip_hours(self) -> float | None:
        """Chip-hours that it had; None where its chips are not known."""
        hours = [
            None if each.chips is None else each.chips * each.seconds / SECONDS_AN_HOUR
            for each in self.running
        ]
        known = [each for each in hours if each is not None]
        return sum(known) if len(known) == len(hours) else None

    @property
    def usd(self) -> float | None:
        """What it cost, an estimate in US dollars; None where a price is not known."""
        known = [each.usd for each in self.running if each.usd is not None]
        return sum(known) if self.running and len(known) == len(self.running) else None

    @property
    def sources(self) -> tuple[str, ...]:
        """Whose prices were taken, in words."""
        return tuple(dict.fromkeys(each.source for each in self.running if each.source))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, for machines."""
        waiting, running = self.waiting_chip_hours, self.running_chip_hours
        return {
            "chips": self.running[-1].chips if self.running else None,
            "hosts": self.running[-1].hosts if self.running else None,
            "waiting_seconds": round(self.waiting_seconds, 3),
            "running_seconds": round(self.running_seconds, 3),
            "chip_hours": {
                "asked": _rounded(_sum(waiting, running)),
                "waiting": _rounded(waiting),
                "running": _rounded(running),
            },
            "cost_usd": _rounded(self.usd),
            "prices": list(self.sources),
        }


def usage_of(record: RunRecord, own: Mapping[str, float], now: datetime | None = None) -> Usage:
    """Return what a run has used.

    Args:
        record: Its flow run, which may not have ended.
        own: Prices of people's own, by `core.accelerators.prices.priced_as`.
        now: The moment to count to while it goes on; None for this one.
    """
    if record.labels.get(CACHED_FROM_LABEL):
        return Usage()
    until = record.ended or now or datetime.now(UTC)
    held = dict[str, float]()
    last = str(record.labels.get(ACCELERATOR_LABEL) or "")
    for name, seconds in (*_before(record), (last, _last_start(record, until))):
        held[name] = held.get(name, 0.0) + seconds
    running = tuple(_used(record, name, seconds, own) for name, seconds in held.items())
    some = tuple(each for each in running if each.seconds)
    return Usage(waiting_seconds=_waiting(record, until), running=some or running[-1:])


def _waiting(record: RunRecord, until: datetime) -> float:
    """Return for how long a run has waited for its hosts, without what they pulled its image."""
    if record.started is not None:
        told = timings_of(record)
        return max(told.get("wait", 0.0) - told.get("pull", 0.0), 0.0)
    try:
        launched = datetime.fromisoformat(str(record.labels.get(LAUNCHED_LABEL, "")))
    except ValueError:
        # It is still prepared, or was never launched: nothing was asked for.
        return 0.0
    return max((until - max(launched, record.expected or launched)).total_seconds(), 0.0)


def _before(record: RunRecord) -> Iterator[tuple[str, float]]:
    """Return accelerators of starts before the last, each with for how long it was had."""
    for label in sorted(name for name in record.labels if name.startswith(USED_LABEL)):
        _, _, name = label.removeprefix(USED_LABEL).partition(".")
        seconds = record.labels[label]
        if isinstance(seconds, int | float):
            yield name, max(float(seconds), 0.0)


def _last_start(record: RunRecord, until: datetime) -> float:
    """Return for how long the last start has its hosts."""
    if record.started is None:
        return 0.0
    since = record.labels.get(SINCE_LABEL)
    if isinstance(since, int | float):
        return max(until.timestamp() - since, 0.0)
    pulled = timings_of(record).get("pull", 0.0)
    return max((until - record.started).total_seconds(), 0.0) + pulled


def _used(record: RunRecord, name: str, seconds: float, own: Mapping[str, float]) -> Used:
    is_here = record.labels.get(PLATFORM_LABEL) == LOCAL
    accelerator = _accelerator(record, name)
    if accelerator is None:
        return Used(name=name, chips=None, hosts=1, seconds=seconds)
    price = price_of(accelerator, own, is_here=is_here)
    return Used(
        name=name,
        chips=0 if is_here else accelerator.count,
        hosts=1 if is_here else accelerator.hosts,
        seconds=seconds,
        usd=price.hourly * seconds / SECONDS_AN_HOUR if price else 0.0 if is_here else None,
        source="" if price is None else price.source,
    )


def _accelerator(record: RunRecord, name: str) -> Accelerator | None:
    """Return an accelerator of a run; None for a list none of which has begun."""
    try:
        one = parse_accelerator(name)
        if one.category == "tpu":
            return one.times(slices=_number(record, SLICES_LABEL))
        return one.times(hosts=_number(record, HOSTS_LABEL))
    except AcceleratorError:
        return None


def _number(record: RunRecord, label: str) -> int:
    told = record.labels.get(label)
    return told if isinstance(told, int) and told > 0 else 1


def _sum(*parts: float | None) -> float | None:
    known = [each for each in parts if each is not None]
    return sum(known) if len(known) == len(parts) else None


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 6)
