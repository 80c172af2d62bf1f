"""What a function takes along of the module it was written in, besides itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from kinetic_flows.code.payload import function_reference
from kinetic_flows.code.root import PackageRoot


def captured_globals(function: Callable[..., Any], root: PackageRoot) -> tuple[str, ...]:
    """Return what a function names outside of itself and what travels with it, by value.

    Args:
        function: The plain function.
        root: The package root: what a run imports from there does not travel.

    Returns:
        A name and its type each, such as `RATES (dict)`; nothing for a function that runs
        import. Modules are imported by name, and do not count.
    """
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType) or function_reference(function, root):
        return ()
    found = {**_globals(plain), **_enclosed(plain)}
    return tuple(
        f"{name} ({type(value).__name__})"
        for name, value in sorted(found.items())
        if not isinstance(value, ModuleType) and value is not function
    )


def _globals(function: FunctionType) -> dict[str, Any]:
    names = set(_names(function.__code__))
    return {name: function.__globals__[name] for name in names if name in function.__globals__}


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _enclosed(function: FunctionType) -> dict[str, Any]:
    """Return the variables of enclosing functions that are set by now."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    found = {}
    for name, cell in cells:
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found
