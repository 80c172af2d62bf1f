"""How `kinetic init` and `kinetic up` go on once it is known what is wanted."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from typing import Any, TextIO

from kinetic_flows.cli.documents import print_json
from kinetic_flows.cli.setup.choices import Conversation, command_again
from kinetic_flows.cli.setup.options import SetupOptions
from kinetic_flows.cli.setup.place import Surroundings, look_around
from kinetic_flows.cli.setup.prefect import keep_access, prefect_place
from kinetic_flows.cli.setup.report import (
    BOLD,
    Line,
    checked,
    cost_lines,
    described,
    plan_lines,
    print_lines,
    total_monthly,
    warned,
)
from kinetic_flows.cli.setup.work import changes_of, looking, require_agreement, work_on
from kinetic_flows.clients.google.apis import GoogleApis
from kinetic_flows.clients.prefect.logins import Login, save_login
from kinetic_flows.clients.prefect.profiles import SavedProfiles
from kinetic_flows.code.project_settings import local_settings
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.core.settings.table import rows
from kinetic_flows.platforms.gke.setup.apply import apply_all
from kinetic_flows.platforms.gke.setup.compare import Compared, compare_all, needed
from kinetic_flows.platforms.gke.setup.found import QUEUE, with_found_options
from kinetic_flows.platforms.gke.setup.model import Stage, Wanted
from kinetic_flows.platforms.gke.setup.prefect.prefect_place import PrefectPlace
from kinetic_flows.platforms.gke.setup.profile_values import profile_values
from kinetic_flows.platforms.gke.setup.request import SetupRequest
from kinetic_flows.platforms.gke.setup.wanted import stages
from kinetic_flows.runs.profiles import check_name, save_profile, use_profile


@dataclass(frozen=True, kw_only=True)
class Setup:
    """Something to be set up.

    Attributes:
        around: What was known before.
        apis: Google's APIs.
        request: What is wanted.
        profile: The name under which the choices are saved.
        command: The command line that goes on from wherever this is stopped.
        prefect: The Prefect API.
        login: The login to it that is saved among Prefect's own profiles; None for none.
    """

    around: Surroundings
    apis: GoogleApis
    request: SetupRequest
    profile: str
    command: str
    prefect: PrefectPlace
    login: Login | None = None

    def stages(self) -> tuple[Stage, ...]:
        """Return what is wanted, stage by stage."""
        wanted = Wanted(request=self.request, apis=self.apis, prefect=self.prefect)
        return stages(wanted)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it.

    Attributes:
        compared: What there was to be done.
        done: How many things were done.
        was_done: Whether everything is as wanted now.
    """

    compared: tuple[Compared, ...]
    done: int = 0
    was_done: bool = False

    def document(self, setup: Setup) -> dict[str, Any]:
        """Return it as plain JSON values."""
        changes = changes_of(self.compared)
        request = setup.request
        return {
            "project": request.project,
            "zone": request.location,
            "cluster": request.cluster,
            "mode": request.mode,
            "joins": request.joins,
            "prefect": request.prefect,
            "changes": [described(change) for change in changes],
            "monthly_usd": total_monthly(changes),
            "done": self.done,
            "profile": setup.profile if self.was_done else None,
        }


def choose(command: str, options: SetupOptions, profile: str | None, *, asks: bool) -> Setup:
    """Find out what is to be set up.

    Args:
        command: The command: `init`.
        options: What its command line says.
        profile: The name under which the choices are saved; None for the cluster's.
        asks: Whether what is not said is asked; else it is as it is by default.

    Raises:
        KineticError: The credentials, the project, its billing or the rights will not do, or what
            is said cannot be.
    """
    if profile is not None:
        check_name(profile)
    around = look_around(options)
    # Questions are not to be in what standard output leads to: `--json | jq`.
    with redirect_stdout(sys.stderr):
        chosen = Conversation(around=around, options=options, asks=asks).hold()
    return Setup(
        around=around,
        apis=chosen.apis,
        request=chosen.request,
        profile=profile or chosen.request.cluster,
        prefect=prefect_place(around, chosen.request, chosen.apis, chosen.login),
        login=chosen.login,
        command=command_again(command, chosen.options, profile),
    )


