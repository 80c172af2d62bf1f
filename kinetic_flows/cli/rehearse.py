"""`kinetic rehearse`: whether a function's steps fit accelerators, before any is paid for."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.functions import load_function
from kinetic_flows.cli.outcomes import output_aside
from kinetic_flows.cli.run_options import given_options, option_class
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.settings.accelerator_names import names_in

RehearsedOptions: Any = option_class(
    "RehearsedOptions", __name__, without=("accelerator", "rehearse")
)
"""The options of `kinetic.run` but those two; None for those that are not given."""


def rehearse(
    target: str,
    /,
    *,
    accelerator: Annotated[list[str] | None, Parameter(negative="", show_default=False)] = None,
    as_json: Json = False,
    options: Annotated[RehearsedOptions | None, Parameter(name="*")] = None,
) -> int:
    """Compile a function's steps for accelerators without having any, and print whether they fit.

    The function has a rehearsal, made with `@train.rehearsal`, that says what is compiled. Exits
    with 1 where nothing fits.

    Args:
        target: FILE:FUNCTION, such as train.py:train.
        accelerator: What to compile for, instead of the function's own. May be given several
            times, and several have commas between them.
        as_json: Print a JSON object.
        options: What `with_options` takes.
    """
    function = load_function(target).with_options(**given_options(options))
    names = [name for each in accelerator or () for name in names_in(each)]
    with output_aside():
        found = function.rehearse(names or None)
    if as_json:
        print_json(found.to_json())
    else:
        print(for_terminal(str(found)))
    return 0 if found.fits else 1
