"""Lines of many runs that a pattern fits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from shlex import quote

from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.errors import KineticError, UsageError
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.streams import PrintedLine
from kinetic_flows.runs.logs import LogReader
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import ticket_of

AT_A_TIME = 8
"""How many runs are read side by side."""

SETTLED_AFTER = timedelta(minutes=1)
"""How long after a run's end Prefect has all the lines that it is going to have."""


@dataclass(frozen=True, kw_only=True)
class FoundLine:
    """A line that is shown.

    Attributes:
        number: Its place among the run's lines, from 1.
        line: The line, without colours and with what else is an order to a terminal written out.
        stream: The stream that it was printed to.
        is_match: Whether the pattern fits it; else it stands near one that it fits.
    """

    number: int
    line: str
    stream: str
    is_match: bool


@dataclass(frozen=True, kw_only=True)
class SearchedRun:
    """A run whose lines were looked at.

    Attributes:
        record: Its flow run.
        found: The lines that are shown, in their order.
        problem: Why its lines could not be read; empty where they could.
    """

    record: RunRecord
    found: tuple[FoundLine, ...] = ()
    problem: str = ""

    @property
    def matches(self) -> int:
        """How many lines the pattern fits."""
        return sum(each.is_match for each in self.found)


def compiled(pattern: str, *, ignore_case: bool = False) -> re.Pattern[str]:
    """Return a pattern as it is looked for.

    Args:
        pattern: A regular expression, as Python has them.
        ignore_case: Whether upper and lower case are the same.

    Raises:
        UsageError: It is none.
    """
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except re.error as error:
        raise UsageError(
            f"--grep is {pattern!r}, which is no regular expression: {error}",
            value=pattern,
            hint=f"to look for just that text: --grep {quote(re.escape(pattern))}",
        ) from error


def search(
    records: Sequence[RunRecord], pattern: re.Pattern[str], session: Session, *, context: int = 0
) -> Iterator[SearchedRun]:
    """Look for a pattern in the lines of runs, and yield each run in their order.

    Args:
        records: The runs.
        pattern: The pattern.
        session: Who is asked for their lines; several runs at a time.
        context: How many lines before and after a line that fits are shown, too.
    """

    def read(record: RunRecord) -> Sequence[PrintedLine] | str:
        try:
            return LogReader(ticket_of(record), session).available(is_settled=_is_settled(record))
        except KineticError as error:
            return error.message

    for start in range(0, len(records), AT_A_TIME):
        some = records[start : start + AT_A_TIME]
        for record, lines in zip(some, in_threads(read, some, threads=AT_A_TIME), strict=True):
            if isinstance(lines, str):
                yield SearchedRun(record=record, problem=lines)
            else:
                # Only in this thread Ctrl-C ends a pattern that takes for ever.
                yield SearchedRun(record=record, found=tuple(found_in(lines, pattern, context)))


def found_in(
    lines: Sequence[PrintedLine], pattern: re.Pattern[str], context: int = 0
) -> Iterator[FoundLine]:
    """Yield the lines that a pattern fits, and those near them.

    Args:
        lines: A run's lines.
        pattern: The pattern.
        context: How many lines before and after a line that fits are near it.
    """
    shown = [for_terminal(line) for line in lines]
    fits = [pattern.search(text) is not None for text in shown]
    near: set[int] = set()
    for place in (place for place, is_match in enumerate(fits) if is_match):
        near.update(range(max(place - context, 0), min(place + context + 1, len(lines))))
    for place in sorted(near):
        yield FoundLine(
            number=place + 1,
            line=shown[place],
            stream=lines[place].stream,
            is_match=fits[place],
        )


def _is_settled(record: RunRecord) -> bool:
    ended = record.ended
    return record.is_final and ended is not None and datetime.now(UTC) - ended > SETTLED_AFTER
