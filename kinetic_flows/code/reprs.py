"""Arguments as short texts, for people to read: never whole, never secret, never failing."""

from __future__ import annotations

import dataclasses
import inspect
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

MAX_REPR_CHARACTERS = 500
MAX_TOTAL_CHARACTERS = 50_000
"""Far below the half megabyte of parameters that Prefect accepts for a flow run."""

_SECRET_NAME = re.compile(r"passw(or)?d|passphrase|secret|api_?key|credential|(^|_)token$", re.I)


def short_repr(value: Any) -> str:
    """Describe a value in at most `MAX_REPR_CHARACTERS`, whatever its own repr does."""
    try:
        text = _SHORT.repr(value)
    except Exception as error:  # noqa: BLE001 - a repr is other people's code
        text = f"<{type(value).__name__} whose repr raises {type(error).__name__}>"
    if len(text) <= MAX_REPR_CHARACTERS:
        return text
    return text[: MAX_REPR_CHARACTERS - 1] + "…"


def argument_reprs(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, str]:
    """Describe a call's arguments by the names of the function's parameters.

    Args:
        function: The function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        Short reprs by name; a text whose name says that it is a password, a token or a key is
        masked, and what exceeds the total is left out.
    """
    described: dict[str, str] = {}
    left = MAX_TOTAL_CHARACTERS
    for name, value, _ in named_arguments(function, args, kwargs):
        text = _masked(name, value)
        left -= len(name) + len(text)
        if left < 0:
            break
        described[name] = text
    return described


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxlong = self.maxother = 200
        self.maxlevel = 4

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, bytes | bytearray | memoryview):
            return f"<{type(x).__name__} of {memoryview(x).nbytes} bytes>"
        if dataclasses.is_dataclass(x) and not isinstance(x, type) and has_plain_repr(x):
            return self._dataclass(x, level)
        return super().repr1(x, level)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        hidden = {
            key: _Masked() if isinstance(key, str) and is_secret(key, value) else value
            for key, value in list(x.items())[: self.maxdict + 1]
        }
        return super().repr_dict(hidden, level)

    def _dataclass(self, x: Any, level: int) -> str:
        if level <= 0:
            return f"{type(x).__name__}(...)"
        shown = []
        for item in dataclasses.fields(x)[: self.maxdict]:
            if item.repr and hasattr(x, item.name):
                value = getattr(x, item.name)
                text = "***" if is_secret(item.name, value) else self.repr1(value, level - 1)
                shown.append(f"{item.name}={text}")
        return f"{type(x).__name__}({', '.join(shown)})"


class _Masked:
    def __repr__(self) -> str:
        return "***"


_SHORT = _ShortRepr()


def has_plain_repr(value: Any) -> bool:
    """Whether a dataclass has the repr that was generated for it, which is always wrapped."""
    return hasattr(type(value).__repr__, "__wrapped__")


def is_secret(name: str, value: Any) -> bool:
    """Whether a value's name says that it is a password, a token or a key."""
    return isinstance(value, str | bytes) and bool(_SECRET_NAME.search(name))


def _masked(name: str, value: Any) -> str:
    return "***" if is_secret(name, value) else short_repr(value)


def named_arguments(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[tuple[str, Any, str]]:
    """Return a call's arguments by the names of the function's parameters.

    Each has its name, its value, and how its parameter collects: `*`, `**`, or empty.
    """
    try:
        signature = inspect.signature(function)
        bound = signature.bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):
        unnamed = {f"args[{index}]": value for index, value in enumerate(args)}
        return [(name, value, "") for name, value in {**unnamed, **kwargs}.items()]
    return [(name, value, _collecting(signature.parameters[name])) for name, value in bound.items()]


def _collecting(parameter: inspect.Parameter) -> str:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return "*"
    return "**" if parameter.kind is parameter.VAR_KEYWORD else ""
