"""What programs use: the public names, what they take, and the errors they catch."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_type_hints

import kinetic
from kinetic_flows.api.deployment import Deployment
from kinetic_flows.core.errors import KineticError, RunError, UsageError
from kinetic_flows.core.options import RunOptions

NEVER_SEEN = ("RunDidNotReturn",)
"""Errors that go no further than from one of our tasks to its flow."""

Section = Mapping[str, Any]


def public_names() -> Section:
    """Return the public names and what their classes have, by name."""
    found: dict[str, Any] = {}
    handles = [Deployment]
    for name in kinetic.__all__:
        value = getattr(kinetic, name)
        if inspect.isclass(value):
            handles.append(value)
        else:
            found[name] = signature(value)
    for kind in handles:
        found |= {f"{kind.__name__}.{name}": text for name, text in _members(kind)}
    reached: list[type] = [*handles, RunOptions]
    seen: set[type] = set()
    while reached:
        kind = reached.pop()
        if kind in seen:
            continue
        seen.add(kind)
        found[kind.__name__] = ", ".join(base.__name__ for base in kind.__bases__)
        found |= {f"{kind.__name__}.{name}": text for name, text in _fields(kind)}
        reached += _kinds_in_fields(kind)
    return found


def _kinds_in_fields(kind: type) -> Iterator[type]:
    """Yield the classes of ours that a dataclass's fields hold."""
    waiting = list(get_type_hints(kind).values()) if is_dataclass(kind) else []
    while waiting:
        hint = waiting.pop()
        waiting += get_args(hint)
        if inspect.isclass(hint) and is_dataclass(hint):
            yield hint


def _fields(kind: type) -> Iterator[tuple[str, str]]:
    for item in fields(kind) if is_dataclass(kind) else ():
        if item.default_factory is not MISSING:
            yield item.name, "field, made when it is not given"
        else:
            yield item.name, "field" if item.default is MISSING else f"field = {item.default!r}"


def _members(kind: type) -> Iterator[tuple[str, str]]:
    """Yield the methods, properties and constants of a class."""
    held = {name for name, _ in _fields(kind)}
    for owner in reversed([each for each in kind.__mro__ if _is_ours(each)]):
        for name, value in vars(owner).items():
            if name in held or (name.startswith("_") and name not in ("__call__", "__await__")):
                continue
            if isinstance(value, property):
                yield name, "property"
            else:
                yield name, signature(value) if callable(value) else f"= {value!r}"


def _is_ours(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in ("kinetic", "kinetic_flows")


def signature(function: Any) -> str:
    """Return a signature as text, without annotations, and without names that nobody passes."""
    named = inspect.signature(function)
    plain = [each.replace(annotation=each.empty) for each in named.parameters.values()]
    text = str(named.replace(parameters=plain, return_annotation=named.empty))
    return re.sub(r"\*\*\w+", "**", re.sub(r"(?<!\*)\*(?!\*)\w+", "*args", text))


def options() -> Section:
    """Return what calls say that they take when they are given what they do not."""

    @kinetic.run
    def function() -> None: ...

    found = {}
    for name, call in {
        "kinetic.run": lambda: kinetic.run(zzz=1),  # type: ignore[call-overload]
        "with_options": lambda: function.with_options(zzz=1),  # type: ignore[call-arg]
        "map": lambda: function.map([], zzz=1),  # type: ignore[call-overload]
    }.items():
        try:
            call()
        except UsageError as error:
            found[name] = error.hint
    return found


def error_classes() -> list[type[KineticError]]:
    """Return the errors of every module that has been imported."""
    found, waiting = [], [KineticError]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if _is_ours(kind) and not kind.__name__.startswith("_") and kind.__name__ not in NEVER_SEEN:
            found.append(kind)
    return found


def error_told(kind: type[KineticError]) -> Section:
    """Return what a program knows of an error that it catches."""
    is_plain = kind.__init__ in (KineticError.__init__, RunError.__init__)
    told = {
        "exit code": kind.exit_code,
        "is": [each.__name__ for each in kind.__mro__[1:] if _is_ours(each)],
    }
    if not is_plain:
        return told
    made_with, attributes = signature(kind.__init__), sorted(vars(kind("sentence")))
    return {**told, "made with": made_with, "attributes": attributes}
