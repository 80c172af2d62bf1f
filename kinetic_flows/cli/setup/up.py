"""`kinetic up`: what runs need on Google Cloud, made as it is wanted."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from kinetic_flows.cli.documents import Json
from kinetic_flows.cli.questions import is_terminal
from kinetic_flows.cli.setup.flow import choose, print_outcome, set_up
from kinetic_flows.cli.setup.options import NOTHING_SAID, SetupOptions
from kinetic_flows.core.errors import UsageError


def up(
    options: SetupOptions = NOTHING_SAID,
    *,
    profile: str | None = None,
    yes: Annotated[bool, Parameter(alias="-y", negative=())] = False,
    dry_run: Annotated[bool, Parameter(negative=())] = False,
    as_json: Json = False,
) -> None:
    """Make what runs need on Google Cloud, or bring it to what is wanted.

    It compares what is wanted with what is there, prints the difference and what it costs, asks,
    and changes only what differs. What is there and not named stays: `kinetic down` removes all
    of it.

    Args:
        options: What is wanted; the rest is as it is, or as it is by default.
        profile: Name of the profile that remembers the choices; the cluster's name by default.
        yes: Do not ask.
        dry_run: Print every action and what it will cost, and do nothing.
        as_json: Print a JSON object.
    """
    options.check()
    if not (is_terminal() or yes or dry_run):
        raise UsageError(
            "nothing was changed: there is no terminal to ask at",
            hint="give --yes, or --dry-run to see what would be done",
        )
    setup = choose("up", options, profile, asks=False)
    outcome = set_up(setup, yes=yes, dry_run=dry_run, as_json=as_json)
    if as_json:
        print_outcome(outcome, setup)
