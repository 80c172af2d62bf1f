"""Objects that pickle by a name alone, taken apart so that a run can make them anew.

In a module a name is enough. In a script or a notebook it is not: a run has of `__main__` what
the call brings along.
"""

from __future__ import annotations

import contextvars
import dataclasses
import functools
import pickle
import queue
import threading
import typing
import weakref
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import Any, NamedTuple

from cloudpickle import CloudPickler

from kinetic_flows.code.internals import CachedFunction, initial_value_of, value_of

PROTOCOL = 5

EARLIER_PROTOCOL = 4
"""What is tried where a class cannot be pickled by the other; it has no memory out of band."""

MADE_ANEW: Mapping[type, Callable[[Any], Callable[[], Any]]] = {
    type(threading.Lock()): lambda _: threading.Lock,
    type(threading.RLock()): lambda _: threading.RLock,
    threading.Condition: lambda _: threading.Condition,
    threading.Event: lambda _: threading.Event,
    threading.local: lambda _: threading.local,
    threading.Semaphore: lambda given: functools.partial(threading.Semaphore, value_of(given)),
    threading.BoundedSemaphore: lambda given: functools.partial(
        threading.BoundedSemaphore, initial_value_of(given)
    ),
    queue.SimpleQueue: lambda _: queue.SimpleQueue,
    queue.Queue: lambda given: functools.partial(queue.Queue, given.maxsize),
    queue.LifoQueue: lambda given: functools.partial(queue.LifoQueue, given.maxsize),
    queue.PriorityQueue: lambda given: functools.partial(queue.PriorityQueue, given.maxsize),
    weakref.WeakKeyDictionary: lambda _: weakref.WeakKeyDictionary,
    weakref.WeakValueDictionary: lambda _: weakref.WeakValueDictionary,
    contextvars.ContextVar: lambda given: functools.partial(
        contextvars.ContextVar, given.name, **_default_of(given)
    ),
}
"""What a module makes for itself in each process, and so does a script's run: what makes it."""


def _default_of(variable: contextvars.ContextVar[Any]) -> dict[str, Any]:
    try:
        return {"default": contextvars.Context().run(variable.get)}
    except LookupError:
        return {}


def is_single_dispatch(function: FunctionType) -> bool:
    """Whether a function is what `functools.singledispatch` has made."""
    return function.__code__ is _SINGLE_DISPATCH


def single_dispatch(function: Any) -> tuple[Any, ...]:
    """Reduce such a function; its cache of weak references stays here."""
    registry = {kind: made for kind, made in function.registry.items() if kind is not object}
    return restore_single_dispatch, (function.registry[object], registry)


def restore_single_dispatch(function: Any, registry: dict[Any, Any]) -> Any:
    """Make such a function. It travels by value, so it is made of nothing but its own names."""
    from functools import singledispatch

    made = singledispatch(function)
    for kind, implementation in registry.items():
        made.register(kind, implementation)
    return made


_SINGLE_DISPATCH = functools.singledispatch(lambda _: None).__code__  # type: ignore[attr-defined]

_DATACLASS_SENTINELS = {
    id(value): (dataclasses, name)
    for name, value in vars(dataclasses).items()
    if type(value).__module__ == "dataclasses" and not callable(value)
}


def sentinel_of_dataclasses(obj: Any) -> tuple[Any, ...] | None:
    """Refer to a sentinel such as `dataclasses.MISSING`, which has to be the one of the run."""
    found = _DATACLASS_SENTINELS.get(id(obj))
    return None if found is None else (getattr, found)


class TakenApart(NamedTuple):
    """How an object travels.

    Attributes:
        name: The name it pickles by elsewhere; None when it never pickles by name.
        reduced: Its reduction by value.
    """

    name: str | None
    reduced: tuple[Any, ...]


def take_apart(obj: Any, protocol: int) -> TakenApart | None:
    """Return how an object travels that may pickle by its name; None for any other.

    Raises:
        PicklingError: It pickles by name, and cannot be made anew.
    """
    rebuild = _REBUILDERS.get(type(obj))
    if rebuild is not None:
        return TakenApart(getattr(obj, "__qualname__", None) or obj.__name__, rebuild(obj))
    if not has_reduction_of_its_own(type(obj)):
        return None
    reduced = obj.__reduce_ex__(protocol)
    if isinstance(reduced, str):
        return TakenApart(reduced, _plain_instance(obj, reduced))
    return TakenApart(None, reduced)


def has_reduction_of_its_own(kind: type) -> bool:
    """Whether a class says itself how its objects pickle."""
    return any(
        name in vars(each) for each in kind.__mro__[:-1] for name in ("__reduce__", "__reduce_ex__")
    )


