"""What many runs have used, added up by function, user or accelerator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from kinetic_flows.clients.prefect.labels import ACCELERATOR_LABEL, ORIGIN_LABELS
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.display import counted
from kinetic_flows.core.money import ESTIMATE, dollars
from kinetic_flows.runs.description import described
from kinetic_flows.runs.usage import SECONDS_AN_HOUR, Usage, usage_of
from kinetic_flows.runs.usage_words import hours, usage_rows

By = Literal["function", "user", "accelerator"]

NOT_TOLD = "(not told)"
"""What stands for the user of runs that do not say who called them."""


@dataclass(kw_only=True)
class Sum:
    """What some runs have used together.

    Attributes:
        name: What they have in common.
        runs: How many there are.
        going_on: How many of them have not ended, and are counted to this moment.
        host_hours: For how long they had hosts, each host counted.
        waiting: Chip-hours that they waited for.
        running: Chip-hours that they had.
        usd: What those cost of which that is known, an estimate in US dollars.
        unpriced: How many runs there are on accelerators without a price, by accelerator.
        sources: Whose prices were taken.
    """

    name: str
    runs: int = 0
    going_on: int = 0
    host_hours: float = 0.0
    waiting: float = 0.0
    running: float = 0.0
    usd: float = 0.0
    unpriced: dict[str, int] = field(default_factory=dict)
    sources: dict[str, None] = field(default_factory=dict)

    def add(self, record: RunRecord, usage: Usage) -> None:
        """Add a run.

        Args:
            record: Its flow run.
            usage: What it has used.
        """
        self.runs += 1
        self.going_on += not record.is_final
        self.waiting += usage.waiting_chip_hours or 0.0
        self.running += usage.running_chip_hours or 0.0
        for each in usage.running:
            self.host_hours += each.hosts * each.seconds / SECONDS_AN_HOUR
            self.usd += each.usd or 0.0
            if each.source:
                self.sources[each.source] = None
            if each.usd is None and each.seconds:
                self.unpriced[each.name] = self.unpriced.get(each.name, 0) + 1

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, for machines."""
        return {
            "name": self.name,
            "runs": self.runs,
            "going_on": self.going_on,
            "host_hours": round(self.host_hours, 6),
            "chip_hours": {
                "asked": round(self.waiting + self.running, 6),
                "waiting": round(self.waiting, 6),
                "running": round(self.running, 6),
            },
            "cost_usd": round(self.usd, 6),
            "unpriced": dict(self.unpriced),
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """What runs have used.

    Attributes:
        rows: Those that have something in common, the dearest first.
        total: All of them.
    """

    rows: tuple[Sum, ...]
    total: Sum


def report(
    records: Iterable[RunRecord], own: Mapping[str, float], by: By, now: datetime | None = None
) -> Report:
    """Add up what runs have used.

    Args:
        records: Their flow runs.
        own: Prices of people's own.
        by: What they are added up by.
        now: The moment to count to of those that go on; None for this one.
    """
    now = now or datetime.now(UTC)
    total, sums = Sum(name="total"), dict[str, Sum]()
    for record in records:
        usage = usage_of(record, own, now)
        total.add(record, usage)
        for name, part in _parts(record, usage, by):
            sums.setdefault(name, Sum(name=name)).add(record, part)
    rows = sorted(sums.values(), key=lambda each: (-each.usd, -each.running, each.name))
    return Report(rows=tuple(rows), total=total)


def _parts(record: RunRecord, usage: Usage, by: By) -> Iterator[tuple[str, Usage]]:
    """Return what a run counts for; of a list each accelerator that it was on."""
    if by == "user":
        yield str(record.labels.get(ORIGIN_LABELS["user"]) or NOT_TOLD), usage
    elif by == "function":
        yield str(described(record, "")["function"]), usage
    elif not usage.running:
        yield str(record.labels.get(ACCELERATOR_LABEL) or NOT_TOLD), usage
    else:
        for number, each in enumerate(usage.running):
            waiting = 0.0 if number else usage.waiting_seconds
            yield each.name or NOT_TOLD, Usage(waiting_seconds=waiting, running=(each,))


def usage_document(records: Sequence[RunRecord], own: Mapping[str, float]) -> dict[str, Any]:
    """Return what one run, or the runs of a group, have used: as JSON values and in words.

    Args:
        records: The flow run, or those of the group.
        own: Prices of people's own.
    """
    if len(records) == 1:
        usage = usage_of(records[0], own)
        return {**usage.to_json(), "words": dict(usage_rows(usage))}
    total = report(records, own, "function").total
    return {**total.to_json(), "prices": list(total.sources), "words": dict(sum_rows(total))}


def sum_rows(total: Sum) -> Iterator[tuple[str, str]]:
    """Return what runs have used together, as rows of a label and a text.

    Args:
        total: What they have used.
    """
    if total.running or total.waiting:
        waited = f", waited for {hours(total.waiting)} more" if total.waiting else ""
        yield "chips", f"{hours(total.running)} chip-hours{waited}"
    if total.sources:
        yield "cost", f"about {dollars(total.usd)}, {ESTIMATE} by {' and '.join(total.sources)}"
    if total.unpriced:
        yield "" if total.sources else "cost", unpriced_words(total)


def unpriced_words(total: Sum) -> str:
    """Say which runs are not counted, as no price is known of what they were on.

    Args:
        total: What runs have used.
    """
    named = ", ".join(
        f"{counted(count, 'run')} on {name or NOT_TOLD}" for name, count in total.unpriced.items()
    )
    return f"without {named}: no price is known (KINETIC_PRICES can say one)"
