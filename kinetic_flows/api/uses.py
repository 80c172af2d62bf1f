"""What a remote function's own documentation says of it besides the function's docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

_USES = """
{name} is a remote function, whose calls are Prefect flow runs on {accelerator}:

    {name}(...)               run it, show its output, and return its value or raise its exception
    {name}.submit(...)        launch it and go on: returns a Run
    {name}.map(inputs)        one run for each input: returns a RunGroup
    {name}.plan(...)          what a call would do, and nothing of it: returns a RunPlan
    {name}.deploy("nightly")  a Prefect deployment, to run on a schedule or from Prefect's UI
    {name}.with_options(...)  the same function with other options of kinetic.run
    {name}.as_flow()          a Prefect flow that calls it, for flows of flows
    {name}.fn(...)            the plain function, called here
    {name}.options            the options that it has
"""


def documentation(function: Callable[..., Any], accelerator: str) -> str:
    """Return a function's own docstring, and what can be done with it besides.

    Args:
        function: The plain function.
        accelerator: What it runs on, as people read it.
    """
    own = inspect.cleandoc(function.__doc__ or "")
    name = getattr(function, "__name__", "function")
    return f"{own}\n{_USES.format(name=name, accelerator=accelerator)}".strip()
