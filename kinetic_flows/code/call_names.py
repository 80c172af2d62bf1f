"""What runs are called: their function and the arguments that tell them apart.

`train(rate=0.1)`, at most `NAME_CHARACTERS` long, on one line, secrets masked as they are where
arguments are shown. Of the inputs of a sweep only those arguments are named that differ, also
within mappings, lists and dataclasses: `train(model.depth=3)`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kinetic_flows.code.reprs import has_plain_repr, is_secret, named_arguments, short_repr
from kinetic_flows.core.display import for_line

NAME_CHARACTERS = 60
"""How long a run's name is at most: as much as lists of runs show. Prefect has no limit (3.8.8)."""

VALUE_CHARACTERS = range(NAME_CHARACTERS, 15, -1)
"""How long a value may be, tried in this order until all fit; then the last are left out."""

FLOAT_CHARACTERS = 10
"""How long a float may be before it is rounded: 0.1 * 3 is 0.3 here."""

_LEAVES = 32
_LEVELS = 4
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_FIRST = ("self", "cls")


def call_name(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str:
    """Return the name of the run of one call.

    Args:
        name: The function's name.
        function: The function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """
    return _assembled(name, _arguments(function, args, kwargs))


def parameters_name(name: str, parameters: Mapping[str, Any]) -> str:
    """Return the name of a deployment's run; its runner gives runs that have none the same.

    Args:
        name: The function's name.
        parameters: JSON values by name.
    """
    return _assembled(name, {path: _text(path, value) for path, value in parameters.items()})


class SweepNames:
    """Names the runs of a sweep by the arguments in which its inputs differ.

    Args:
        name: The function's name.
        function: The function.
        samples: Some of the inputs' positional and keyword arguments, for what differs among
            them; what others differ in is noticed as they come.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        samples: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]] = (),
    ) -> None:
        self._name = name
        self._function = function
        self._first: dict[str, str] | None = None
        self._differing: set[str] = set()
        self._given: set[int] = set()
        for args, kwargs in samples:
            self._compare(self._leaves(args, kwargs))

    def name(self, index: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Return the name of an input's run; an input named like one before has its place, too.

        Args:
            index: The input's place, from 0.
            args: Its positional arguments.
            kwargs: Its keyword arguments.
        """
        leaves = self._leaves(args, kwargs)
        self._compare(leaves)
        shown = {path: text for path, text in leaves.items() if path in self._differing}
        shown = shown or _arguments(self._function, args, kwargs)
        name = _assembled(self._name, shown)
        if hash(name) in self._given:
            name = _assembled(f"{self._name}[{index}]", shown)
        self._given.add(hash(name))
        return name

    def _compare(self, leaves: Mapping[str, str]) -> None:
        if self._first is None:
            self._first = dict(leaves)
        first = self._first
        paths = (path for path in leaves if first.get(path) != leaves[path])
        self._differing.update(paths)

    def _leaves(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, str]:
        found: dict[str, str] = {}
        for path, key, value in _top_level(self._function, args, kwargs):
            parts = dict(_leaves_of(path, key, value, _LEVELS))
            found |= parts if len(parts) <= _LEAVES else {path: _text(key, value)}
        return found


def retried_name(name: str) -> str:
    """Return the name of a run that repeats the run of another name."""
    found = re.fullmatch(r"(.*) \(retry(?: (\d+))?\)", name)
    if found is None:
        return f"{name} (retry)"
    return f"{found[1]} (retry {int(found[2] or 1) + 1})"


def _arguments(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, str]:
    return {path: _text(key, value) for path, key, value in _top_level(function, args, kwargs)}


def _top_level(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[tuple[str, str, Any]]:
    """Yield the path, key and value of each argument, those that are collected one by one.

    What `*args` collects has a place for a path, which is not shown.
    """
    named = named_arguments(function, args, kwargs)
    for position, (name, value, collects) in enumerate(named):
        if position == 0 and name in _FIRST:
            continue
        if collects == "*":
            yield from ((f"[{index}]", name, item) for index, item in enumerate(value))
        elif collects == "**":
            yield from ((str(key), str(key), item) for key, item in value.items())
        else:
            yield name, name, value


def _leaves_of(path: str, key: str, value: Any, levels: int) -> Iterator[tuple[str, str]]:
    """Yield the paths and texts of what a value is made of, no more than are compared."""
    parts = _parts(value) if levels and not is_secret(key, value) else None
    if not parts:
        yield path, _text(key, value)
        return
    count = 0
    for step, name, part in parts:
        for leaf in _leaves_of(f"{path}{step}", name or key, part, levels - 1):
            yield leaf
            count += 1
            if count > _LEAVES:
                return


def _parts(value: Any) -> list[tuple[str, str, Any]] | None:
    """Return the step, name and value of each part; None for what has none, or too many."""
    if type(value) is dict:
        items = [(_step(key), str(key), part) for key, part in value.items()]
    elif _is_described(value):
        names = [item.name for item in dataclasses.fields(value) if item.repr]
        items = [(f".{name}", name, getattr(value, name, None)) for name in names]
    elif type(value) in (list, tuple):
        items = [(f"[{index}]", "", part) for index, part in enumerate(value[: _LEAVES + 1])]
    else:
        return None
    return items if len(items) <= _LEAVES else None


def _is_described(value: Any) -> bool:
    """Whether a value's repr tells its fields."""
    is_dataclass = dataclasses.is_dataclass(value) and not isinstance(value, type)
    return is_dataclass and has_plain_repr(value)


def _step(key: Any) -> str:
    is_name = isinstance(key, str) and key.isidentifier()
    return f".{key}" if is_name else f"[{short_repr(key)}]"


def _text(key: str, value: Any) -> str:
    """Return a value on one line, without what differs in each process."""
    if type(value) is float and len(repr(value)) > FLOAT_CHARACTERS:
        return f"{value:.6g}"
    text = "***" if is_secret(key, value) else short_repr(value)
    return _ADDRESS.sub("", _on_one_line(text))


def _on_one_line(text: str) -> str:
    return " ".join(for_line(text).split())


def _assembled(name: str, arguments: Mapping[str, str]) -> str:
    """Return a function's name and its arguments, as much of them as fits."""
    name = shortened(_on_one_line(name), NAME_CHARACTERS - 2)
    room = NAME_CHARACTERS - len(name) - 2
    first = list(arguments.items())[:NAME_CHARACTERS]
    shown: list[str] = []
    for limit in VALUE_CHARACTERS:
        shown = [_label(path) + shortened(text, limit) for path, text in first]
        if len(", ".join(shown)) <= room:
            return f"{name}({', '.join(shown)})"
    return f"{name}({_first_of(shown, room)})"


def _label(path: str) -> str:
    return "" if path.startswith("[") else f"{_on_one_line(path)}="


def _first_of(shown: Sequence[str], room: int) -> str:
    """Return the first of some texts, as many as fit, and a sign that there are more."""
    for count in range(len(shown) - 1, 0, -1):
        text = ", ".join([*shown[:count], "…"])
        if len(text) <= room:
            return text
    return "…" if room else ""


def shortened(text: str, limit: int) -> str:
    """Return a text of at most so many characters: its beginning and its end."""
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"
