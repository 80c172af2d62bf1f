"""The steps that a rehearsal names, and what is said where nothing can be known of them.

A module that compiles for a kind of chips (`rehearse_tpu`, `rehearse_gpu`) has four functions:

- `set_variables(environ, target)`: sets what must be set before `jax` is imported.
- `devices_of(target)`: returns the devices of a target; raises `NotKnown`.
- `compile_for(step, around)`: returns a step's report as plain JSON values, whatever becomes of
  it: the fields of `StepReport` in `kinetic_flows/core/rehearsals.py`, and perhaps `warnings`,
  a sentence each.
- `versions()`: returns the versions of the packages that compile, by name.

A target is a `RehearsalTarget` of `kinetic_flows/core/job_parts.py` as plain JSON values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .rehearse_sources import Sources

WHAT_TO_RETURN = (
    "return (step, args), (step, args, kwargs), or a mapping of names to these: a step has "
    ".lower(), as jax.jit makes it, args is a tuple, and a dict in its place is keyword arguments"
)


class Step(NamedTuple):
    """A step that is to be compiled.

    Attributes:
        name: What it is called.
        function: What has `.lower()`.
        args: What it is lowered with.
        kwargs: The same by name.
    """

    name: str
    function: Any
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}


def _no_steps(_devices: list[Any]) -> list[Step]:
    return []


def _forget(_more: Callable[[], dict[str, Any]]) -> None:
    return None


class Around(NamedTuple):
    """What a step is compiled with.

    Attributes:
        target: What it is compiled for.
        devices: The target's devices, as the rehearsal was given them.
        sources: Names lines of the person's own files.
        steps_for: Calls the rehearsal again, for other devices.
        later: Takes what finds out more of the step, and is called when all steps have been
            compiled; it returns the step's report.
    """

    target: Mapping[str, Any]
    devices: list[Any]
    sources: Sources
    steps_for: Callable[[list[Any]], list[Step]] = _no_steps
    later: Callable[[Callable[[], dict[str, Any]]], None] = _forget


class NotKnown(Exception):
    """Nothing can be known of any step.

    Args:
        problem: Which of the problems that `kinetic_flows/core/rehearsals.py` lists it is.
        message: What is wrong.
        hint: What to do next.
    """

    def __init__(self, problem: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.problem, self.message, self.hint = problem, message, hint


def steps_of(returned: Any, name: str) -> list[Step]:
    """Return the steps that a rehearsal has returned.

    Args:
        returned: What it returned.
        name: What a step is called that has no name.

    Raises:
        NotKnown: It is not what a rehearsal returns.
    """
    if not isinstance(returned, Mapping):
        return [_step(returned, name)]
    if not returned:
        raise NotKnown("function", "the rehearsal names no step", WHAT_TO_RETURN)
    return [_step(each, str(key)) for key, each in returned.items()]


def _step(given: Any, name: str) -> Step:
    """Return a step that was given with its arguments."""
    # A step may itself be a tuple, as a named one with methods is.
    if not isinstance(given, tuple | list) or hasattr(given, "lower"):
        given = (given,)
    if not 1 <= len(given) <= 3:
        what = f"{name} is {len(given)} values in place of a step and its arguments"
        raise NotKnown("function", what, WHAT_TO_RETURN)
    function, *rest = given
    if not callable(getattr(function, "lower", None)) or isinstance(function, str | bytes):
        what = f"{name} is {_described(function)}, which has no .lower()"
        raise NotKnown("function", what, _how_to_lower(function))
    if len(rest) == 1 and isinstance(rest[0], Mapping):
        rest = [(), rest[0]]
    args: Any = rest[0] if rest else ()
    kwargs: Any = rest[1] if len(rest) > 1 else {}
    if not isinstance(args, tuple | list) or not isinstance(kwargs, Mapping):
        wrong = args if not isinstance(args, tuple | list) else kwargs
        what = f"the arguments of {name} are {_described(wrong)}"
        hint = f"{WHAT_TO_RETURN}; a single argument is written (x,)"
        raise NotKnown("function", what, hint)
    return Step(name, function, tuple(args), dict(kwargs))


def _how_to_lower(function: Any) -> str:
    if callable(function) and not isinstance(function, type):
        return "wrap it as the run does: jax.jit(step)"
    return WHAT_TO_RETURN


def _described(value: Any) -> str:
    """Return what kind of thing a value is, in words."""
    kind = type(value)
    if value is None:
        return "None"
    name = getattr(value, "__name__", None)
    if callable(value) and isinstance(name, str):
        return f"the {'class' if isinstance(value, type) else 'function'} {name}"
    article = "an" if kind.__name__[:1].lower() in "aeiou" else "a"
    return f"{article} {kind.__name__}"
