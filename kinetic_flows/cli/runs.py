"""`kinetic runs`: what has become of runs, from any machine with the same API and store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from cyclopts import App, Parameter

from kinetic_flows.api.run import attach
from kinetic_flows.api.run_group import attach_group
from kinetic_flows.cli.documents import Json, plain, print_json, print_records
from kinetic_flows.cli.examples import add_examples
from kinetic_flows.cli.outcomes import errors_told, outcome, print_launched
from kinetic_flows.cli.reading import (
    anything_to_read,
    require_something_known,
    require_something_to_read,
)
from kinetic_flows.cli.run_bisect import bisect
from kinetic_flows.cli.run_cost import cost
from kinetic_flows.cli.run_diff import diff
from kinetic_flows.cli.run_list import moment, print_runs
from kinetic_flows.cli.run_logs import JsonLines, logs
from kinetic_flows.cli.run_outputs import outputs
from kinetic_flows.cli.run_profile import profile
from kinetic_flows.cli.run_show import run_document, shown
from kinetic_flows.cli.run_stacks import stacks
from kinetic_flows.cli.run_top import top
from kinetic_flows.cli.run_way_in import EXAMPLES as OF_WAY_IN
from kinetic_flows.cli.run_way_in import cp, execute, forward, shell
from kinetic_flows.cli.run_why import why
from kinetic_flows.cli.web import open_page, page_of
from kinetic_flows.core import option_values as check
from kinetic_flows.core.artifact_store import ArtifactStore, ObjectInfo
from kinetic_flows.core.display import counted, value_for_output
from kinetic_flows.core.errors import RunNotFoundError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.runs import data_cleanup
from kinetic_flows.runs.cleanup import find_expired, find_unused_data, remove, remove_data
from kinetic_flows.runs.compile_cache import (
    remove_programs,
    size_of,
    stored_programs,
    unused_programs,
)
from kinetic_flows.runs.description import described
from kinetic_flows.runs.find import RunFilter, find_records, run_or_group_id
from kinetic_flows.runs.session import own_session

runs_app = App(name="runs", help_format="markdown", help_epilogue="")
runs_app.command(logs)
runs_app.command(outputs)
runs_app.command(bisect)
runs_app.command(diff)
runs_app.command(profile)
runs_app.command(stacks)
runs_app.command(why)
for command in (shell, forward, cp):
    runs_app.command(command)
runs_app.command(execute, name="exec")
runs_app.command(top)
runs_app.command(cost)

MAX_DAYS = 36_500

_LIFECYCLE_WORDS = {
    True: "the bucket now removes it by itself, after retention_days",
    False: "the bucket removes it by itself already",
    None: "nothing removes it by itself here: run this command now and then",
}


@runs_app.command
def ls(
    *,
    state: str | None = None,
    since: str | None = None,
    name: str | None = None,
    function: str | None = None,
    group: str | None = None,
    tag: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    mine: Annotated[bool, Parameter(negative="")] = False,
    limit: int = 20,
    as_json: Json = False,
    as_json_lines: JsonLines = False,
) -> None:
    """List runs, newest first: what was called, what became of it, who called it and when.

    The table is as wide as the terminal, and whole in a pipe. What it shows of an id, every command
    takes.

    Args:
        state: Only runs in this state, such as running or failed.
        since: Only runs made later: a date and time, or how long ago, such as 2h or 7d.
        name: Only runs whose own or whose function's name contains this.
        function: Only runs of the function of this name.
        group: Only runs of this group: its id, or the part of it that is shown.
        tag: Only runs with this tag; with several, those that have all of them.
        mine: Only runs that you have started, on any machine.
        limit: How many at most.
        as_json: Print a JSON list, with all that is known of each run.
        as_json_lines: Print a JSON object for each run.
    """
    begin = None if since is None else moment(since)
    check.count("--limit", limit)
    if not anything_to_read():
        if not print_records([], as_json=as_json, as_json_lines=as_json_lines):
            print("no runs yet: nothing has run with this KINETIC_HOME, and no API is configured")
        return
    wanted = RunFilter(
        state=state,
        since=begin,
        name=name,
        function=function,
        group=group,
        tags=tag,
        mine=mine,
    )
    with own_session(NullProgress()) as session:
        records = find_records(session, wanted, limit=limit)
        rows = [described(record, session.api.run_url(record.id)) for record in records]
    if not print_records(rows, as_json=as_json, as_json_lines=as_json_lines):
        print_runs(rows)


@runs_app.command
def show(
    run_id: str,
    /,
    *,
    web: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Show everything about one run: call, state, times, history, commit, places, pages.

    Of a group it shows its runs, too.

    Args:
        run_id: Its id, or a group's, the part of it that is shown, or its URL.
        web: Open its page in a browser instead.
        as_json: Print a JSON object.
    """
    require_something_to_read()
    if web:
        page, link = page_of(run_id)
        print(page)
        open_page(link)
        return
    with own_session(NullProgress()) as session:
        record = session.api.read_run(run_or_group_id(run_id, session.api))
        document = run_document(record, session)
    if as_json:
        print_json(document)
        return
    print(shown(document))
    if "runs" in document:
        print()
        print_runs(document["runs"])


