"""Whether a call's arguments fit its function."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from kinetic_flows.core.api_boundary import raise_what_function_raised
from kinetic_flows.core.errors import UsageError
from kinetic_flows.plans.outputs import check_fields

if TYPE_CHECKING:
    from kinetic_flows.plans.draft import Call


def check_arguments(call: Call) -> None:
    """Refuse arguments that do not fit, as calling the function here would.

    Raises:
        TypeError: They do not.
        UsageError: The output directory names one that there is not.
    """
    check_fields(call.function, call.options)
    signature = inspect.signature(call.function)
    bind = signature.bind_partial if call.may_lack_arguments else signature.bind
    try:
        bind(*call.args, **call.kwargs)
    except TypeError as error:
        text = f"{call.name}{_names_of(signature)}: {error}"
    else:
        return
    raise_what_function_raised(TypeError(text), None)


def check_rehearsal(call: Call) -> None:
    """Refuse to ask for the rehearsal of a function that has none.

    Raises:
        UsageError: It is asked for.
    """
    if call.options.rehearse and call.rehearsal is None:
        raise UsageError(
            f"rehearse=True asks for a rehearsal of {call.name}, and it has none",
            value=call.name,
            hint=f"name the steps it compiles, below `@{call.name}.rehearsal`; see "
            "docs/rehearsal.md",
        )


def _names_of(signature: inspect.Signature) -> str:
    """Return a signature without its types, which may be long, and its defaults."""
    empty = inspect.Parameter.empty
    bare = [each.replace(annotation=empty, default=empty) for each in signature.parameters.values()]
    return str(inspect.Signature(bare))
