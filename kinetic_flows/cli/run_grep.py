"""`kinetic runs logs --grep`: lines of many runs, as `grep` shows those of many files."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from kinetic_flows.cli.documents import print_records
from kinetic_flows.core.display import counted, for_line
from kinetic_flows.core.run_ids import short_ids
from kinetic_flows.core.settings.settings import process_environment
from kinetic_flows.runs.compare.grep import FoundLine, SearchedRun

MATCH, HEADING, NUMBER, PLAIN = "\x1b[1;31m", "\x1b[1m", "\x1b[2m", "\x1b[0m"


def print_found(
    runs: Iterator[SearchedRun],
    ids: Sequence[str],
    pattern: re.Pattern[str],
    *,
    as_json: bool,
    as_json_lines: bool,
) -> int:
    """Print what was found in runs, as they are read; return how many lines the pattern fits.

    On a terminal, a run's lines stand below its name; in a pipe, every line begins with its run's
    id.

    Args:
        runs: The runs.
        ids: The ids of all of them.
        pattern: What is shown in colour where there are any.
        as_json: Print one JSON list.
        as_json_lines: Print a JSON object for each line.
    """
    noted = _Noted(runs)
    if print_records(_records(noted), as_json=as_json, as_json_lines=as_json_lines):
        return noted.matches
    shorts = dict(zip(ids, short_ids(ids), strict=True))
    on_terminal = sys.stdout.isatty()
    has_colours = on_terminal and not process_environment().get("NO_COLOR")
    is_first = True
    for run in noted:
        if not run.found:
            continue
        if on_terminal:
            if not is_first:
                print()
            _print_below_name(run, shorts[run.record.id], pattern if has_colours else None)
        else:
            _print_with_id(run, shorts[run.record.id])
        is_first = False
        sys.stdout.flush()
    return noted.matches


class _Noted:
    """Runs as they come; what could not be read is told, and the rest is counted."""

    def __init__(self, runs: Iterator[SearchedRun]) -> None:
        self._runs = runs
        self.matches = 0

    def __iter__(self) -> Iterator[SearchedRun]:
        for run in self._runs:
            self.matches += run.matches
            if run.problem:
                told = f"kinetic: the lines of {run.record.id} cannot be read: {run.problem}"
                print(told, file=sys.stderr)
            yield run


def _records(runs: _Noted) -> Iterator[dict[str, Any]]:
    for run in runs:
        for each in run.found:
            yield {
                "id": run.record.id,
                "name": run.record.shown_name,
                "state": run.record.state_name,
                "number": each.number,
                "line": each.line,
                "stream": each.stream,
                "match": each.is_match,
            }


def _print_below_name(run: SearchedRun, short: str, pattern: re.Pattern[str] | None) -> None:
    heading = f"{short}  {for_line(run.record.shown_name)}, {run.record.state_name}"
    print(f"{HEADING}{heading}{PLAIN}" if pattern else heading)
    for each, has_gap in _with_gaps(run.found):
        if has_gap:
            print("--")
        number = f"{each.number}{':' if each.is_match else '-'}"
        if pattern:
            number = f"{NUMBER}{number}{PLAIN}"
        print(f"{number} {_highlighted(each, pattern)}")


def _highlighted(line: FoundLine, pattern: re.Pattern[str] | None) -> str:
    if pattern is None or not line.is_match:
        return line.line
    return pattern.sub(lambda found: f"{MATCH}{found[0]}{PLAIN}" if found[0] else "", line.line)


def _print_with_id(run: SearchedRun, short: str) -> None:
    for each, has_gap in _with_gaps(run.found):
        if has_gap:
            print("--")
        sign = ":" if each.is_match else "-"
        print(f"{short}{sign}{each.number}{sign}{each.line}")


def _with_gaps(found: Sequence[FoundLine]) -> Iterator[tuple[FoundLine, bool]]:
    """Yield lines, each with whether lines are left out before it that context was asked for."""
    has_context = any(not each.is_match for each in found)
    before: int | None = None
    for each in found:
        yield each, has_context and before is not None and each.number > before + 1
        before = each.number


def nothing_found(count: int) -> str:
    """Say that nothing was found in so many runs."""
    return f"no line of {counted(count, 'run')} fits" if count else "no such runs"