@runs_app.command
def result(
    run_id: str,
    /,
    *,
    timeout: Annotated[float | None, Parameter(name="--timeout-seconds")] = None,
    as_json: Json = False,
) -> None:
    """Wait for a run and print what it returned; fail as it failed.

    Args:
        run_id: Its id, the part of it that is shown, or its URL.
        timeout: When to stop waiting, which does not cancel it.
        as_json: Print a JSON object; a value that JSON cannot hold is described.
    """
    check.limit_seconds("--timeout-seconds", timeout)
    require_something_to_read()
    run = attach(run_id)
    with errors_told(as_json=as_json, id=run.id, url=run.url):
        value = outcome(lambda: run.result(timeout_seconds=timeout))
    if as_json:
        print_json({"id": run.id, "url": run.url, "result": plain(value)})
    else:
        print(value_for_output(value))


@runs_app.command
def cancel(run_id: str, /, *, as_json: Json = False) -> None:
    """Cancel a run, or all runs of a group.

    Args:
        run_id: Its id, the part of it that is shown, or its URL.
        as_json: Print a JSON object.
    """
    require_something_known()
    try:
        run = attach(run_id)
    except RunNotFoundError as not_a_run:
        try:
            group = attach_group(run_id)
        except RunNotFoundError:
            raise not_a_run from None
        group.cancel()
        counts = group.status_counts()
        told = ", ".join(f"{count} {state}" for state, count in counts.items())
        _tell({"id": group.id, "states": counts}, f"{group.id}: {told}", as_json=as_json)
        return
    run.cancel()
    state = run.state
    _tell({"id": run.id, "state": state}, f"{run.id}: {state}", as_json=as_json)


@runs_app.command
def retry(run_id: str, /, *, as_json: Json = False) -> None:
    """Start a run's call once more, as a new run.

    Args:
        run_id: Its id, the part of it that is shown, or its URL.
        as_json: Print a JSON object.
    """
    require_something_known()
    print_launched(attach(run_id).retry(), as_json=as_json)


