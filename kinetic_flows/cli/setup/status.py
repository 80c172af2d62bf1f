"""`kinetic status`: what was set up, whether it is as wanted, and what runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.reading import anything_to_read
from kinetic_flows.cli.run_list import print_runs
from kinetic_flows.cli.setup.options import SetupOptions
from kinetic_flows.cli.setup.place import found_setup, look_around
from kinetic_flows.cli.setup.prefect import stages_with_work_pool, with_prefect
from kinetic_flows.cli.setup.report import (
    BOLD,
    DIM,
    STYLES,
    Line,
    described,
    detail_lines,
    dollars,
    print_lines,
    total_monthly,
    warned,
)
from kinetic_flows.cli.setup.work import changes_of, looking
from kinetic_flows.core.display import for_line
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.platforms.gke.setup.compare import compare_all
from kinetic_flows.platforms.gke.setup.found import with_found_options
from kinetic_flows.platforms.gke.setup.model import Action, Change, Wanted
from kinetic_flows.platforms.gke.setup.survey import find_cluster
from kinetic_flows.platforms.gke.setup.wanted import stages
from kinetic_flows.runs.description import described as described_run
from kinetic_flows.runs.find import RunFilter, find_records
from kinetic_flows.runs.session import own_session

MAX_RUNS = 20
GOING_ON = ("running", "pending")

WORDS: Mapping[Action, str] = {
    "keep": "as wanted",
    "create": "missing",
    "change": "differs",
    "unknown": "unknown",
    "leave": "not ours",
    "remove": "not wanted",
}


def status(
    *,
    project: str | None = None,
    zone: str | None = None,
    cluster: str | None = None,
    as_json: Json = False,
) -> None:
    """Show everything that was set up, whether it is as wanted, and what runs.

    Args:
        project: Google Cloud project; the active profile's by default.
        zone: Zone or region of the cluster; the active profile's by default.
        cluster: Name of the cluster; the active profile's by default.
        as_json: Print a JSON object.
    """
    options = SetupOptions(project=project, zone=zone, cluster=cluster)
    around = look_around(options)
    wanted = found_setup(around, options)
    with looking(around.progress):
        wanted = with_prefect(around, with_found_options(wanted))
        changes = _there(wanted)
    runs = _runs()
    request = wanted.request
    if as_json:
        print_json(
            {
                "project": request.project,
                "zone": request.location,
                "cluster": request.cluster,
                "as_wanted": all(not change.is_needed for change in changes),
                "resources": [
                    {**described(change), "state": WORDS[change.action]} for change in changes
                ],
                "monthly_usd": total_monthly(changes),
                "runs": runs,
            }
        )
        return
    where = f"{request.cluster} in {request.location}, project {request.project}"
    print_lines([Line(text=f"cluster {where}", style=BOLD, indent=0), *_lines(changes)], sys.stdout)
    _print_runs(runs)


def _there(wanted: Wanted) -> tuple[Change, ...]:
    """Return how everything is that is wanted anyway, or was by some option and is there."""
    changes = changes_of(compare_all(stages_with_work_pool(wanted, stages)))
    known = {(change.kind, change.name) for change in changes}
    return (*changes, *(each for each in _pools(wanted) if (each.kind, each.name) not in known))


def _pools(wanted: Wanted) -> tuple[Change, ...]:
    """Return the other node pools of the cluster, which have accelerators or are somebody's."""
    request = wanted.request
    found = find_cluster(wanted.apis, request.cluster, request.location)
    if found is None or found.mode == "autopilot":
        return ()
    return tuple(Change(kind="node pool", name=pool.name, action="keep") for pool in found.pools)


def _lines(changes: Sequence[Change]) -> Iterator[Line]:
    width = max(map(len, WORDS.values()))
    for change in changes:
        mark = WORDS[change.action].ljust(width)
        style = "" if change.action == "keep" else STYLES[change.action]
        text = f"{change.kind} {for_line(change.name)}"
        yield Line(text=text, mark=mark, style=style)
        if change.action != "keep":
            yield from detail_lines(change, indent=width + 5)
    missing = sum(change.is_needed for change in changes)
    monthly = total_monthly(each for each in changes if each.action != "create")
    yield Line(text=f"about {dollars(monthly)} a month while nothing runs", style=DIM)
    if missing:
        yield Line(text="`kinetic up` makes what is missing and changes what differs", style=DIM)


def _runs() -> list[dict[str, Any]] | None:
    """Return what runs; None where that cannot be told, and it is said why."""
    try:
        if not anything_to_read():
            return []
        with own_session(NullProgress()) as session:
            found = [
                record
                for state in GOING_ON
                for record in find_records(session, RunFilter(state=state), limit=MAX_RUNS)
            ]
            return [described_run(each, session.api.run_url(each.id)) for each in found]
    except KineticError as error:
        warned(f"what runs cannot be told: {error}")
        return None


def _print_runs(runs: Sequence[Mapping[str, Any]] | None) -> None:
    if runs:
        print()
        print_runs(runs)
    elif runs is not None:
        print("nothing runs")
