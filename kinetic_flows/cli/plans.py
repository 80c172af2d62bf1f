"""`kinetic plan`: what a call would do, and why."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from kinetic_flows.cli.targets import load_function
from kinetic_flows.core.display import for_terminal


def plan(target: str, /, *, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Print what a call of a function would do, and do nothing of it.

    Args:
        target: FILE:FUNCTION, such as train.py:train.
        as_json: Print a JSON object instead of text.
    """
    decided = load_function(target).plan()
    if as_json:
        print(json.dumps(decided.to_json(), indent=2))
        return
    print(for_terminal(decided.explain()))
