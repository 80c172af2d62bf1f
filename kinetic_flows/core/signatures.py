"""What a function's annotations mean, as far as it can be found out."""

from __future__ import annotations

import functools
import inspect
import operator
import re
import sys
import typing
from collections.abc import Callable, Mapping
from types import FrameType, FunctionType, UnionType
from typing import Annotated, Any, Union

_OWN_PACKAGE = __name__.partition(".")[0]


def resolved_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature with annotations that are text evaluated, each that can be."""
    signature = inspect.signature(function)
    hints = _hints(function)
    parameters = [
        each.replace(annotation=hints.get(each.name, each.annotation))
        for each in signature.parameters.values()
    ]
    return signature.replace(parameters=parameters)


def resolve_local_names(function: Any) -> None:
    """Evaluate annotations that are text and name what only the enclosing function knows.

    It cannot be done later: a class that is local to a function is in no module.

    Args:
        function: A function that is being decorated; its annotations are changed.
    """
    annotations = getattr(function, "__annotations__", None)
    if not isinstance(function, FunctionType) or "<locals>" not in function.__qualname__:
        return
    if not any(isinstance(each, str) for each in (annotations or {}).values()):
        return
    frame = _frame_of_caller()
    if frame is None or frame.f_code.co_name == "<module>":
        return
    for name, text in function.__annotations__.items():
        if isinstance(text, str) and _evaluated(text, function.__globals__, {}) is None:
            found = _evaluated(text, function.__globals__, frame.f_locals)
            function.__annotations__[name] = text if found is None else found


class AsWritten(str):
    """An annotation as the source has it, which signatures show without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


UNCHANGED = AsWritten("<unchanged>")
"""What is shown as the default of an option that stays as it is."""


def spell_out(function: Any, options: type, defaults: Mapping[str, Any]) -> None:
    """Have a function that takes options by `**` show each as a parameter of its own.

    `help()`, Shift-Tab in a notebook and whatever else asks for the signature see names, types and
    defaults. How it is called stays as it is: it says itself what is wrong with an option.

    Args:
        function: The function; its `__signature__` is set.
        options: The TypedDict of its options, of a module whose annotations are text.
        defaults: What is shown as their defaults, by name; `UNCHANGED` for those that are missing.
    """
    plain = inspect.signature(function)
    kept = [
        each.replace(annotation=_as_written(each.annotation))
        for each in plain.parameters.values()
        if each.kind is not each.VAR_KEYWORD
    ]
    named = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(name, UNCHANGED),
            annotation=_with_choices(_as_written(hint), vars(sys.modules[options.__module__])),
        )
        for name, hint in options.__annotations__.items()
    ]
    returned = _as_written(plain.return_annotation)
    function.__signature__ = plain.replace(
        parameters=[*kept, *named], return_annotation=plain.empty if returned == "Any" else returned
    )


def _with_choices(annotation: Any, variables: Mapping[str, Any]) -> Any:
    """Return an annotation with the words to choose from in place of their type's name."""

    def chosen(found: re.Match[str]) -> str:
        meant = variables.get(found[0])
        if typing.get_origin(meant) is not typing.Literal:
            return found[0]
        return f"Literal[{', '.join(map(repr, typing.get_args(meant)))}]"

    return AsWritten(re.sub(r"\b[A-Z]\w+", chosen, annotation))


def _as_written(annotation: Any) -> Any:
    written = getattr(annotation, "__forward_arg__", annotation)
    return AsWritten(written) if isinstance(written, str) else annotation


def readable(annotation: Any) -> Any:
    """Return an annotation that pydantic takes: before Python 3.12 it refuses typing's TypedDict.

    https://docs.pydantic.dev/latest/errors/usage_errors/#typed-dict-version
    """
    return annotation if sys.version_info >= (3, 12) else _readable(annotation, ())


def _readable(annotation: Any, within: tuple[Any, ...]) -> Any:
    if typing.is_typeddict(annotation):
        is_recursive = annotation in within
        return dict if is_recursive else _typed_dict(annotation, (*within, annotation))
    supertype = getattr(annotation, "__supertype__", None)
    if supertype is not None:
        return _readable(supertype, within)
    arguments = typing.get_args(annotation)
    changed = tuple(_readable(each, within) for each in arguments)
    if changed == arguments:
        return annotation
    origin: Any = typing.get_origin(annotation)
    if origin is Annotated:
        return Annotated[(changed[0], *annotation.__metadata__)]
    if origin in (Union, UnionType):
        return functools.reduce(operator.or_, changed)
    if hasattr(annotation, "copy_with"):
        return annotation.copy_with(changed)
    return origin[changed]


def _typed_dict(kind: Any, within: tuple[Any, ...]) -> Any:
    from typing import NotRequired, Required

    from typing_extensions import TypedDict

    fields = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        origin = typing.get_origin(hint)
        is_marked = origin in (typing.Required, typing.NotRequired)
        value = typing.get_args(hint)[0] if is_marked else hint
        is_required = origin is typing.Required if is_marked else name in kind.__required_keys__
        fields[name] = (Required if is_required else NotRequired)[_readable(value, within)]
    make: Any = TypedDict
    made = make(kind.__name__, fields)
    made.__doc__ = kind.__doc__
    return made


def _hints(function: Any) -> Mapping[str, Any]:
    """Return the annotations of a function, each evaluated if it can be."""
    target = inspect.unwrap(getattr(function, "__func__", function))
    target = getattr(target, "fn", target)
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are other people's code
        return _hints_one_by_one(target)


def _hints_one_by_one(target: Any) -> Mapping[str, Any]:
    variables = getattr(target, "__globals__", {})
    hints = dict(getattr(target, "__annotations__", {}))
    for name, hint in hints.items():
        found = _evaluated(hint, variables, {}) if isinstance(hint, str) else hint
        hints[name] = hint if found is None else found
    return hints


def _evaluated(text: str, variables: Mapping[str, Any], names: Mapping[str, Any]) -> Any:
    """Return what an annotation means; None when that cannot be told."""
    try:
        return eval(text, dict(variables), dict(names))  # noqa: S307 - as the interpreter does
    except Exception:  # noqa: BLE001 - annotations are other people's code
        return None


def _frame_of_caller() -> FrameType | None:
    """Return the nearest frame that is not this package's."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - documented
    while frame is not None:
        if str(frame.f_globals.get("__name__")).partition(".")[0] != _OWN_PACKAGE:
            return frame
        frame = frame.f_back
    return None
