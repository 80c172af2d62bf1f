"""The digest of a call's arguments, by which an output directory finds them again.

It is the same in every process: it is made of what a value consists of, and not of how a pickler
happened to share equal parts of it, or to name a class of `__main__`.
"""

from __future__ import annotations

import hashlib
import inspect
import pickle
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.output_dirs import HASH_CHARACTERS, plain_arguments_hash

PROTOCOL = 5


def all_arguments(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a call's arguments by the names of the function's parameters, defaults included."""
    bound = inspect.signature(function).bind_partial(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def arguments_hash(arguments: Mapping[str, Any]) -> str:
    """Return the digest of arguments, as `all_arguments` returns them.

    Raises:
        UsageError: One of them cannot be pickled.
    """
    try:
        return plain_arguments_hash(arguments)
    except TypeError:
        pass
    digest = _Digest()
    for name, value in sorted(arguments.items()):
        try:
            digest.add(name)
            digest.add(value)
        except Exception as error:
            raise UsageError(
                f"output_dir names arguments_hash, and {name} cannot be pickled: {error}",
                value=name,
                hint="name those arguments that decide, such as {rate}, in its place",
            ) from error
    return digest.hexdigest()[:HASH_CHARACTERS]


class _Digest:
    """The digest of a value's structure."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._kept: list[Any] = []

    def hexdigest(self) -> str:
        """Return the digest so far."""
        return self._sha256.hexdigest()

    def add(self, value: Any) -> None:
        """Take a value in."""
        data = _atom(value)
        if data is not None:
            self._feed(type(value).__name__, data)
        elif id(value) in self._seen:
            # Only what is inside of itself may end here; equal parts are equal however shared.
            self._feed("again", str(self._seen[id(value)]).encode())
        else:
            self._seen[id(value)] = len(self._seen)
            self._kept.append(value)
            self._add_parts(value)
            del self._seen[id(value)]

    def _add_parts(self, value: Any) -> None:
        kind = type(value)
        if kind in (list, tuple):
            self._add_all("list", value)
        elif kind is dict:
            pairs = ((_digest_of(key), key, item) for key, item in value.items())
            ordered = sorted(pairs, key=lambda pair: pair[0])
            self._add_all("dict", [part for _, key, item in ordered for part in (key, item)])
        elif kind in (set, frozenset):
            self._add_all("set", sorted(map(_digest_of, value)))
        elif isinstance(value, type | BuiltinFunctionType) or _is_importable(value):
            self._feed("name", _name(value))
        elif isinstance(value, FunctionType):
            self._feed("name", _name(value))
            self._add_all("function", [value.__code__, value.__defaults__, _cells(value)])
        elif isinstance(value, MethodType):
            self._add_all("method", [value.__func__, value.__self__])
        elif isinstance(value, CodeType):
            self._add_all("code", [value.co_code, value.co_consts, value.co_names])
        elif isinstance(value, ModuleType):
            self._feed("module", value.__name__.encode())
        else:
            self._add_reduced(value)

    def _add_reduced(self, value: Any) -> None:
        """Take in what pickle would make a value of again."""
        reduced = value.__reduce_ex__(PROTOCOL)
        if isinstance(reduced, str):
            self._feed("global", _name(value))
            return
        made, arguments, *rest = reduced
        state, items, pairs = (*rest, None, None, None)[:3]
        self._add_all("object", [made, arguments, state, list(items or ()), list(pairs or ())])

    def _add_all(self, kind: str, parts: Iterable[Any]) -> None:
        listed = list(parts)
        self._feed(kind, str(len(listed)).encode())
        for part in listed:
            self.add(part)

    def _feed(self, kind: str, data: bytes | memoryview) -> None:
        size = len(data)
        self._sha256.update(kind.encode() + b"\0" + struct.pack("<Q", size))
        self._sha256.update(data)


def _atom(value: Any) -> bytes | memoryview | None:
    """Return what a value without parts consists of; None for others."""
    kind = type(value)
    if kind in (str, int, float, bool, complex, type(None), type(Ellipsis)):
        return repr(value).encode(errors="surrogatepass")
    if kind in (bytes, bytearray):
        return bytes(value)
    if isinstance(value, pickle.PickleBuffer):
        return value.raw()
    return f"{kind.__qualname__}.{value.name}".encode() if isinstance(value, Enum) else None


def _digest_of(value: Any) -> str:
    digest = _Digest()
    digest.add(value)
    return digest.hexdigest()


def _cells(function: FunctionType) -> list[Any]:
    return [cell.cell_contents for cell in function.__closure__ or ()]


def _is_importable(value: Any) -> bool:
    """Whether a function is found by its name: its code may be another one in another Python."""
    if not isinstance(value, FunctionType) or value.__module__ == "__main__":
        return False
    found: Any = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def _name(value: Any) -> bytes:
    module = getattr(value, "__module__", "")
    return f"{module}.{getattr(value, '__qualname__', value)}".encode()
