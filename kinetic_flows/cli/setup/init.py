"""`kinetic init`: from an empty project to the first value, in a few questions."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from kinetic_flows.cli.documents import Json
from kinetic_flows.cli.questions import is_terminal
from kinetic_flows.cli.setup.first_run import run_first_function
from kinetic_flows.cli.setup.flow import Setup, choose, contradicting, print_outcome, set_up
from kinetic_flows.cli.setup.options import NOTHING_SAID, SetupOptions
from kinetic_flows.cli.setup.prefect import variables_for
from kinetic_flows.cli.setup.report import BOLD, Line, print_lines
from kinetic_flows.code.origin import caller
from kinetic_flows.core.errors import UsageError

_Flag = Annotated[bool, Parameter(negative=())]

NEXT = (
    ("kinetic run train.py:train", "call a function of yours there"),
    ("kinetic nodepools add l4", "add an accelerator, paid while it is used"),
    ("kinetic status", "what there is, and what runs"),
    ("kinetic ui", "the runs in the browser"),
    ("kinetic down", "remove what was made"),
)


def init(
    options: SetupOptions = NOTHING_SAID,
    *,
    profile: str | None = None,
    run: Annotated[bool, Parameter(negative="--no-run")] = True,
    yes: Annotated[bool, Parameter(alias="-y", negative=())] = False,
    dry_run: _Flag = False,
    as_json: Json = False,
) -> None:
    """Set up everything that runs need on Google Cloud, and run a first function there.

    It asks for what is not given, looks at what is there, shows what it would do and what that
    costs, and asks once before it does anything. Given again, it goes on from what is there.

    Args:
        options: What is wanted, as far as it is known; what is not is asked.
        profile: Name of the profile that remembers the choices; the cluster's name by default.
        run: Whether to run a first function at the end.
        yes: Ask nothing, and do it.
        dry_run: Print every action and what it will cost, and do nothing.
        as_json: Print a JSON object.
    """
    options.check()
    asks = is_terminal() and not yes
    if not (asks or yes or dry_run):
        raise UsageError(
            "nothing was set up: there is no terminal to ask at",
            hint="give --yes and --project, or --dry-run to see what would be done",
        )
    setup = choose("init", options, profile, asks=asks)
    outcome = set_up(setup, yes=yes, dry_run=dry_run, as_json=as_json)
    told = _first_run(setup, as_json=as_json) if run and outcome.was_done else None
    if as_json:
        print_outcome(outcome, setup, run=told)
    elif outcome.was_done:
        _print_next()


def _first_run(setup: Setup, *, as_json: bool) -> object:
    print_lines([Line(text="a first run:", style=BOLD, indent=0)])
    leads_elsewhere = contradicting(setup)
    kept = {key: value for key, value in setup.around.environ.items() if key not in leads_elsewhere}
    environ = {**variables_for(setup.prefect, kept), "KINETIC_PROFILE": setup.profile}
    return run_first_function(caller().user or "you", environ, as_json=as_json)


def _print_next() -> None:
    width = max(len(command) for command, _ in NEXT)
    lines = [Line(text=f"{command.ljust(width)}  {what}") for command, what in NEXT]
    print_lines([Line(text="what next:", style=BOLD, indent=0), *lines])
