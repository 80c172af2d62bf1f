"""What `--json` and `--jsonl` print: documents on standard output, and nothing beside them.

`--json` prints one document, an object or a list, also when the command fails; `--jsonl` prints an
object for each line of a stream. Texts are ASCII, so that no locale can damage them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

from cyclopts import Parameter

from kinetic_flows.core.errors import KineticError, RunError, RunFailed, UsageError

Json = Annotated[bool, Parameter(name="--json", negative="")]
"""The option of a command that prints a document where it is given, and has no opposite."""

_commands: list[bool] = [False]
"""Whether the command has printed its document."""


def begin_command() -> None:
    """Note that a command begins, which has printed no document."""
    _commands[:] = [False]


def has_printed() -> bool:
    """Whether the command has printed its document."""
    return _commands[-1]


def print_json(document: Any) -> None:
    """Print a command's one document."""
    _commands[:] = [True]
    print(json.dumps(document, indent=2))


def print_records(records: Iterable[Any], *, as_json: bool, as_json_lines: bool) -> bool:
    """Print records for machines, if they are asked for; return whether they were.

    Args:
        records: The records, taken as they are printed.
        as_json: Print them as one list, at the end.
        as_json_lines: Print each on a line of its own, as it comes.

    Raises:
        UsageError: Both are asked for.
    """
    if as_json and as_json_lines:
        raise UsageError("--json and --jsonl do not go together", hint="leave one of them out")
    if as_json:
        print_json(list(records))
    elif as_json_lines:
        _commands[:] = [True]
        for record in records:
            print(json.dumps(record), flush=True)
    return as_json or as_json_lines


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; what it cannot is described by its repr."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value


def error_document(error: KineticError, **told: Any) -> dict[str, Any]:
    """Return the document of a command that failed.

    Args:
        error: What is raised. Of what a function raised, type and message are the function's.
        **told: What else is known, such as the run's id.
    """
    cause = error.__cause__
    if not isinstance(error, RunFailed) or cause is None or isinstance(cause, KineticError):
        kind, message = type(error).__name__, error.message
    else:
        kind, message = type(cause).__name__, str(cause)
    described: dict[str, Any] = {
        "type": kind,
        "message": message,
        "value": plain(error.value),
        "hint": error.hint,
        "exit_code": error.exit_code,
    }
    if isinstance(error, RunError):
        described["traceback"] = error.remote_traceback
    return {**told, "error": described}
