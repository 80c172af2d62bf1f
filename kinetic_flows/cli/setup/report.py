"""What setting up is going to do, and what is there, as it is printed."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from textwrap import wrap
from typing import Any, TextIO

from kinetic_flows.core.accelerators.prices import AS_OF, REGION
from kinetic_flows.core.display import for_line
from kinetic_flows.core.settings.settings import process_environment
from kinetic_flows.platforms.gke.setup.model import Action, Change

MARKS: Mapping[Action, str] = {
    "create": "+",
    "change": "~",
    "remove": "-",
    "leave": "·",
    "keep": "=",
    "unknown": "?",
}
STYLES: Mapping[Action, str] = {
    "create": "32",
    "change": "33",
    "remove": "31",
    "leave": "2",
    "keep": "2",
    "unknown": "33",
}
DIM, BOLD = "2", "1"
DEFAULT_COLUMNS = 80
WIDEST = 100
"""Lines of words are read best where they are no longer."""

FEWEST_TOGETHER = 3
"""So many things of one kind, of which there is nothing else to say, share a line."""

PRICES = "https://cloud.google.com/products/calculator"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a report.

    Attributes:
        text: What it says.
        mark: What stands before it.
        style: The colour of its mark, or of all of it where it has none; empty for none.
        indent: How many characters it is indented by.
    """

    text: str
    mark: str = ""
    style: str = ""
    indent: int = 2


def plan_lines(changes: Sequence[Change]) -> Iterator[Line]:
    """Yield what is going to be done, a line or a few for each thing.

    Args:
        changes: What there is, in the order in which it is done.
    """
    kept = sum(change.action == "keep" for change in changes)
    told = [change for change in changes if change.action != "keep"]
    for _, group in groupby(told, key=_kind_of_line):
        alike = list(group)
        if len(alike) >= FEWEST_TOGETHER and _says_no_more(alike[0]):
            yield _together(alike)
        else:
            for change in alike:
                yield from _lines_of(change)
    if kept:
        are = "is" if kept == 1 else "are"
        yield Line(text=f"{several(kept, 'thing')} {are} as wanted", mark="=", style=DIM)


def _kind_of_line(change: Change) -> tuple[Action, str, bool]:
    return change.action, change.kind, _says_no_more(change)


def _says_no_more(change: Change) -> bool:
    return not (change.details or change.cost or change.why)


def _together(alike: Sequence[Change]) -> Line:
    first = alike[0]
    names = ", ".join(for_line(change.name) for change in alike)
    text = f"{several(len(alike), first.kind)}: {names}"
    return Line(text=text, mark=MARKS[first.action], style=STYLES[first.action])


def _lines_of(change: Change) -> Iterator[Line]:
    cost = change.cost
    told = f"{change.kind} {for_line(change.name)}"
    if cost is not None and cost.monthly_usd:
        told += f" · {dollars(cost.monthly_usd)} a month"
    yield Line(text=told, mark=MARKS[change.action], style=STYLES[change.action])
    yield from detail_lines(change, indent=6)


def detail_lines(change: Change, indent: int) -> Iterator[Line]:
    """Yield the difference, or what it will be, and why it is left."""
    for detail in (*change.details, *([change.why] if change.why else ())):
        yield Line(text=_short_members(for_line(detail)), style=DIM, indent=indent)


def _short_members(text: str) -> str:
    """Return a text in which the cluster's own accounts are called by their names."""
    return re.sub(r"serviceAccount:(kn-[a-z0-9-]+)@[a-z0-9.-]+\.gserviceaccount\.com", r"\1", text)


