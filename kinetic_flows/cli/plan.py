"""`kinetic plan`: what a call of a function would do, told before anything is done."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from difflib import get_close_matches
from itertools import takewhile
from shutil import get_terminal_size
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from kinetic_flows.api.decorator import run
from kinetic_flows.api.remote_function import RemoteFunction
from kinetic_flows.cli.documents import print_json
from kinetic_flows.cli.functions import load_function, parse_call
from kinetic_flows.core.display import for_terminal
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.option_list import Options
from kinetic_flows.core.settings.accelerator_names import names_in

OPTIONS = "Options of kinetic.run, in place of the function's"

LISTED = ("accelerator", "zones")
"""Options that are one name or several."""

_DOCUMENTED = re.compile(r"^ {4}(\w+): (.+(?:\n {8,}.+)*)", re.MULTILINE)
_END_OF_SENTENCE = re.compile(r"(?<=\.)\s+(?=[A-Z])")


def _option_type(hint: Any) -> Any:
    """Return what an option is on the command line: one of its types that a text can spell."""
    is_union = get_origin(hint) in (Union, UnionType)
    kinds = [each for each in (get_args(hint) if is_union else (hint,)) if each is not type(None)]
    if all(get_origin(each) is Literal for each in kinds):
        return kinds[0]
    for plain in (bool, int, float):
        if plain in kinds:
            return plain
    if kinds == [Sequence[str]]:
        return list[str]
    return str


def _option_fields() -> list[tuple[str, Any, Any]]:
    """Return a field for each option of `kinetic.run`, with the first sentence said of it."""
    told = dict(_DOCUMENTED.findall(inspect.getdoc(run) or ""))
    made = []
    for name, hint in get_type_hints(Options).items():
        first, *_ = _END_OF_SENTENCE.split(" ".join(told.get(name, "").split()))
        shown = first.replace("`", "")
        if name in LISTED:
            shown += " Several have commas between them."
        parameter = Parameter(help=shown, negative="", show_default=False, group=OPTIONS)
        kind: Any = Annotated[_option_type(hint) | None, parameter]
        made.append((name, kind, field(default=None)))
    return made


GivenOptions: Any = make_dataclass("GivenOptions", _option_fields(), frozen=True, kw_only=True)
"""Every option of `kinetic.run`; None for those that are not given."""

# Cyclopts takes a class of the standard library for one value, and until Python 3.12 a dataclass
# that is made so says that it is of the module `types`.
GivenOptions.__module__ = __name__


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
    function = function.with_options(**_given(options))
    args, kwargs = _arguments(function, target, arguments)
    decided = function.plan(*args, **kwargs)
    if as_json:
        print_json(decided.to_json())
        return
    columns = get_terminal_size().columns if sys.stdout.isatty() else None
    print(for_terminal(decided.explain(files=files, columns=columns)))


def _given(options: Any) -> Mapping[str, Any]:
    """Return the options that were given, as `with_options` takes them."""
    if options is None:
        return {}
    said = {item.name: getattr(options, item.name) for item in fields(options)}
    said["requirements"] = _path_or_list(said["requirements"])
    for name in LISTED:
        listed = names_in(said[name]) if said[name] is not None else ()
        said[name] = (listed if len(listed) > 1 else listed[0]) if listed else None
    return {name: value for name, value in said.items() if value is not None}


def _path_or_list(text: str | None) -> str | list[str] | None:
    """Return requirements as they are told: a path, or a JSON list of them.

    Raises:
        UsageError: It begins as a list, and is none.
    """
    if text is None or not text.startswith("["):
        return text
    try:
        listed: list[str] = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"--requirements is {text!r}",
            value=text,
            hint="""give a path, or a JSON list such as '["numpy>=2"]'""",
        ) from error
    return listed


def _arguments(
    function: RemoteFunction[..., Any], target: str, tokens: tuple[str, ...]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not tokens:
        return (), {}
    try:
        return parse_call(function.fn, tokens, target=target)
    except UsageError as error:
        meant = _meant_option(tokens)
        if meant is None:
            raise
        hint = f"did you mean the option {meant}?"
        raise UsageError(error.message, value=error.value, hint=hint) from error


def _meant_option(tokens: tuple[str, ...]) -> str | None:
    """Return the option of ours that the first misspelt one is nearest to; None for none."""
    known = [name.replace("_", "-") for name in get_type_hints(Options)]
    given = takewhile(lambda each: each != "--", tokens)
    words = (each[2:].partition("=")[0] for each in given if each.startswith("--"))
    near = (get_close_matches(word, known, n=1, cutoff=0.75) for word in words)
    return next((f"--{found[0]}" for found in near if found), None)
