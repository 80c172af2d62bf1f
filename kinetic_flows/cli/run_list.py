"""The table of `kinetic runs ls`, as wide as the terminal."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kinetic_flows.cli.tables import print_table
from kinetic_flows.code.call_names import shortened
from kinetic_flows.core.display import for_line
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.moments import ago, local, took
from kinetic_flows.core.run_ids import short_ids
from kinetic_flows.runs.description import reason_of

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_GAP = 2


@dataclass(frozen=True)
class _Column:
    """A column of the table.

    Attributes:
        title: Its title.
        least: How narrow it may become where the terminal is narrow; None when its texts stay
            whole.
        enough: Which width is enough for it before further columns are shown.
    """

    title: str
    least: int | None = None
    enough: int = 100


_COLUMNS = {
    "run": _Column("RUN"),
    "name": _Column("NAME", least=12, enough=30),
    "on": _Column("ON"),
    "state": _Column("STATE", least=9, enough=26),
    "who": _Column("WHO"),
    "when": _Column("WHEN"),
    "at": _Column("AT"),
    "took": _Column("TOOK"),
    "group": _Column("GROUP"),
}
_FIRST = ("run", "name", "state")
_WHERE_THERE_IS_ROOM = ("when", "took", "on", "who", "group", "at")


def print_runs(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print runs as a table that fits the terminal; whole, where it is none.

    Args:
        rows: The runs, as `described` has them.
    """
    if not rows:
        print("no such runs")
        return
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print_table(table_of(rows, columns, datetime.now(UTC)))


def table_of(
    rows: Sequence[Mapping[str, Any]], columns: int | None, now: datetime
) -> list[list[str]]:
    """Return the cells of the table, its titles first.

    Args:
        rows: The runs, as `described` has them.
        columns: How wide it may be; None for any width.
        now: What `WHEN` counts from.
    """
    ids = short_ids([row["id"] for row in rows])
    groups = _parts_by_id([row["group"] for row in rows if row["group"]])
    lines = [_cells(row, short, groups, now) for row, short in zip(rows, ids, strict=True)]
    lines = [{name: for_line(text) for name, text in line.items()} for line in lines]
    titles = {name: column.title for name, column in _COLUMNS.items()}
    natural = {
        name: max(len(line[name]) for line in (titles, *lines))
        for name in _COLUMNS
        if any(line[name] for line in lines)
    }
    widths = _narrowed(_chosen(natural, columns), columns)
    return [
        [
            _cut(line[name], width) if name == "state" else shortened(line[name], width)
            for name, width in widths.items()
        ]
        for line in (titles, *lines)
    ]


def _cells(
    row: Mapping[str, Any], short: str, groups: Mapping[str, str], now: datetime
) -> dict[str, str]:
    created = datetime.fromisoformat(row["created"])
    origin = row["origin"]
    who = "@".join(str(each) for each in (origin["user"], origin["host"]) if each)
    return {
        "run": short,
        "name": row["name"],
        "on": row["accelerator"] or "",
        "state": reason_of(row),
        "who": who,
        "when": ago(created, now),
        "at": local(created),
        "took": took(row["seconds"]),
        "group": groups.get(row["group"] or "", ""),
    }


def _parts_by_id(run_ids: Sequence[str]) -> dict[str, str]:
    return dict(zip(run_ids, short_ids(run_ids), strict=True))


def _chosen(natural: Mapping[str, int], columns: int | None) -> dict[str, int]:
    """Return the columns that are shown, in their order, with the widths of their texts."""
    if columns is None:
        return dict(natural)
    chosen = [name for name in _FIRST if name in natural]
    for name in _WHERE_THERE_IS_ROOM:
        wanted = [*chosen, name]
        if name in natural and _room(wanted, natural) <= columns:
            chosen = wanted
    return {name: width for name, width in natural.items() if name in chosen}


def _room(names: Sequence[str], natural: Mapping[str, int]) -> int:
    """Return how much room columns need to be readable."""
    widths = (min(natural[name], _COLUMNS[name].enough) for name in names)
    return sum(widths) + _GAP * (len(names) - 1)


def _narrowed(widths: dict[str, int], columns: int | None) -> dict[str, int]:
    """Return widths that fit, as far as what may be cut allows."""
    if columns is None:
        return widths
    excess = sum(widths.values()) + _GAP * (len(widths) - 1) - columns
    flexible = {name: least for name in widths if (least := _COLUMNS[name].least)}
    for _ in range(excess):
        widest = max(flexible, key=lambda name: widths[name] - flexible[name])
        if widths[widest] > flexible[widest]:
            widths[widest] -= 1
    return widths


def _cut(text: str, width: int) -> str:
    """Return the beginning of a text."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def moment(text: str, option: str = "--since") -> datetime:
    """Return the moment that a text names: a date and time, or how long ago.

    Args:
        text: The text.
        option: Whose value it is.

    Raises:
        UsageError: It names none.
    """
    since = re.fullmatch(r"(\d+)([smhdw])", text.strip())
    try:
        if since:
            return datetime.now(UTC) - timedelta(**{_UNITS[since[2]]: int(since[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{option} is {text!r}",
            value=text,
            hint="give a date and time, such as 2026-01-31T09:00, or how long ago: 30m, 2h, 7d",
        ) from error