def cost_lines(changes: Iterable[Change]) -> Iterator[Line]:
    """Yield what will be paid: a month while nothing runs, and an hour of what is used.

    Args:
        changes: What is going to be there, made now or before.
    """
    costly = [
        (change, change.cost)
        for change in changes
        if change.cost is not None and change.action != "remove"
    ]
    monthly = sum(cost.monthly_usd for _, cost in costly)
    yield Line(text=f"about {dollars(monthly)} a month while nothing runs", style=BOLD)
    for change, cost in costly:
        if cost.monthly_usd:
            note = f" ({cost.note})" if cost.note else ""
            yield Line(text=f"{_called(change)}: {dollars(cost.monthly_usd)}{note}", indent=4)
    used = [(change, cost) for change, cost in costly if cost.hourly_usd is None or cost.hourly_usd]
    if used:
        yield Line(text="and for each hour in which it is used, at most", style=BOLD)
    for change, cost in used:
        note = f" ({cost.note})" if cost.note and not cost.monthly_usd else ""
        hourly = "not known" if cost.hourly_usd is None else dollars(cost.hourly_usd)
        yield Line(text=f"{_called(change)}: {hourly}{note}", indent=4)
    when = f"of {REGION}, put down in {AS_OF}"
    yield Line(text=f"by Google's list prices {when}; {PRICES} knows yours", style=DIM)


def _called(change: Change) -> str:
    return f"{change.kind} {for_line(change.name)}"


def several(count: int, kind: str) -> str:
    """Return how many there are of a kind: `1 policy`, `3 policies`."""
    if count == 1:
        return f"1 {kind}"
    is_irregular = kind.endswith("y") and kind[-2:-1] not in "aeiou"
    return f"{count} {kind[:-1]}ies" if is_irregular else f"{count} {kind}s"


def dollars(amount: float) -> str:
    """Return an amount as people write it: whole dollars, and cents below ten."""
    return f"${amount:,.2f}" if amount < 10 else f"${amount:,.0f}"


def print_lines(lines: Iterable[Line], out: TextIO | None = None) -> None:
    """Print lines, folded to the terminal's width, whole elsewhere.

    Args:
        lines: The lines.
        out: Where to; None for standard error.
    """
    stream = sys.stderr if out is None else out
    columns = _columns(stream)
    has_colours = shows_colours(stream)
    for line in lines:
        if not line.text:
            print(file=stream)
            continue
        first, *more = _folded(line, columns)
        mark = f"{_styled(line.mark, line.style, has_colours)} " if line.mark else ""
        text = first if line.mark else _styled(first, line.style, has_colours)
        print(f"{' ' * line.indent}{mark}{text}", file=stream)
        for each in more:
            shown = each if line.mark else _styled(each, line.style, has_colours)
            print(f"{' ' * (line.indent + (2 if line.mark else 0))}{shown}", file=stream)
    stream.flush()


def _folded(line: Line, columns: int | None) -> list[str]:
    if columns is None:
        return [line.text]
    room = min(columns, WIDEST) - line.indent - 3
    return wrap(line.text, room, break_long_words=False, break_on_hyphens=False) or [""]


def _columns(stream: TextIO) -> int | None:
    if not stream.isatty():
        return None
    return shutil.get_terminal_size((DEFAULT_COLUMNS, 24)).columns


def shows_colours(stream: TextIO) -> bool:
    """Whether colours are shown where a stream leads."""
    environ = process_environment()
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"


def _styled(text: str, style: str, has_colours: bool) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style and has_colours and text else text


def described(change: Change) -> dict[str, Any]:
    """Return a change as plain JSON values."""
    return {
        "kind": change.kind,
        "name": change.name,
        "action": change.action,
        "details": list(change.details),
        "why": change.why or None,
        "cost": asdict(change.cost) if change.cost else None,
    }


def total_monthly(changes: Iterable[Change]) -> float:
    """Return what things cost a month while nothing runs, in US dollars."""
    return round(
        sum(each.cost.monthly_usd for each in changes if each.cost and each.action != "remove"), 2
    )


def checked(text: str) -> None:
    """Say that something was looked at and is well."""
    _say(text, "✓", "32")


def warned(text: str) -> None:
    """Say something that may matter later."""
    _say(text, "!", "33")


def _say(text: str, mark: str, style: str) -> None:
    # In a pipe, as all that goes on is said there.
    before = "" if sys.stderr.isatty() else "kinetic: "
    print_lines([Line(text=text, mark=f"{before}{mark}", style=style, indent=0)])
