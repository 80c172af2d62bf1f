"""`kinetic runs diff`: what differs between two runs."""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.reading import require_something_to_read
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import process_environment
from kinetic_flows.runs.compare.diff import diff_runs
from kinetic_flows.runs.compare.named import named_run
from kinetic_flows.runs.compare.words import told
from kinetic_flows.runs.session import own_session

_COLOURS = {"+": "\x1b[32m", "-": "\x1b[31m", "@": "\x1b[36m"}
_PLAIN = "\x1b[0m"


def diff(
    before: str,
    after: str,
    /,
    *,
    stat: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
) -> None:
    """Show what differs between two runs: arguments, code, packages, image, result and the rest.

    Nothing is run or unpickled. What has expired is said to be unknown. Runs of different platforms
    can be compared, too.

    Args:
        before: The first run: its id, the part of it that is shown, or its URL.
        after: The second run, likewise.
        stat: Only name the files that differ, without their lines.
        as_json: Print a JSON object.
    """
    require_something_to_read()
    with own_session(NullProgress()) as session:
        one, other = (named_run(each, session) for each in (before, after))
        found = diff_runs(one, other, session)
    if as_json:
        print_json(found.to_json())
    else:
        print(coloured(told(found, lines=not stat)))


def coloured(text: str) -> str:
    """Return a text with its changed lines in colour, where a terminal shows it that may."""
    if not sys.stdout.isatty() or process_environment().get("NO_COLOR"):
        return text
    return "\n".join(_line(line) for line in text.splitlines())


def _line(line: str) -> str:
    colour = _COLOURS.get(line[:1])
    return f"{colour}{line}{_PLAIN}" if colour else line