def _plain_instance(obj: Any, name: str) -> tuple[Any, ...]:
    """Reduce an object as one that has nothing to say about it: its class and its state."""
    try:
        object.__new__(type(obj))
    except TypeError as error:
        raise pickle.PicklingError(
            f"{name} of __main__ pickles by its name alone, and {error}; define "
            f"{type(obj).__name__} in a module of the project"
        ) from error
    return object.__new__, (type(obj),), obj.__getstate__()


class _CacheDecorator:
    """`functools.lru_cache` with its parameters."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters

    def __call__(self, function: Any) -> Any:
        return functools.lru_cache(**self._parameters)(function)

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.lru_cache, (self._parameters["maxsize"], self._parameters["typed"])


def _cached(obj: Any) -> tuple[Any, ...]:
    """Reduce a cached function; its cache stays here."""
    known = {"__wrapped__", "cache_parameters"}
    state = {name: value for name, value in vars(obj).items() if name not in known}
    return _CacheDecorator(obj.cache_parameters()), (obj.__wrapped__,), state


def _new_type(obj: Any) -> tuple[Any, ...]:
    return typing.NewType, (obj.__name__, obj.__supertype__), _module_state(obj)


def _param_spec(obj: Any) -> tuple[Any, ...]:
    make = functools.partial(
        typing.ParamSpec,
        bound=obj.__bound__,
        covariant=obj.__covariant__,
        contravariant=obj.__contravariant__,
    )
    return make, (obj.__name__,), _module_state(obj)


def _type_var_tuple(obj: Any) -> tuple[Any, ...]:
    return typing.TypeVarTuple, (obj.__name__,), _module_state(obj)


def _type_var(obj: Any) -> tuple[Any, ...]:
    """Reduce a type variable as cloudpickle does, which takes it for one of its own module."""
    return *CloudPickler.dispatch_table[typing.TypeVar](obj), _module_state(obj)


def _module_state(obj: Any) -> tuple[None, dict[str, Any]]:
    """Return a state that sets an attribute, where there is no dictionary to update, too."""
    return None, {"__module__": obj.__module__}


def _type_alias(obj: Any) -> tuple[Any, ...]:
    """Reduce `type X = ...`, whose value may name it."""
    return restore_type_alias, (obj.__name__, obj.__module__, obj.__type_params__, _holder(obj))


@functools.cache
def _holder(alias: Any) -> list[Any]:
    """Return the list that carries an alias's value, the same one each time it is met."""
    return [alias.__value__]


def restore_type_alias(name: str, module: str, parameters: Any, holder: list[Any]) -> Any:
    """Make an alias. It travels by value, so it is made of nothing but its own names.

    The statement evaluates its value when it is asked for, and its module is where it stands.
    """
    space = {"__name__": module, "name": name, "parameters": parameters, "holder": holder}
    if parameters or not name.isidentifier():
        call = "TypeAliasType(name, holder[0], type_params=parameters)"
        exec(f"from typing import TypeAliasType\nmade = {call}", space)  # noqa: S102 - as below
        return space["made"]
    exec(f"type {name} = holder[0]", space)  # noqa: S102 - older Pythons cannot read it
    return space[name]


def is_jitted(kind: type) -> bool:
    """Whether objects of a class are what `jax.jit` makes, wherever a release of jaxlib has it."""
    return kind.__name__ == "PjitFunction" and kind.__module__.partition(".")[0] == "jaxlib"


def jitted(obj: Any, protocol: int) -> tuple[Any, ...]:
    """Reduce a jitted function with its attributes.

    Its class (jaxlib 0.10.2) leaves out what jax itself sets, without which it has no `.lower()`.
    """
    make, arguments, state, *_ = obj.__reduce_ex__(protocol)
    return make, arguments, (state, vars(obj)), None, None, restore_attributes


def restore_attributes(obj: Any, state: tuple[Any, dict[str, Any]]) -> None:
    """Set the state and the attributes of an object. It travels by value."""
    own, attributes = state
    obj.__setstate__(own)
    obj.__dict__.update(attributes)


SENT_BY_VALUE = (restore_single_dispatch, restore_type_alias, restore_attributes)
"""Functions that a run has from the pickle, as it has nothing of this package."""

_REBUILDERS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    CachedFunction: _cached,
    typing.NewType: _new_type,
    typing.ParamSpec: _param_spec,
    typing.TypeVar: _type_var,
    typing.TypeVarTuple: _type_var_tuple,
}
if hasattr(typing, "TypeAliasType"):  # from Python 3.12 on
    _REBUILDERS[typing.TypeAliasType] = _type_alias
