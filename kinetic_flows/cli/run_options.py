"""Options of `kinetic.run` on the command line: a dataclass whose fields a command takes."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from difflib import get_close_matches
from itertools import takewhile
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from cyclopts import Parameter

from kinetic_flows.api.decorator import run
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


def _option_fields(without: Sequence[str]) -> list[tuple[str, Any, Any]]:
    """Return a field for each option of `kinetic.run`, with the first sentence said of it."""
    told = dict(_DOCUMENTED.findall(inspect.getdoc(run) or ""))
    made = []
    for name, hint in get_type_hints(Options).items():
        if name in without:
            continue
        first, *_ = _END_OF_SENTENCE.split(" ".join(told.get(name, "").split()))
        shown = first.replace("`", "")
        if name in LISTED:
            shown += " Several have commas between them."
        parameter = Parameter(help=shown, negative="", show_default=False, group=OPTIONS)
        kind: Any = Annotated[_option_type(hint) | None, parameter]
        made.append((name, kind, field(default=None)))
    return made


def option_class(name: str, module: str, *, without: Sequence[str] = ()) -> Any:
    """Return a dataclass with the options of `kinetic.run`, None for those that are not given.

    Args:
        name: Its name.
        module: The module that has it. Cyclopts takes a class of the standard library for one
            value, and until Python 3.12 a dataclass that is made so says that it is of `types`.
        without: Options that the command has otherwise.
    """
    made: Any = make_dataclass(name, _option_fields(without), frozen=True, kw_only=True)
    made.__module__ = module
    return made


def given_options(options: Any) -> Mapping[str, Any]:
    """Return the options that were given, as `with_options` takes them.

    Args:
        options: A value of a class that `option_class` made; None for no options.

    Raises:
        UsageError: Requirements begin as a JSON list, and are none.
    """
    if options is None:
        return {}
    said = {item.name: getattr(options, item.name) for item in fields(options)}
    said["requirements"] = _path_or_list(said["requirements"])
    for name in (name for name in LISTED if name in said):
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


def meant_option(tokens: tuple[str, ...]) -> str | None:
    """Return the option of ours that the first misspelt one is nearest to; None for none."""
    known = [name.replace("_", "-") for name in get_type_hints(Options)]
    given = takewhile(lambda each: each != "--", tokens)
    words = (each[2:].partition("=")[0] for each in given if each.startswith("--"))
    near = (get_close_matches(word, known, n=1, cutoff=0.75) for word in words)
    return next((f"--{found[0]}" for found in near if found), None)
