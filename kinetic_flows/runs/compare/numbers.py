"""Two sets of named texts beside one another, and by how much a number changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import isfinite

from kinetic_flows.runs.compare.difference import Difference, Section

Fields = Mapping[str, str]


def nothing(_before: str, _after: str) -> str:
    """Say nothing besides of two texts that differ."""
    return ""


def compared(
    section: Section, before: Fields, after: Fields, note: Callable[[str, str], str] = nothing
) -> Iterator[Difference]:
    """Yield what differs between named texts, in the order of the first ones.

    Args:
        section: What they are.
        before: Those of the first run.
        after: Those of the second run.
        note: What is said of two texts besides.
    """
    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if old != new:
            told = "" if old is None or new is None else note(old, new)
            yield Difference(section=section, name=name, before=old, after=new, note=told)


def by_how_much(before: str, after: str) -> str:
    """Say by how much a number changed, such as `+12 %` or `x 3.4`; empty for what is none."""
    try:
        old, new = float(before), float(after)
    except ValueError:
        return ""
    if not (isfinite(old) and isfinite(new)) or not old or old * new < 0:
        return ""
    ratio = new / old
    if 0.5 <= ratio <= 2:
        return f"{100 * (ratio - 1):+.3g} %"
    return f"x {ratio:.2g}" if ratio < 1 else f"x {ratio:.3g}"
