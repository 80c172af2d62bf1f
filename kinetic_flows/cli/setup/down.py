"""`kinetic down`: removing what `kinetic init` and `kinetic up` made, and nothing else."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.setup.options import SetupOptions
from kinetic_flows.cli.setup.place import Surroundings, found_setup, look_around
from kinetic_flows.cli.setup.prefect import forget_access, stages_with_work_pool, with_prefect
from kinetic_flows.cli.setup.report import (
    BOLD,
    Line,
    checked,
    described,
    plan_lines,
    print_lines,
    total_monthly,
    warned,
)
from kinetic_flows.cli.setup.work import changes_of, looking, require_agreement, work_on
from kinetic_flows.platforms.gke.setup.apply import remove_all
from kinetic_flows.platforms.gke.setup.compare import needed, plan_removal
from kinetic_flows.platforms.gke.setup.model import Change
from kinetic_flows.platforms.gke.setup.request import SetupRequest
from kinetic_flows.platforms.gke.setup.wanted import everything
from kinetic_flows.runs.profiles import delete_profile

_Flag = Annotated[bool, Parameter(negative=())]


def down(
    *,
    project: str | None = None,
    zone: str | None = None,
    cluster: str | None = None,
    purge: _Flag = False,
    yes: Annotated[bool, Parameter(alias="-y", negative=())] = False,
    dry_run: _Flag = False,
    as_json: Json = False,
) -> None:
    """Remove what was set up: the cluster and all that is around it.

    What was not made here is left, and so is what holds people's data: buckets and images go
    with --purge only. It says what it leaves, and why.

    Args:
        project: Google Cloud project; the active profile's by default.
        zone: Zone or region of the cluster; the active profile's by default.
        cluster: Name of the cluster; the active profile's by default.
        purge: Remove buckets with the results of all runs, and images, too.
        yes: Do not ask.
        dry_run: Print what would be removed and what is left, and do nothing.
        as_json: Print a JSON object.
    """
    options = SetupOptions(project=project, zone=zone, cluster=cluster)
    around = look_around(options)
    wanted = with_prefect(around, found_setup(around, options))
    with looking(around.progress):
        compared = plan_removal(stages_with_work_pool(wanted, everything), purge=purge)
    changes = tuple(change for change in changes_of(compared) if change.action != "keep")
    _show(wanted.request, changes, is_output=dry_run and not as_json)
    to_do = needed(compared)
    done = 0
    if to_do and not dry_run:
        question = "Remove it? This cannot be undone."
        require_agreement(question, "nothing was removed", yes=yes)
        done = work_on(
            to_do,
            remove_all,
            around.progress,
            title=f"remove {wanted.request.cluster} from {wanted.request.project}",
            verb="removed",
            command=_command(wanted.request, purge=purge),
        )
        _settle_profile(around, wanted.request, purge=purge)
    if as_json:
        _print_document(wanted.request, changes, done)


def _show(request: SetupRequest, changes: Sequence[Change], *, is_output: bool) -> None:
    removed = [change for change in changes if change.is_needed]
    left = [change for change in changes if not change.is_needed]
    lines = [Line(text="")]
    where = f"{request.cluster} in {request.location}, project {request.project}"
    if removed:
        lines += [Line(text=f"to be removed: cluster {where}", style=BOLD, indent=0)]
        lines += plan_lines(removed)
    else:
        lines += [Line(text=f"nothing is there that was made for {where}", indent=0)]
    if left:
        lines += [Line(text="left:", style=BOLD, indent=0), *plan_lines(left)]
    print_lines([*lines, Line(text="")], sys.stdout if is_output else None)


def _command(request: SetupRequest, *, purge: bool) -> str:
    words = ["kinetic", "down", "--project", request.project, "--zone", request.location]
    return shlex.join([*words, "--cluster", request.cluster, *(["--purge"] if purge else [])])


def _print_document(request: SetupRequest, changes: Sequence[Change], done: int) -> None:
    print_json(
        {
            "project": request.project,
            "zone": request.location,
            "cluster": request.cluster,
            "changes": [described(change) for change in changes],
            "left_monthly_usd": total_monthly(each for each in changes if not each.is_needed),
            "removed": done,
        }
    )


def _settle_profile(around: Surroundings, request: SetupRequest, *, purge: bool) -> None:
    """Remove the profile with everything that it leads to; else say that it is left."""
    if forget_access(around, request):
        checked("the profile was in the Prefect server that is gone, and is used no more")
        return
    profile = around.profile
    led = ("project", "cluster", "zone")
    wanted = (request.project, request.cluster, request.location)
    if profile is None or tuple(profile.values.get(name) for name in led) != wanted:
        return
    if purge:
        delete_profile(profile.name)
        checked(f"profile {profile.name} is removed")
        return
    warned(
        f"profile {profile.name} is left, by which the results of runs are found: "
        f"`kinetic profile rm {profile.name}` removes it"
    )
