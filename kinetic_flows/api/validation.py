"""What `@kinetic.run` can be applied to."""

from __future__ import annotations

import inspect
from typing import Any

from kinetic_flows.core.errors import FunctionNotSupportedError, UsageError
from kinetic_flows.core.functions import is_flow
from kinetic_flows.core.options import RunOptions


def refuse_unsupported(target: Any) -> None:
    """Refuse what cannot run remotely, with the remedy.

    Raises:
        FunctionNotSupportedError: It cannot.
    """
    problem = _problem(target)
    if problem:
        what, hint = problem
        raise FunctionNotSupportedError(
            f"@kinetic.run cannot be applied to {what}", value=target, hint=hint
        )


def check_flow(target: Any, options: RunOptions) -> None:
    """Refuse options that a Prefect flow has of its own.

    Raises:
        UsageError: There is one.
    """
    if options.retries and is_flow(target):
        raise UsageError(
            f"retries is {options.retries}, and {target.__name__} is a Prefect flow",
            value=options.retries,
            hint="write @flow(retries=...): Prefect's engine runs the flow again in its run",
        )


def _problem(target: Any) -> tuple[str, str] | None:
    if isinstance(target, classmethod | staticmethod):
        kind = type(target).__name__
        return f"a {kind} object", f"put @{kind} above @kinetic.run, so that it is applied last"
    if inspect.isclass(target):
        return f"the class {target.__name__}", "decorate a function or a method"
    if isinstance(target, str):
        return f"the text {target!r:.100}", f"options have names: accelerator={target!r:.100}"
    if not callable(target):
        return f"{target!r}, which is not callable", "decorate a function"
    if hasattr(target, "cache_info") and hasattr(target, "cache_clear"):
        return (
            "a functools.cache wrapper, whose cache would stay behind",
            "put @functools.cache above @kinetic.run to cache results here, or cache inside",
        )
    function = target.fn if is_flow(target) else target
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return (
            f"the generator function {target.__name__}, whose values cannot be streamed back",
            "collect them inside the function and return a list",
        )
    return None
