"""Functions without importing Prefect: whether one is a flow, and how its runs are named."""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FlowRetries:
    """How often Prefect's engine runs a flow again, and after which pause."""

    count: int = 0
    delay_seconds: float = 0.0


def is_flow(function: Any) -> bool:
    """Whether a function is a Prefect flow."""
    return any(
        kind.__module__ == "prefect.flows" and kind.__name__ == "Flow"
        for kind in type(function).__mro__
    )


def flow_retries(function: Any) -> FlowRetries:
    """Return the retries that a flow declares; none for any other function."""
    if not is_flow(function):
        return FlowRetries()
    return FlowRetries(
        count=int(function.retries or 0), delay_seconds=float(function.retry_delay_seconds or 0)
    )


def is_async(function: Any) -> bool:
    """Whether calling a function gives an awaitable."""
    return inspect.iscoroutinefunction(function) or bool(
        is_flow(function) and getattr(function, "isasync", False)
    )


def flow_name(function: object, given: str | None) -> str:
    """Name of a function's flow: the one given, else its own, as far as Prefect accepts it.

    A flow's name has none of `/%&<>`: the runs of a `<lambda>` are named `lambda`.
    """
    text: str = given or getattr(function, "__name__", None) or type(function).__name__
    return re.sub(r"[/%&<>\s]+", " ", text).strip() or "function"


def is_found_by_name(thing: object, function: Any) -> bool:
    """Whether other processes find what a function became by the function's name.

    A script is `__main__` in one process alone.

    Args:
        thing: What the function became.
        function: The function.
    """
    module = function.__module__
    found: Any = None if module == "__main__" else sys.modules.get(module)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is thing
