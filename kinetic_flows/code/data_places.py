"""How `kinetic.Data` travels in a pickled call: by its place among the data of the call.

The runner knows the name of `data_in_run`, and reads it as the path that it has brought the data
to (`runner_image/runner/payload.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import UsageError


class DataPlaces:
    """The data that a pickler meets, equal ones once."""

    def __init__(self) -> None:
        self._places: dict[Data, int] = {}

    @property
    def met(self) -> tuple[Data, ...]:
        """What was met, in the order of the places."""
        return tuple(self._places)

    def reduced(self, data: Data) -> tuple[Any, ...]:
        """Reduce data to its place."""
        return data_in_run, (self._places.setdefault(data, len(self._places)),)


def with_data_defaults(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """Return keyword arguments with the defaults that have data in them.

    A function that a run imports has its defaults from there, where nothing is known of data.

    Args:
        function: The function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
    """
    given = (
        *(getattr(function, "__defaults__", None) or ()),
        getattr(function, "__kwdefaults__", None),
    )
    if not has_data(given):
        return kwargs
    taken = kwargs.keys() | list(inspect.signature(function).parameters)[: len(args)]
    return {
        **{
            name: parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
            if name not in taken
            and parameter.kind is not parameter.POSITIONAL_ONLY
            and has_data(parameter.default)
        },
        **kwargs,
    }


def has_data(value: Any) -> bool:
    """Whether a value is data, or a plain container with some in it."""
    if isinstance(value, dict):
        return any(map(has_data, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(has_data, value))
    return isinstance(value, Data)


def data_in_run(place: int) -> NoReturn:
    """Stand in a pickle for the path of data in a run.

    Args:
        place: Which of the call's data it is.

    Raises:
        UsageError: Always: a call is not to be unpickled here.
    """
    raise UsageError(
        "a pickled call can be read in its run alone",
        value=place,
        hint="pass kinetic.Data to the function, and use the path that it gets",
    )
