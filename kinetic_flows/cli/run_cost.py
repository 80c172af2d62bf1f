"""`kinetic runs cost`: what runs have used, and what that costs by prices that are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from cyclopts import Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.reading import anything_to_read
from kinetic_flows.cli.run_list import moment
from kinetic_flows.cli.tables import print_table
from kinetic_flows.core.display import counted
from kinetic_flows.core.money import ESTIMATE, dollars
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.runs.find import RunFilter, find_records
from kinetic_flows.runs.session import own_session
from kinetic_flows.runs.usage_report import By, Report, Sum, report, unpriced_words
from kinetic_flows.runs.usage_words import hours

_TITLES = ("RUNS", "HOURS", "CHIP-HOURS", "WAITED FOR", "ASKED FOR", "COST")


def cost(
    *,
    since: str = "30d",
    by: By = "function",
    function: str | None = None,
    group: str | None = None,
    tag: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    mine: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Add up what runs have used: hours of hosts and chips, and an estimate of what they cost.

    Chip-hours are those that runs had; what they waited for stands beside them, and both together
    are what was asked for. Runs that go on are counted to this moment. Prices are Google's list
    prices, or yours (KINETIC_PRICES).

    Args:
        since: Only runs made later: a date and time, or how long ago, such as 12h or 30d.
        by: What they are added up by.
        function: Only runs of the function of this name.
        group: Only runs of this group: its id, or the part of it that is shown.
        tag: Only runs with this tag; with several, those that have all of them.
        mine: Only runs that you have started, on any machine.
        as_json: Print a JSON object.
    """
    begin = moment(since)
    found = Report(rows=(), total=Sum(name="total"))
    if anything_to_read():
        wanted = RunFilter(since=begin, function=function, group=group, tags=tag, mine=mine)
        with own_session(NullProgress()) as session:
            records = find_records(session, wanted, limit=None)
            found = report(records, session.settings.own_prices, by)
    if as_json:
        print_json(_document(found, begin.isoformat(), by))
    elif not found.rows:
        print("no such runs")
    else:
        print_table([[by.upper(), *_TITLES], *map(_cells, found.rows), _cells(found.total)])
        for note in _notes(found.total):
            print(note)


def _document(found: Report, since: str, by: str) -> dict[str, Any]:
    return {
        "since": since,
        "by": by,
        "rows": [each.to_json() for each in found.rows],
        "total": found.total.to_json(),
        "prices": list(found.total.sources),
        "is_estimate": True,
    }


def _cells(row: Sum) -> list[str]:
    has_price = bool(row.sources) or not row.unpriced
    money = dollars(row.usd) if has_price else ""
    return [
        row.name,
        f"{row.runs:,}",
        hours(row.host_hours),
        hours(row.running),
        hours(row.waiting),
        hours(row.running + row.waiting),
        f"{money} + ?" if row.unpriced and has_price else money or "?",
    ]


def _notes(total: Sum) -> Iterator[str]:
    """Say what the figures are worth."""
    if total.sources:
        yield f"COST is {ESTIMATE} by {' and '.join(total.sources)}."
    if total.unpriced:
        yield f"COST is {unpriced_words(total)}."
    if total.going_on:
        verb = "goes" if total.going_on == 1 else "go"
        yield f"{counted(total.going_on, 'run')} {verb} on, counted to this moment."
