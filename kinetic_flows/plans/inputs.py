"""The inputs of a sweep: what each is as arguments of the function."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

from kinetic_flows.core import option_values as check
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    from kinetic_flows.core import keras_kinetic
else:
    keras_kinetic = LazyModule("kinetic_flows.core.keras_kinetic")

SAMPLES = 16
"""How many inputs are compared before the first is run, to name runs by what differs."""

InputMode = Literal["auto", "single", "args", "kwargs"]
OnInterrupt = Literal["cancel", "detach"]


class MapOptions(TypedDict, total=False):
    """What `map` takes besides the inputs."""

    max_concurrent: int
    """How many runs there are at a time, at most; 64 by default."""

    retries: int
    """How often an input whose run failed or crashed is run again, as a new run; 0 by default."""

    fail_fast: bool
    """Whether the first input that fails for good ends the others."""

    on_interrupt: OnInterrupt
    """What Ctrl-C, or another interruption of this program, does to the runs that have not ended:
    `cancel` (the default), or `detach`, which lets those go on that are launched. Inputs that are
    not launched never are, either way."""

    input_mode: InputMode
    """What an input is: the one argument (`single`), all positional arguments (`args`), all keyword
    arguments (`kwargs`), or that by its type (`auto`, the default)."""

    work_queue: str | None
    """The work queue whose workers start the runs, so many at a time; None when whoever called
    `map` does."""

    max_cost: float | None
    """What all runs together may cost before those that go on are cancelled and nothing more is
    launched, in US dollars by the list prices that are known; None (default) for no limit."""


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """How the inputs of a sweep are run: each of `MapOptions`, checked."""

    max_concurrent: int = 64
    retries: int = 0
    fail_fast: bool = False
    on_interrupt: OnInterrupt = "cancel"
    input_mode: InputMode = "auto"
    work_queue: str | None = None
    max_cost: float | None = None

    def __post_init__(self) -> None:
        check.count("max_concurrent", self.max_concurrent, least=1)
        check.count("retries", self.retries)
        check.flag("fail_fast", self.fail_fast)
        check.choice("on_interrupt", self.on_interrupt, get_args(OnInterrupt))
        check.choice("input_mode", self.input_mode, get_args(InputMode))
        if self.max_cost is not None:
            check.cost("max_cost", self.max_cost)
        if self.work_queue is not None and not _is_a_name(self.work_queue):
            check.refuse(
                "work_queue",
                self.work_queue,
                "give the name of a work queue of the work pool; it is made if need be",
            )

    @property
    def at_a_time(self) -> float:
        """How many runs whoever called `map` launches before others have ended."""
        return self.max_concurrent if self.work_queue is None else math.inf


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """What the function is called with for one input."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


def sweep_options(given: Mapping[str, Any]) -> SweepOptions:
    """Return options of a sweep by name.

    Raises:
        UsageError: A name is no option, or a value cannot be.
    """
    valid = {item.name for item in fields(SweepOptions)}
    if unknown := {name: given[name] for name in given if name not in valid}:
        raise keras_kinetic.refused_options(
            "map()",
            unknown,
            {*valid, "return_exceptions"},
            words=keras_kinetic.MAP_OPTIONS,
        )
    return SweepOptions(**given)


class Inputs:
    """The inputs of a sweep, as arguments of the function.

    Args:
        values: The inputs.
        mode: What an input is.
        function: The function.
        bound: Arguments that come before the input's: the instance, for a method.

    Raises:
        UsageError: They are a text, or nothing that can be iterated over.
    """

    def __init__(
        self,
        values: Iterable[Any],
        mode: InputMode,
        function: Callable[..., Any],
        bound: tuple[Any, ...],
    ) -> None:
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            raise UsageError(
                f"the inputs are {values!r:.100}",
                value=values,
                hint="give a list, or any other iterable, with one entry for each run",
            )
        self._values = values
        self._spread = partial(spread, mode=mode, function=function, bound=bound)

    @property
    def count(self) -> int | None:
        """How many there are; None when only taking them all will tell."""
        return len(self._values) if isinstance(self._values, Sized) else None

    def check(self) -> None:
        """Look at every input that there already is.

        Raises:
            UsageError: One of them is not what the mode says, or does not fit the function.
        """
        if isinstance(self._values, Sequence):
            for _ in self:
                pass

    def known(self) -> Iterable[Arguments]:
        """Return every input that there already is: all of a sequence, else none."""
        return self if isinstance(self._values, Sequence) else ()

    def samples(self) -> tuple[Arguments, ...]:
        """Return some of the inputs, from the first to the last, where they are a sequence."""
        last = len(self._values) - 1 if isinstance(self._values, Sequence) else -1
        if not isinstance(self._values, Sequence) or last < 0:
            return ()
        count = min(last + 1, SAMPLES)
        places = sorted({round(last * number / max(count - 1, 1)) for number in range(count)})
        return tuple(self._spread(self._values[place], index=place) for place in places)

    def __iter__(self) -> Iterator[Arguments]:
        for index, value in enumerate(self._values):
            yield self._spread(value, index=index)


def spread(
    value: Any, mode: InputMode, function: Callable[..., Any], bound: tuple[Any, ...], index: int
) -> Arguments:
    """Return what the function is called with for an input.

    Args:
        value: The input.
        mode: What it is.
        function: The function.
        bound: Arguments that come before the input's: the instance, for a method.
        index: The input's place, for messages.

    Raises:
        UsageError: The input is not what the mode says, or does not fit the function.
    """
    arguments = _spread(value, mode, bound, index)
    try:
        inspect.signature(function).bind(*arguments.args, **arguments.kwargs)
    except TypeError as error:
        raise UsageError(
            f"input {index} does not fit {getattr(function, '__name__', 'the function')}: {error}",
            value=value,
            hint="a tuple is taken as the positional arguments and a mapping as the keyword "
            'arguments; input_mode="single" passes each input as the one argument it is',
        ) from error
    return arguments


def _spread(value: Any, mode: InputMode, bound: tuple[Any, ...], index: int) -> Arguments:
    is_mapping, is_tuple = isinstance(value, Mapping), isinstance(value, tuple | list)
    if mode == "kwargs" and not is_mapping:
        raise _wrong(value, mode, "a mapping", index)
    if mode == "args" and not is_tuple:
        raise _wrong(value, mode, "a tuple", index)
    if mode == "kwargs" or (mode == "auto" and is_mapping):
        return Arguments(args=bound, kwargs={str(name): item for name, item in value.items()})
    if mode == "args" or (mode == "auto" and isinstance(value, tuple)):
        return Arguments(args=(*bound, *value), kwargs={})
    return Arguments(args=(*bound, value), kwargs={})


def _wrong(value: Any, mode: str, wanted: str, index: int) -> UsageError:
    return UsageError(
        f"input {index} is a {type(value).__name__}, and input_mode is {mode!r}",
        value=value,
        hint=f"give {wanted} for each input, or another input_mode",
    )


def _is_a_name(value: Any) -> bool:
    # What Prefect refuses in names: prefect.types.names, 3.8.8.
    return isinstance(value, str) and bool(value.strip()) and not set(value) & set("/%&><")
