"""`kinetic plan`: what a call of a function would do, told before anything is done."""

from __future__ import annotations

import sys
from shutil import get_terminal_size
from typing import Annotated, Any

from cyclopts import Parameter

from kinetic_flows.api.remote_function import RemoteFunction
from kinetic_flows.cli.documents import print_json
from kinetic_flows.cli.functions import load_function, parse_call
from kinetic_flows.cli.run_options import given_options, meant_option, option_class
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.errors import UsageError

GivenOptions: Any = option_class("GivenOptions", __name__)
"""Every option of `kinetic.run`; None for those that are not given."""


def plan(
    target: str,
    /,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    files: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
    options: Annotated[GivenOptions | None, Parameter(name="*")] = None,
) -> None:
    """Print what a call of a function would do, and do nothing of it.

    Args:
        target: FILE:FUNCTION, such as train.py:train.
        arguments: What the function would be called with, as `kinetic run` takes it; may be left
            out. After -- every option is the function's.
        files: List every file that ships, with its size.
        as_json: Print a JSON object instead of text.
        options: What `with_options` takes.
    """
    function = load_function(target)
    function = function.with_options(**given_options(options))
    args, kwargs = _arguments(function, target, arguments)
    decided = function.plan(*args, **kwargs)
    if as_json:
        print_json(decided.to_json())
        return
    columns = get_terminal_size().columns if sys.stdout.isatty() else None
    print(for_terminal(decided.explain(files=files, columns=columns)))


def _arguments(
    function: RemoteFunction[..., Any], target: str, tokens: tuple[str, ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not tokens:
        return (), {}
    try:
        return parse_call(function.fn, tokens, target=target)
    except UsageError as error:
        meant = meant_option(tokens)
        if meant is None:
            raise
        hint = f"did you mean the option {meant}?"
        raise UsageError(error.message, value=error.value, hint=hint) from error
