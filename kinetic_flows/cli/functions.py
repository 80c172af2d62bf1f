"""`kinetic run` and `kinetic lock`: commands about one function of a file."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from kinetic_flows.api.drafts import decided
from kinetic_flows.api.front import open_call
from kinetic_flows.api.remote_function import RemoteFunction
from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.outcomes import outcome, output_aside, print_launched, print_value
from kinetic_flows.code.root import working_directory
from kinetic_flows.core.display import value_for_output
from kinetic_flows.core.errors import KineticError, UsageError, suggest
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import show_progress
from kinetic_flows.plans.draft import lock_draft


def run(
    target: str,
    /,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    detach: Annotated[bool, Parameter(negative="")] = False,
    as_json: Json = False,
    verbose: Annotated[bool, Parameter(name="-v", negative="")] = False,
    quiet: Annotated[bool, Parameter(name="-q", negative="")] = False,
) -> None:
    """Call a function with arguments of the command line, show its output and print its value.

    Args:
        target: FILE:FUNCTION, such as train.py:train, or package.module:train.
        arguments: What the function is called with, such as --rate 0.1, typed by its signature;
            a parameter without a type or a default takes JSON, or else a text. After -- every
            option is the function's.
        detach: Return when the run is launched, and print its id and where to watch it.
        as_json: Print a JSON object, also when it fails; what the function prints goes to
            standard error.
        verbose: Show every step, and every line of a build's log.
        quiet: Show nothing but what the function prints.
    """
    if verbose or quiet:
        show_progress("quiet" if quiet else "verbose")
    function = load_function(target)
    args, kwargs = parse_call(function.fn, arguments, target=target)
    if not detach and not as_json:
        value = outcome(lambda: _awaited(function(*args, **kwargs)))
        if value is not None:
            print(value_for_output(value))
        return
    with output_aside():
        launched = function.submit(*args, **kwargs)
    if detach:
        print_launched(launched, as_json=as_json)
    else:
        print_value(launched, as_json=True, ends_with_us=True)


def parse_call(
    function: Callable[..., Any], tokens: tuple[str, ...], *, target: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call that the command line spells out.

    Args:
        function: The function.
        tokens: What follows its name on the command line.
        target: How the command line names the function.

    Raises:
        UsageError: They do not fit the function, or it is a method, which needs its object.
    """
    _refuse_method(function, target)
    signature = f"{function.__name__}{inspect.signature(function)}"
    # Whatever command it is for, this one's help is the function's.
    name = f"kinetic run {target}"
    parser = App(
        name=name,
        help=f"`{signature}`\n\n{inspect.getdoc(function) or ''}",
        help_epilogue="Before these go the options of `kinetic run --help`.",
        version_flags=[],
    )
    parser["--help"].show = False
    parser.default(function)
    try:
        command, bound, _ = parser.parse_args(list(tokens), print_error=False, exit_on_error=False)
    except CycloptsError as error:
        raise UsageError(
            f"the arguments do not fit {signature}: {error}",
            value=tokens,
            hint=f"see `{name} --help`",
        ) from error
    if command is not function:
        # Cyclopts answers --help with a command of its own.
        command(*bound.args, **bound.kwargs)
        raise SystemExit(0)
    return _read_untyped(function, bound)


def _refuse_method(function: Callable[..., Any], target: str) -> None:
    """Refuse a method, whose object no command line can spell.

    Raises:
        UsageError: It is one.
    """
    first = next(iter(inspect.signature(function).parameters), "")
    if "." in target.rpartition(":")[2] and first in ("self", "cls"):
        raise UsageError(
            f"{target} is a method, and needs what it is called on",
            value=target,
            hint="put a function into the file, decorated with @kinetic.run, that makes the object "
            "and calls the method, and name that",
        )


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

    async def wait(awaitable: Any) -> Any:
        return await awaitable

    return asyncio.run(partial(wait, value)())


