"""Options of somebody who watches a function: with what else they go, and with what not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NoReturn

from kinetic_flows.core.errors import UsageError

if TYPE_CHECKING:
    from kinetic_flows.core.options import RunOptions


def called_anew(options: RunOptions) -> tuple[RunOptions, str]:
    """Return the options of a call that an earlier one's result must not answer; say what is so.

    Nobody debugs or profiles a function that is not called; and a value that somebody may have
    changed in a debugger is no answer for later calls.

    Args:
        options: How the function is to run.
    """
    why = "debug" if options.debug else "profile"
    if options.cache_for is None or not (options.debug or options.profile):
        return options, ""
    told = f"cache_for does nothing with {why}=True: the function is called, and its result is kept"
    return replace(options, cache_for=None), f"{told} for no later call"


def refuse_debugger(how: Literal["map", "deploy"]) -> NoReturn:
    """Refuse `debug=True` where many runs would wait for a debugger, or some that nobody watches.

    Args:
        how: What is asked for.

    Raises:
        UsageError: Always.
    """
    runs = {"map": "one run for each input", "deploy": "runs that nobody waits for"}[how]
    raise UsageError(
        f"debug=True is for one call, and {how} makes {runs}: each would wait for a debugger",
        value=True,
        hint=f"call the function once to debug it, and say with_options(debug=False).{how}(...)",
    )
