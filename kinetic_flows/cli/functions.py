"""`kinetic run`: calls a function from the command line."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from kinetic_flows.cli.targets import load_function
from kinetic_flows.core.display import value_for_output
from kinetic_flows.core.errors import KineticError, RunFailed, UsageError


def run(
    target: str,
    /,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    detach: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Call a function with arguments of the command line, show its output and print its value.

    Args:
        target: FILE:FUNCTION, such as train.py:train.
        arguments: What the function is called with, such as --rate 0.1, typed by its signature;
            a parameter without a type or a default takes JSON, or else a text. After -- every
            option is the function's.
        detach: Return when the run is launched, and print its id and where to watch it.
        as_json: Print a JSON object; what the function prints stays in its log.
    """
    function = load_function(target)
    args, kwargs = parse_call(function.fn, arguments, name=f"kinetic run {target}")
    if not detach and not as_json:
        value = outcome(lambda: _awaited(function(*args, **kwargs)))
        if value is not None:
            print(value_for_output(value))
        return
    launched = function.submit(*args, **kwargs)
    told: dict[str, Any] = {"id": launched.id, "url": launched.url}
    if detach:
        print(json.dumps(told) if as_json else f"{launched.id}\n{launched.url}")
        return
    print(json.dumps({**told, "result": plain(outcome(launched.result))}))


def parse_call(
    function: Callable[..., Any], tokens: tuple[str, ...], *, name: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call that the command line spells out.

    Args:
        function: The function.
        tokens: What follows its name on the command line.
        name: What to call the command in its help.

    Raises:
        UsageError: They do not fit the function.
    """
    parser = App(name=name, help=inspect.getdoc(function) or "", version_flags=[])
    parser.default(function)
    try:
        command, bound, _ = parser.parse_args(list(tokens), print_error=False, exit_on_error=False)
    except CycloptsError as error:
        raise UsageError(
            f"the arguments do not fit {function.__name__}{inspect.signature(function)}: {error}",
            value=tokens,
            hint=f"see {name} --help",
        ) from error
    if command is not function:
        # Cyclopts answers --help with a command of its own.
        command(*bound.args, **bound.kwargs)
        raise SystemExit(0)
    return _read_untyped(function, bound)


def outcome(result: Callable[[], Any]) -> Any:
    """Return a run's value; say of what the function raised only what the person wrote.

    Raises:
        RunFailed: The function raised.
    """
    try:
        return result()
    except KineticError:
        raise
    except Exception as error:
        traceback = "\n".join(getattr(error, "__notes__", ()))
        if not traceback:
            raise
        what = f"{type(error).__name__}: {error}"
        raise RunFailed(f"the function raised {what}", remote_traceback=traceback) from error


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it; what it cannot is described by its repr."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value


def _read_untyped(
    function: Callable[..., Any], bound: inspect.BoundArguments
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Read the texts of parameters that say nothing of their type as JSON, where they are."""
    for name, parameter in inspect.signature(function).parameters.items():
        says_nothing = parameter.annotation is parameter.default is inspect.Parameter.empty
        if says_nothing and isinstance(bound.arguments.get(name), str):
            bound.arguments[name] = _json_or_text(bound.arguments[name])
    return bound.args, bound.kwargs


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _awaited(value: Any) -> Any:
    if not inspect.isawaitable(value):
        return value
    import asyncio

    async def wait(awaitable: Any) -> Any:
        return await awaitable

    return asyncio.run(partial(wait, value)())