def show_plan(setup: Setup, compared: Sequence[Compared], out: TextIO | None = None) -> None:
    """Show every action and what all of it will cost."""
    request, changes = setup.request, changes_of(compared)
    kind = "Autopilot" if request.mode == "autopilot" else "Standard"
    verb = "joined" if request.joins else f"GKE {kind}"
    where = f"{request.cluster} in {request.location} ({verb}), project {request.project}"
    print_lines(
        [
            Line(text=""),
            Line(text=f"cluster {where}", style=BOLD, indent=0),
            *plan_lines(changes),
            Line(text="what it costs", style=BOLD, indent=0),
            *cost_lines(changes),
            Line(text=""),
        ],
        out,
    )


def set_up(setup: Setup, *, yes: bool, dry_run: bool, as_json: bool) -> Outcome:
    """Compare, show, ask once, do, and save the profile.

    Args:
        setup: What is to be set up.
        yes: Do not ask.
        dry_run: Do nothing; what would be done is printed to standard output.
        as_json: Whether standard output is a document's.

    Raises:
        KineticError: Something could not be looked at, or made, or the person does not want it.
        UsageError: There is nobody to ask.
    """
    with looking(setup.around.progress):
        _check_profile(setup)
        setup = _with_queue(setup)
        compared = compare_all(setup.stages())
    if dry_run:
        if not as_json:
            show_plan(setup, compared, sys.stdout)
        return Outcome(compared=compared)
    show_plan(setup, compared)
    to_do = needed(compared)
    if to_do:
        require_agreement("Do it?", "nothing was set up", yes=yes)
    if setup.login is not None:
        # A profile of that very name may be somebody's own, with another key.
        saved = save_login(setup.login, f"kinetic-{setup.profile}")
        checked(f"Prefect's own profile {saved.profile} is saved in {saved.path}, and in use")
    done = _do(setup, to_do)
    _remember(setup)
    return Outcome(compared=compared, done=done, was_done=True)


def _check_profile(setup: Setup) -> None:
    """Refuse to lead those elsewhere who use a profile of the same name.

    Raises:
        UsageError: There is one of another project.
    """
    if setup.request.prefect == "cluster":
        return  # a server of this cluster, which may not be there yet
    there = SavedProfiles(setup.prefect.find).load(setup.profile)
    led = there.values.get("project") if there else None
    if led not in (None, setup.request.project):
        raise UsageError(
            f"profile {setup.profile!r} leads to project {led!r}, for everybody who uses it",
            value=setup.profile,
            hint="give another name with --profile, or remove it: "
            f"`kinetic profile rm {setup.profile}`",
        )


def _with_queue(setup: Setup) -> Setup:
    """Return a setup that goes on having the queue that is there."""
    wanted = Wanted(request=setup.request, apis=setup.apis, prefect=setup.prefect)
    found = with_found_options(wanted, (QUEUE,))
    return replace(setup, request=found.request)


def _do(setup: Setup, to_do: Sequence[Stage]) -> int:
    if not to_do:
        checked("everything is as wanted")
        return 0
    request = setup.request
    return work_on(
        to_do,
        apply_all,
        setup.around.progress,
        title=f"set up {request.cluster} in {request.project}",
        verb="done",
        command=setup.command,
    )


def _remember(setup: Setup) -> None:
    """Save the profile, and make it the one that is used where nothing names another."""
    saved = SavedProfiles(setup.prefect.open)
    for line in keep_access(setup.prefect, setup.request, setup.around):
        checked(line)
    save_profile(setup.profile, profile_values(setup.request), saved=saved)
    before = setup.around.settings.profile
    use_profile(setup.profile)
    instead = f" (before: {before})" if before and before != setup.profile else ""
    checked(f"profile {setup.profile} is saved, and in use{instead}")
    here = local_settings(setup.around.environ)
    if here.profile not in (setup.profile, None):
        warned(f"here {here.profile} is used: {here.sources['profile']} comes before it")
    for name, value in contradicting(setup).items():
        warned(f"{name}={value} in your environment comes before the profile: unset it")


def contradicting(setup: Setup) -> dict[str, str]:
    """Return the variables of this process that would lead calls elsewhere, with their values."""
    environ, known = setup.around.environ, rows(CloudSettings)
    found = {}
    for name, wanted in profile_values(setup.request).items():
        setting = known[name]
        for variable in filter(None, (setting.variable, setting.googles)):
            value = environ.get(variable, "").strip()
            if value and value != str(wanted):
                found[variable] = value
    if environ.get("KINETIC_PLATFORM") == "local":
        found["KINETIC_PLATFORM"] = "local"
    return found


def print_outcome(outcome: Outcome, setup: Setup, **more: Any) -> None:
    """Print the document of what came of it."""
    print_json({**outcome.document(setup), **more})
