"""How every benchmark prints: a table for people, or one JSON object per row for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement, beside the same thing done the obvious other way.

    Attributes:
        name: What was measured.
        ours: What it took us.
        alternative: What it took the alternative; None when there is none.
        unit: Unit of both.
    """

    name: str
    ours: float
    alternative: float | None
    unit: str

    @property
    def ratio(self) -> float | None:
        """Ours over the alternative's: below 1 is better; None when it says nothing."""
        if self.alternative is None or self.alternative == 0:
            return None
        return self.ours / self.alternative


def report(rows: Sequence[Row], as_json: bool) -> None:
    """Print measurements."""
    if as_json:
        for row in rows:
            print(json.dumps(_cells(row)), flush=True)
        return
    table = [("", "ours", "alternative", "ratio", "unit")]
    table += [
        (row.name, _number(row.ours), _number(row.alternative), _number(row.ratio), row.unit)
        for row in rows
    ]
    widths = [max(len(line[column]) for line in table) for column in range(5)]
    for line in table:
        numbers = (text.rjust(width) for text, width in zip(line[1:4], widths[1:4], strict=True))
        print(line[0].ljust(widths[0]), *numbers, line[4], sep="  ")


def _cells(row: Row) -> dict[str, object]:
    return {
        "name": row.name,
        "ours": row.ours,
        "alternative": row.alternative,
        "ratio": row.ratio,
        "unit": row.unit,
    }


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"