def load_function(target: str) -> RemoteFunction[..., Any]:
    """Import a file under its module name, or a module, and return one of its remote functions.

    Args:
        target: FILE:FUNCTION, such as `train.py:train`, or MODULE:FUNCTION, such as
            `package.module:train`.

    Raises:
        UsageError: There is no such file or module, or no such remote function in it.
    """
    where, _, name = target.rpartition(":")
    if not where or not name:
        raise UsageError(
            f"{target!r} does not say which function of which file",
            value=target,
            hint="write FILE:FUNCTION, such as train.py:train, or package.module:train",
        )
    cwd = working_directory()
    is_module = all(part.isidentifier() for part in where.split(".")) and not where.endswith(".py")
    if is_module:
        return _remote_function(_import_module(where, cwd), name, where)
    path = (cwd / where).resolve()
    if path.suffix != ".py" or not path.is_file():
        raise UsageError(
            f"there is no Python file {where!r}",
            value=where,
            hint=f"{path} was looked for; a module is named with dots, as in package.module:{name}",
        )
    return _remote_function(_import_file(path), name, where)


def _import_module(name: str, cwd: Path) -> Any:
    """Import a module as `python -m` would find it.

    Raises:
        UsageError: There is none.
    """
    sys.path.insert(0, str(cwd))
    try:
        return import_module(name)
    except KineticError:
        raise
    except Exception as error:
        missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
        if not missing or (name != missing and not name.startswith(f"{missing}.")):
            raise _import_error(name, error) from error
        path = cwd.joinpath(*name.split(".")).with_suffix(".py")
        raise UsageError(
            f"there is no module {name!r}",
            value=name,
            hint=f"{missing!r} is neither installed nor in {cwd}; {path} was looked for, too. A "
            "file is named with its suffix, as in train.py:train",
        ) from None


def _import_file(path: Path) -> Any:
    """Import a file as its program would import it: by its name within its packages."""
    parts, directory = [path.stem], path.parent
    while (directory / "__init__.py").exists():
        parts.insert(0, directory.name)
        directory = directory.parent
    sys.path.insert(0, str(directory))
    try:
        return import_module(".".join(parts))
    except KineticError:
        raise
    except Exception as error:
        raise _import_error(str(path), error) from error


_OF_LOADERS = ("exec_module", "get_code", "source_to_code")
"""How the methods are called by which Python imports, of a loader that somebody puts in the way
too, such as beartype's.

https://docs.python.org/3/library/importlib.html#importlib.abc.InspectLoader
"""


def _import_error(where: str, error: Exception) -> UsageError:
    """Return the error for a file or module that fails, with the lines of it that did."""
    told = traceback.TracebackException.from_exception(error)
    ours = (__file__, str(importlib.__file__), "<frozen importlib")
    frames = [
        each
        for each in told.stack
        if not each.filename.startswith(ours) and each.name not in _OF_LOADERS
    ]
    told.stack = traceback.StackSummary.from_list(frames)
    lines = told.format() if frames else told.format_exception_only()
    return UsageError(
        f"{where} cannot be imported:\n{indent(''.join(lines).rstrip(), '    ')}",
        value=where,
        hint="a function is found by importing its file: what stands at its top has to work here",
    )


def _remote_function(module: Any, name: str, file_name: str) -> RemoteFunction[..., Any]:
    found = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, RemoteFunction):
        return found
    remote = [key for key, value in vars(module).items() if isinstance(value, RemoteFunction)]
    what = "is not decorated with @kinetic.run" if found is not None else "does not exist"
    raise UsageError(
        f"{name!r} in {file_name} {what}",
        value=name,
        hint=suggest(name, remote) if remote else "decorate a function there with @kinetic.run",
    )


def lock(
    target: str,
    /,
    *,
    upgrade: bool = False,
    as_json: Json = False,
) -> None:
    """Print the lock of a function's dependencies, and store it for everyone.

    Args:
        target: FILE:FUNCTION, such as train.py:train, or package.module:train.
        upgrade: Resolve again, and replace the stored lock.
        as_json: Print a JSON object that holds the lock.
    """
    function = load_function(target)
    opening = replace(open_call(), progress=NullProgress())
    draft = decided(opening, function, (), {}, may_lack_arguments=True).draft
    locked = lock_draft(draft, opening.environ, upgrade=upgrade)
    warnings = (*draft.warnings, *locked.warnings)
    if as_json:
        told = {"dependencies": draft.source.label, "warnings": warnings, "lock": locked.text}
        print_json(told)
        return
    print(f"dependencies: {draft.source.label}", file=sys.stderr)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(locked.text, end="")
