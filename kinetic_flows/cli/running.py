"""Running one command: its errors become a sentence and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyclopts import CycloptsError

from kinetic_flows.cli.commands import app
from kinetic_flows.cli.documents import begin_command, error_document, has_printed, print_json
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.errors import KineticError, UsageError, note_doctor
from kinetic_flows.core.home import usable_home
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.settings.settings import is_debugging

if TYPE_CHECKING:
    from kinetic_flows.core import keras_kinetic
else:
    keras_kinetic = LazyModule("kinetic_flows.core.keras_kinetic")

HELP_FLAGS = ("--help", "-h")


def run_command(arguments: Sequence[str]) -> int | str | None:
    """Run a command and return the code to exit with.

    Args:
        arguments: What follows `kinetic`.
    """
    _accept_every_character()
    begin_command()
    try:
        with usable_home():
            app(_helping(arguments), print_error=False, exit_on_error=False)
    except SystemExit as end:
        # Rich makes an exit of 1 of a closed pipe.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        return end.code
    except CycloptsError as error:
        return _told(_usage_error(error, arguments), arguments)
    except KineticError as error:
        return _told(error, arguments)
    return 0


def _helping(arguments: Sequence[str]) -> list[str]:
    """Return the arguments such that `--help` behind a function asks for the function's help.

    It is asked for by `-h`, as `--help` may be a parameter of the function.
    """
    given = list(arguments)
    if given[:1] != ["run"]:
        return given
    own = given.index("--") if "--" in given else len(given)
    target = next((at for at in range(1, own) if not given[at].startswith("-")), own)
    asked = next((at for at in range(target, own) if given[at] in HELP_FLAGS), None)
    return given if asked is None else [*given[: target + 1], "--", "-h"]


def _told(error: KineticError, arguments: Sequence[str]) -> int:
    """Print an error, for machines as well where they are to read the output."""
    # What follows is another command's, as in `kinetic runs exec`.
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in own and not has_printed():
        print_json(error_document(error))
    if is_debugging():
        traceback.print_exception(error)
    if arguments[:1] != ["doctor"]:
        note_doctor(error)
    lines = (f"kinetic: {error}", *(f"  {note}" for note in getattr(error, "__notes__", ())))
    print(for_terminal("\n".join(lines)), file=sys.stderr)
    return error.exit_code


def _usage_error(error: CycloptsError, arguments: Sequence[str]) -> UsageError:
    """Return what is wrong with the command line, in the form that all errors have."""
    chain = " ".join(["kinetic", *(error.command_chain or ())])
    # The list of commands is cut short, and the hint leads to all of them.
    told = " ".join(str(error).split()).partition(" Available commands:")[0]
    hint = keras_kinetic.command_hint(arguments, told) or f"see `{chain} --help`"
    return UsageError(told[:1].lower() + told[1:].rstrip("."), hint=hint)


def _accept_every_character() -> None:
    """Have characters written out that the encoding of a stream lacks."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure and "utf" not in (stream.encoding or "").lower():
            reconfigure(errors="backslashreplace")
