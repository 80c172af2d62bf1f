"""A wait that is interrupted says which runs go on, before the program ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kinetic_flows.core.run_ids import short_id
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.core.signals import heeded_signals, interruption_in
from kinetic_flows.core.terminal import terminal_progress


@contextmanager
def told_if_left(what: str) -> Iterator[None]:
    """Say what goes on when the waiting in this block is interrupted.

    Args:
        what: What goes on, and how to come back to it or end it.
    """
    with heeded_signals():
        try:
            yield
        except BaseException as error:
            if interruption_in(error) is not None:
                tell_left(what)
            raise


def tell_left(what: str) -> None:
    """Say what goes on."""
    environ = process_environment()
    terminal_progress(load_settings(environ).progress, environ).notice(what)


def run_goes_on(run_id: str, name: str) -> str:
    """Say that a run goes on, and what can be done about it."""
    short = short_id(run_id)
    return (
        f"run {run_id} of {name} goes on: `kinetic runs show {short}` shows it, "
        f"`kinetic runs result {short}` waits for it, `kinetic runs cancel {short}` ends it"
    )
