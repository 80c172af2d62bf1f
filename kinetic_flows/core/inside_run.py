"""Inside a run: a decorated function is the plain one and launches nothing; where outputs go.

Runs without this package get this module as it is, so that it is the same in all of them.
"""

from __future__ import annotations

import os
from functools import partial
from types import FunctionType
from typing import Any, NoReturn

from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.functions import is_flow

_ELSEWHERE = (
    "do it where runs are launched; in a module that is imported, that is under "
    'if __name__ == "__main__":'
)
_INSTEAD = {
    "submit": f"call {{name}}(...) for its value here, or {_ELSEWHERE}",
    "map": f"call {{name}}(...) for each input here, or {_ELSEWHERE}",
    "plan": _ELSEWHERE,
    "deploy": _ELSEWHERE,
    "rehearse": _ELSEWHERE,
}


CHECKPOINTS = "checkpoints"
"""The directory of checkpoints, in that of outputs."""


def output_dir() -> str:
    """Return the directory of this run's outputs: a path, or on a cluster a `gs://` URI.

    It is there. What an earlier run has left is there, too, where `output_dir=` names it, or
    where this run repeats that one, or was started again.

    Raises:
        UsageError: This is no run.
    """
    return _outputs("output_dir")


def checkpoint_dir() -> str:
    """Return the directory of this run's checkpoints: `checkpoints` in that of its outputs.

    It is there, and empty where no earlier run has left any.

    Raises:
        UsageError: This is no run.
    """
    directory = f"{_outputs('checkpoint_dir').rstrip('/')}/{CHECKPOINTS}"
    if "://" not in directory:
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103 - a run wants no pathlib for this
    return directory


def _outputs(name: str) -> str:
    directory = os.environ.get("KINETIC_OUTPUT_DIR")
    if "KINETIC_RUN_ID" not in os.environ or not directory:
        raise UsageError(
            f"kinetic.{name}() names a directory of a run, and this is none",
            value=name,
            hint="call it in the function that runs; where that is called plainly (.fn), pass it "
            "a directory",
        )
    return directory


def as_inside_run(function: Any) -> Any:
    """Return the plain function, having given it what a decorated one has.

    What works without launching anything works. The rest can be named, so that modules can be
    imported, and says what to do instead when it is used.

    Args:
        function: The plain function.
    """
    # Set past `__setattr__`, by which some callables would make more of it than an attribute.
    attributes = getattr(function, "__dict__", None)
    if not isinstance(attributes, dict):
        return function
    itself = partial(_returned, function)
    given = {
        "fn": function,
        "options": _OptionsInsideRun(function),
        "with_options": itself,
        "as_flow": itself,
        "rehearsal": _as_it_is,
        "rehearsed": None,
        **{method: partial(_refuse, function, method) for method in _INSTEAD},
    }
    for name in _names_to_give(function, given):
        attributes[name] = given[name]
    return function


def _names_to_give(function: Any, given: dict[str, Any]) -> list[str]:
    if isinstance(function, FunctionType):
        return list(given)
    if is_flow(function):
        # What Prefect calls is what a flow has as its own `fn`.
        return [name for name in given if name != "fn"]
    return [name for name in given if not hasattr(function, name)]


class _OptionsInsideRun:
    """The options of a decorated function, which a run does not have."""

    def __init__(self, function: Any) -> None:
        self._function = function

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise UsageError(
            f"{_name(self._function)}.options.{name} cannot be read inside a run",
            value=name,
            hint="pass what the function is to know of it as an argument",
        )


def _returned(function: Any, /, **_options: Any) -> Any:
    return function


def _as_it_is(rehearsal: Any, /) -> Any:
    """Return a function that `rehearsal` decorates."""
    return rehearsal


def _refuse(function: Any, method: str, /, *_args: Any, **_kwargs: Any) -> NoReturn:
    name = _name(function)
    raise UsageError(
        f"{name}.{method} cannot be used inside a run, which launches nothing",
        value=method,
        hint=_INSTEAD[method].format(name=name),
    )


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)