@runs_app.command
def cleanup(
    *,
    older_than_days: float | None = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    lifecycle: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Remove what runs of long ago have left: their calls, results and records of processes.

    Outputs, deployments, and what runs share (code, wheels, locks, runners) are never touched,
    nor is what belongs to a run that is not over. Data that was brought to the store goes when no
    run and no deployment names it, and nobody has used it for as long (two days at least); so do
    compiled programs that no run has used, and on this machine copies of data that runs have
    fetched.

    Args:
        older_than_days: How long ago they left it; as KINETIC_RETENTION_DAYS says by default.
        dry_run: Only say what would be removed.
        lifecycle: On Google Cloud, also have the bucket itself remove it from now on.
        as_json: Print a JSON object.
    """
    if older_than_days is not None and not 0 <= older_than_days <= MAX_DAYS:  # nan, too
        check.refuse("--older-than-days", older_than_days, "give 0 or a number of days")
    require_something_known()
    with own_session(NullProgress()) as session:
        days = session.settings.retention_days if older_than_days is None else older_than_days
        ruled = None
        if lifecycle and not dry_run:
            ruled = session.platform.expire_runs(session.settings.retention_days)
        expired = find_expired(session, older_than=timedelta(days=days))
        done = expired if dry_run else list(remove(expired, session))
        unused = find_unused_data(session, older_than=timedelta(days=days))
        copies = unused if dry_run else list(remove_data(unused, session))
        find_stored = data_cleanup.find_unused if dry_run else data_cleanup.remove_unused
        stored = find_stored(session.platform.store, older_than=timedelta(days=days))
        programs = _cleaned_programs(session.platform.store, days, dry_run=dry_run)
    told: dict[str, Any] = {
        "runs": [each.run_id for each in done],
        "objects": sum(len(each.objects) for each in done),
        "bytes": sum(each.size_bytes for each in done),
        "data": [each.source for each in copies],
        "data_bytes": sum(each.size_bytes for each in copies),
        "stored_data": stored.sources,
        "stored_data_objects": len(stored.objects),
        "stored_data_bytes": stored.size_bytes,
        "programs": len(programs),
        "programs_bytes": size_of(programs),
        "removed": not dry_run,
    }
    if as_json:
        print_json(told)
        return
    verb = "would remove" if dry_run else "removed"
    print(
        f"{verb} {counted(told['objects'], 'object')} of {counted(len(done), 'run')}, "
        f"{size_in_units(told['bytes'])}, "
        f"left more than {days:g} days ago"
    )
    if copies:
        print(
            f"{verb} {len(copies):,} {'copy' if len(copies) == 1 else 'copies'} of data, "
            f"{size_in_units(told['data_bytes'])}, used by no run for {days:g} days"
        )
    if stored.size_bytes:
        print(
            f"{verb} {counted(stored.sources, 'source')} of data from the store, "
            f"{counted(len(stored.objects), 'object')}, {size_in_units(stored.size_bytes)}, "
            f"used by nobody for {days:g} days"
        )
    if programs:
        print(
            f"{verb} {counted(len(programs), 'compiled program')}, "
            f"{size_in_units(told['programs_bytes'])}, used by no run for {days:g} days"
        )
    if lifecycle:
        print(_LIFECYCLE_WORDS[ruled])


def _cleaned_programs(store: ArtifactStore, days: float, *, dry_run: bool) -> list[ObjectInfo]:
    """Remove compiled programs that no run has used for some days, and return them."""
    unused_since = datetime.now(UTC) - max(timedelta(days=days), data_cleanup.LEAST_AGE)
    programs = unused_programs(stored_programs(store), unused_since=unused_since)
    if not dry_run:
        remove_programs(programs, store)
    return programs


def _tell(document: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print what was done, for machines or for people."""
    if as_json:
        print_json(document)
    else:
        print(text)


add_examples(
    runs_app,
    {
        "ls": (
            "kinetic runs ls",
            "kinetic runs ls --mine --function train",
            "kinetic runs ls --state failed --since 7d --json",
        ),
        "show": ("kinetic runs show 9229eced", "kinetic runs show 9229eced --web"),
        "logs": (
            "kinetic runs logs 9229eced -f",
            "kinetic runs logs 9229eced --tail 100",
            "kinetic runs logs --grep 'loss=nan' --since 7d --function train",
        ),
        "bisect": (
            "kinetic runs bisect 9229eced 41ab8c07 --metric loss --lower-is-better",
            "kinetic runs bisect 9229eced 41ab8c07 --seconds --noise 20 --repeats 3",
        ),
        "diff": (
            "kinetic runs diff 9229eced 41ab8c07",
            "kinetic runs diff 9229eced 41ab8c07 --stat",
        ),
        "top": ("kinetic runs top", "kinetic runs top 9229eced"),
        "result": ("kinetic runs result 9229eced", "kinetic runs result 9229eced --json"),
        "cancel": ("kinetic runs cancel 9229eced",),
        "retry": ("kinetic runs retry 9229eced",),
        "outputs": (
            "kinetic runs outputs 9229eced",
            "kinetic runs outputs 9229eced 'checkpoints/*' --to ./checkpoints",
        ),
        "profile": (
            "kinetic runs profile 9229eced",
            "kinetic runs profile 9229eced --seconds 30 --host 0",
        ),
        "why": ("kinetic runs why 9229eced", "kinetic runs why 9229eced --json | jq .cause"),
        "stacks": ("kinetic runs stacks 9229eced", "kinetic runs stacks 9229eced --host 2"),
        "cost": (
            "kinetic runs cost",
            "kinetic runs cost --since 7d --by user",
            "kinetic runs cost --function train --by accelerator --json",
        ),
        "cleanup": ("kinetic runs cleanup --older-than-days 30 --dry-run",),
        **OF_WAY_IN,
    },
)
