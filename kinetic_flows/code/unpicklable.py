"""Finding, in a call that cannot be pickled, the object that is to blame.

Parts are pickled one by one, and the first that cannot be is taken apart in turn, until none of
its own parts fails: that object is named by the path that leads to it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from kinetic_flows.code.internals import CachedFunction
from kinetic_flows.code.main_module import MAIN_NAMES
from kinetic_flows.code.named_objects import MADE_ANEW, PROTOCOL
from kinetic_flows.code.pickled import globals_that_travel, pickle_into
from kinetic_flows.code.reprs import short_repr
from kinetic_flows.code.root import PackageRoot
from kinetic_flows.core.errors import UnpicklableError

MAX_DEPTH = 50
MAX_PARTS = 10_000

Part = tuple[str, Any]
Call = tuple[Any, tuple[Any, ...], dict[str, Any]]


class _Counter:
    """A file that keeps nothing but the number of bytes written to it."""

    def __init__(self) -> None:
        self.size_bytes = 0

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        self.size_bytes += size
        return size


def unpicklable_error(
    function: Callable[..., Any], call: Call, error: BaseException, root: PackageRoot
) -> UnpicklableError:
    """Say which part of a call cannot be pickled.

    Args:
        function: The function, whose parameters name its positional arguments.
        call: The function (None if it goes by name), its arguments and keyword arguments.
        error: Why the whole cannot be pickled.
        root: The package root.
    """
    for name, value in _call_parts(call):
        reason = _failure(value, root)
        if reason is not None:
            path, culprit, why = _trace(name, value, reason, root)
            whose = _parameter_name(function, name)
            return UnpicklableError(
                f"{path}{whose} cannot be pickled: {type(culprit).__name__}: {_sentence(why)}",
                value=path,
                hint=_hint(path),
            )
    return UnpicklableError(
        f"the call cannot be pickled: {_sentence(error)}",
        value=None,
        hint="pass plain data, and make what cannot be pickled inside the function",
    )


def largest_part(call: Call, root: PackageRoot) -> tuple[str, int]:
    """Return the argument, global or closure variable whose pickle is largest, and its size."""
    function, args, kwargs = call
    parts = list(_call_parts((None, args, kwargs)))
    if function is not None:
        parts += _parts(_function_name(function), function, root)
    sizes = [(name, _pickled_bytes(value, root)) for name, value in parts]
    return max(sizes, key=lambda item: item[1], default=("the function", 0))


def _call_parts(call: Call) -> Iterator[Part]:
    function, args, kwargs = call
    for index, value in enumerate(args):
        yield f"args[{index}]", value
    for name, value in kwargs.items():
        yield f"kwargs[{name!r}]", value
    if function is not None:
        yield _function_name(function), function


def _parameter_name(function: Callable[..., Any], argument: str) -> str:
    """Return ` (argument 'x')` for a positional argument of a known name, else nothing."""
    index = argument.removeprefix("args[").removesuffix("]")
    named = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    names = [parameter.name for parameter in parameters if parameter.kind in named]
    if not index.isdigit() or int(index) >= len(names):
        return ""
    return f" (argument {names[int(index)]!r})"


def _trace(
    path: str, value: Any, reason: BaseException, root: PackageRoot
) -> tuple[str, Any, BaseException]:
    """Follow the first part that fails, as deep as parts fail."""
    seen = {id(value)}
    for _ in range(MAX_DEPTH):
        for name, part in _parts(path, value, root):
            if id(part) in seen:
                continue
            why = _failure(part, root)
            if why is not None:
                seen.add(id(part))
                path, value, reason = name, part, why
                break
        else:
            break
    return path, value, reason


def _failure(value: Any, root: PackageRoot) -> BaseException | None:
    try:
        pickle_into(_Counter, value, root)
    except Exception as error:  # noqa: BLE001 - pickling runs other people's code
        return error
    return None


def _pickled_bytes(value: Any, root: PackageRoot) -> int:
    try:
        return pickle_into(_Counter, value, root).file.size_bytes
    except Exception:  # noqa: BLE001 - as above; the whole could be pickled in another way
        return 0


def _parts(path: str, value: Any, root: PackageRoot) -> Iterator[Part]:
    """Yield what an object is made of, with the path to each part."""
    yield from _takers_apart(root).get(type(value), _object_parts)(path, value)


def _takers_apart(root: PackageRoot) -> Mapping[type, Callable[[str, Any], Iterator[Part]]]:
    return {
        dict: _mapping_parts,
        list: _sequence_parts,
        tuple: _sequence_parts,
        set: _set_parts,
        frozenset: _set_parts,
        FunctionType: functools.partial(_function_parts, root),
        MethodType: _method_parts,
        BuiltinFunctionType: _method_parts,
        functools.partial: _partial_parts,
        CachedFunction: _cached_parts,
        type: _class_parts,
    }


def _mapping_parts(path: str, value: Any) -> Iterator[Part]:
    for key, item in value.items():
        label = short_repr(key)
        yield f"{path}[{label}]", item
        yield f"the key {label} of {path}", key


def _sequence_parts(path: str, value: Any) -> Iterator[Part]:
    for index, item in enumerate(value[:MAX_PARTS]):
        yield f"{path}[{index}]", item


def _set_parts(path: str, value: Any) -> Iterator[Part]:
    for item in value:
        yield f"the element {short_repr(item)} of {path}", item


def _partial_parts(path: str, value: Any) -> Iterator[Part]:
    yield f"{path}.func", value.func
    yield from _sequence_parts(f"{path}.args", value.args)
    yield from _mapping_parts(f"{path}.keywords", value.keywords)


def _cached_parts(path: str, value: Any) -> Iterator[Part]:
    yield f"{path}.__wrapped__", value.__wrapped__


def _method_parts(path: str, value: Any) -> Iterator[Part]:
    owner = getattr(value, "__self__", None)
    if owner is not None:
        yield f"{path}.__self__", owner
    if isinstance(value, MethodType):
        yield f"{path}.__func__", value.__func__


def _function_parts(root: PackageRoot, path: str, value: Any) -> Iterator[Part]:
    for name, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
        try:
            yield f"closure variable {name!r} of {path}", cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    for name, item in sorted(globals_that_travel(value, root).items()):
        yield f"global {name!r} of {path}", item
    yield from _sequence_parts(f"{path}.__defaults__", value.__defaults__ or ())
    yield from _mapping_parts(f"{path}.__kwdefaults__", value.__kwdefaults__ or {})
    yield from _mapping_parts(f"{path}.__dict__", value.__dict__)


def _class_parts(path: str, value: Any) -> Iterator[Part]:
    for name, item in vars(value).items():
        is_made_anew = value.__module__ in MAIN_NAMES and type(item) in MADE_ANEW
        if name not in ("__dict__", "__weakref__") and not is_made_anew:
            yield f"{path}.{name}", getattr(item, "__func__", item)


def _object_parts(path: str, value: Any) -> Iterator[Part]:
    """Yield what an object's own reduction says that it is made of, and its class."""
    if isinstance(value, type):
        yield from _class_parts(path, value)
        return
    arguments, state, items, pairs = _reduction(value)
    for name, item in _named_state(state).items():
        yield f"{path}.{name}", item
    yield from _sequence_parts(path, items)
    for key, item in pairs:
        yield f"{path}[{short_repr(key)}]", item
    for index, item in enumerate(arguments):
        yield f"argument {index} of the reduction of {path}", item
    yield f"the class of {path}", type(value)


def _reduction(value: Any) -> tuple[tuple[Any, ...], Any, list[Any], list[tuple[Any, Any]]]:
    """Return constructor arguments, state, items and pairs of an object, as pickle sees them."""
    try:
        reduced = value.__reduce_ex__(PROTOCOL)
    except Exception:  # noqa: BLE001 - pickling runs other people's code
        return (), getattr(value, "__dict__", None), [], []
    if isinstance(reduced, str):
        return (), None, [], []
    _, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    return tuple(arguments), state, list(items or ()), list(pairs or ())


def _named_state(state: Any) -> dict[str, Any]:
    """Return a state's attributes, those in slots included."""
    parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    if all(part is None or isinstance(part, dict) for part in parts):
        return {str(name): item for part in parts for name, item in (part or {}).items()}
    return {"__getstate__()": state}


def _function_name(function: Any) -> str:
    return str(getattr(function, "__qualname__", None) or type(function).__name__)


def _sentence(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _hint(path: str) -> str:
    if "closure variable " in path:
        return "make it inside the function, or at the top level of a module of the project"
    if "global " in path:
        return "make it inside the function, or move the function and it into an importable module"
    return "pass plain data, and make what cannot be pickled (locks, files, clients) in the run"
