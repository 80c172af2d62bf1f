"""What a function's annotations mean in a run, as far as it can be found out.

The client's side, which makes the schema of the same parameters, is
`kinetic_flows/core/signatures.py`.
"""

from __future__ import annotations

import functools
import operator
import sys
import typing
from collections.abc import Mapping
from typing import Any


def hints_of(function: Any) -> Mapping[str, Any]:
    """Return the annotations of a function, each evaluated if it can be."""
    import inspect

    target = inspect.unwrap(getattr(function, "__func__", function))
    target = getattr(target, "fn", target)
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are other people's code
        hints = getattr(target, "__annotations__", {})
        return {name: _evaluated(hint, target) for name, hint in hints.items()}


def readable(annotation: Any) -> Any:
    """Return an annotation that pydantic takes: before Python 3.12 it refuses typing's TypedDict.

    https://docs.pydantic.dev/latest/errors/usage_errors/#typed-dict-version
    """
    return annotation if sys.version_info >= (3, 12) else _readable(annotation, ())


def _readable(annotation: Any, within: tuple[Any, ...]) -> Any:
    if typing.is_typeddict(annotation):
        return dict if annotation in within else _typed_dict(annotation, (*within, annotation))
    if hasattr(annotation, "__supertype__"):
        return _readable(annotation.__supertype__, within)
    arguments = typing.get_args(annotation)
    changed = tuple(_readable(each, within) for each in arguments)
    if changed == arguments:
        return annotation
    origin: Any = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return typing.Annotated[(changed[0], *annotation.__metadata__)]
    if origin is typing.Union or getattr(origin, "__name__", "") == "UnionType":
        return functools.reduce(operator.or_, changed)
    if hasattr(annotation, "copy_with"):
        return annotation.copy_with(changed)
    return origin[changed]


def _typed_dict(kind: Any, within: tuple[Any, ...]) -> Any:
    from typing import NotRequired, Required

    from typing_extensions import TypedDict, get_type_hints

    fields: dict[str, Any] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        mark = getattr(typing.get_origin(hint), "_name", "")
        is_marked = mark in ("Required", "NotRequired")
        value = typing.get_args(hint)[0] if is_marked else hint
        is_required = mark == "Required" if is_marked else name in kind.__required_keys__
        fields[name] = (Required if is_required else NotRequired)[_readable(value, within)]
    make: Any = TypedDict
    return make(kind.__name__, fields)


def _evaluated(hint: Any, target: Any) -> Any:
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, dict(target.__globals__))  # noqa: S307 - as the interpreter does
    except Exception:  # noqa: BLE001 - annotations are other people's code
        return hint
