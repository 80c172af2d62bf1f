"""`kinetic runs logs`: what a run has printed, and lines of many runs that a pattern fits."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from kinetic_flows.api.run import attach
from kinetic_flows.cli.documents import Json, print_records
from kinetic_flows.cli.reading import anything_to_read, require_something_to_read
from kinetic_flows.cli.run_grep import nothing_found, print_found
from kinetic_flows.cli.run_list import moment
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core import option_values as check
from kinetic_flows.core.display import output_for_terminal
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.runs.compare.grep import compiled, search
from kinetic_flows.runs.compare.named import named_run
from kinetic_flows.runs.find import RunFilter, find_records
from kinetic_flows.runs.session import Session, own_session

JsonLines = Annotated[bool, Parameter(name="--jsonl", negative="")]

MOST_RUNS = 100
NOTHING_FOUND_EXIT = 1
"""As `grep` ends where it has found nothing."""

WITH_GREP = "With --grep, over many runs"


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Which:
    """Which runs are looked into with --grep, and how.

    Attributes:
        ignore_case: Whether upper and lower case are the same.
        context: How many lines before and after each line are shown, too.
        state: Only runs in this state, such as running or failed.
        since: Only runs made later: a date and time, or how long ago, such as 2h or 7d.
        name: Only runs whose own or whose function's name contains this.
        function: Only runs of the function of this name.
        group: Only runs of this group: its id, or the part of it that is shown.
        tag: Only runs with this tag; with several, those that have all of them.
        mine: Only runs that you have started, on any machine.
        limit: How many runs at most, the newest; 100 by default.
    """

    ignore_case: Annotated[
        bool, Parameter(name=["--ignore-case", "-i"], negative="", group=WITH_GREP)
    ] = False
    context: Annotated[int | None, Parameter(name=["--context", "-C"], group=WITH_GREP)] = None
    state: Annotated[str | None, Parameter(group=WITH_GREP)] = None
    since: Annotated[str | None, Parameter(group=WITH_GREP)] = None
    name: Annotated[str | None, Parameter(group=WITH_GREP)] = None
    function: Annotated[str | None, Parameter(group=WITH_GREP)] = None
    group: Annotated[str | None, Parameter(group=WITH_GREP)] = None
    tag: Annotated[tuple[str, ...], Parameter(negative="", group=WITH_GREP)] = ()
    mine: Annotated[bool, Parameter(negative="", group=WITH_GREP)] = False
    limit: Annotated[int | None, Parameter(group=WITH_GREP)] = None


def logs(
    *run_id: str,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative="")] = False,
    tail: Annotated[int | None, Parameter(name=["--tail", "-n"])] = None,
    grep: Annotated[str | None, Parameter(name=["--grep", "-e"])] = None,
    which: Which | None = None,
    as_json: Json = False,
    as_json_lines: JsonLines = False,
) -> None:
    """Print what a run has printed and logged, to the streams that it was printed to.

    With --grep, print the lines of many runs that a pattern fits: of the runs that are named, or of
    all that the further options leave, the newest first.

    Args:
        run_id: Its id, the part of it that is shown, or its URL; of several runs with --grep.
        follow: Go on until the run is over; outages of the Prefect API are waited for.
        tail: How many of the last lines to begin with.
        grep: A regular expression; only lines that it fits are printed, with their runs.
        which: Which runs are looked into.
        as_json: Print a JSON list of objects, with --follow when the run is over.
        as_json_lines: Print a JSON object for each line as it comes.
    """
    if grep is not None:
        _require_one_way(run_id, which or Which(), follow=follow, tail=tail)
        _grep(run_id, grep, which or Which(), as_json=as_json, as_json_lines=as_json_lines)
        return
    if which is not None and which != Which():
        raise UsageError(
            "options that choose runs go with --grep alone",
            hint="give --grep PATTERN, or one run's id and no such option",
        )
    if len(run_id) != 1:
        raise UsageError(
            f"{len(run_id)} runs are named, and the log of one can be printed",
            value=list(run_id),
            hint="give one run's id, or --grep PATTERN to find lines in many runs",
        )
    _print_log(run_id[0], follow=follow, tail=tail, as_json=as_json, as_json_lines=as_json_lines)


def _print_log(
    run_id: str, *, follow: bool, tail: int | None, as_json: bool, as_json_lines: bool
) -> None:
    if tail is not None:
        check.count("--tail", tail)
    require_something_to_read()
    run = attach(run_id)
    lines = run.logs(follow=True, tail=tail) if follow else run.logs(tail=tail)
    records = ({"line": line, "stream": line.stream} for line in lines)
    if print_records(records, as_json=as_json, as_json_lines=as_json_lines):
        return
    for line in lines:
        target = sys.stdout if line.stream == "stdout" else sys.stderr
        print(output_for_terminal(line) if target.isatty() else line, file=target, flush=True)


def _require_one_way(
    run_ids: tuple[str, ...], which: Which, *, follow: bool, tail: int | None
) -> None:
    """Refuse options of one run's log with --grep, and options that choose runs beside ids."""
    if follow or tail is not None:
        option = "--follow" if follow else "--tail"
        raise UsageError(
            f"{option} and --grep do not go together",
            hint=f"pipe it: kinetic runs logs ID {option} ... | grep PATTERN",
        )
    chosen = Which(ignore_case=which.ignore_case, context=which.context)
    if run_ids and which != chosen:
        raise UsageError(
            "runs are named, and options choose others",
            value=list(run_ids),
            hint="leave out the ids, or the options",
        )


def _grep(
    run_ids: tuple[str, ...], text: str, which: Which, *, as_json: bool, as_json_lines: bool
) -> None:
    """Print the lines of runs that a pattern fits; end as `grep` does where there are none."""
    pattern = compiled(text, ignore_case=which.ignore_case)
    if which.context is not None:
        check.count("--context", which.context)
    wanted, limit = _filter(which), MOST_RUNS if which.limit is None else which.limit
    check.count("--limit", limit)
    if not anything_to_read():
        require_something_to_read()
    with own_session(NullProgress()) as session:
        records = _records(run_ids, wanted, limit, session)
        found = print_found(
            search(records, pattern, session, context=which.context or 0),
            [record.id for record in records],
            pattern,
            as_json=as_json,
            as_json_lines=as_json_lines,
        )
    if not run_ids and which.limit is None and len(records) == limit:
        print(f"kinetic: the newest {limit} runs were looked into; --limit", file=sys.stderr)
    if not found:
        print(f"kinetic: {nothing_found(len(records))}", file=sys.stderr)
        sys.exit(NOTHING_FOUND_EXIT)


def _filter(which: Which) -> RunFilter:
    return RunFilter(
        state=which.state,
        since=None if which.since is None else moment(which.since),
        name=which.name,
        function=which.function,
        group=which.group,
        tags=which.tag,
        mine=which.mine,
    )


def _records(
    run_ids: tuple[str, ...], wanted: RunFilter, limit: int, session: Session
) -> list[RunRecord]:
    if run_ids:
        named = (named_run(each, session) for each in run_ids)
        return list({record.id: record for record in named}.values())
    return find_records(session, wanted, limit=limit)
