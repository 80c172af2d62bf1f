"""The flow run of a launch that a Prefect worker has started, which is not the run's own.

The worker and whoever drives the run look at it: that a process calls the function, and how it has
ended. See `launches.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from .contract import (
    EXIT_CANCELLED,
    EXIT_MOVED_ON,
    EXIT_RAISED,
    EXIT_RETURNED,
    EXIT_STOOD_DOWN,
    EXIT_TERMINATED,
)
from .endings import State
from .identity import API_URL_VARIABLE, FLOW_RUN_VARIABLE, LAUNCHED_RUN_VARIABLE
from .prefect_api import TIMEOUT_SECONDS, ApiError, PrefectApi

ACCELERATOR_LABEL = "kinetic.accelerator"
"""Label of a run that tells what it runs on, once that is known."""

RUNNING = State("RUNNING", "Running", "it calls the function")

_STATES = {
    EXIT_RETURNED: State("COMPLETED", "Completed", "the function returned"),
    EXIT_RAISED: State("FAILED", "Failed", "the run has failed"),
    EXIT_STOOD_DOWN: State("CANCELLED", "Cancelled", "the run goes on elsewhere"),
    EXIT_MOVED_ON: State("FAILED", "Failed", "the function ran out of memory here"),
    EXIT_CANCELLED: State("CANCELLED", "Cancelled", "the run was cancelled"),
    EXIT_TERMINATED: State("CRASHED", "Terminated", "its process was stopped from outside"),
}


def report(environ: Mapping[str, str], state: State) -> None:
    """Give a launch's flow run a state, if this process is one and Prefect answers.

    Args:
        environ: This process's environment.
        state: The state.
    """
    own, url = environ.get(FLOW_RUN_VARIABLE), environ.get(API_URL_VARIABLE)
    if not own or not url or not environ.get(LAUNCHED_RUN_VARIABLE):
        return
    try:
        PrefectApi(url, own, environ).set_state(*state, TIMEOUT_SECONDS)
    except ApiError:
        # Its worker says that it has ended, if less well how.
        return


def report_end(environ: Mapping[str, str], exit_code: int, message: str = "") -> None:
    """Say how a launch's process ends.

    Args:
        environ: This process's environment.
        exit_code: Its exit code.
        message: What failed; empty where the exit code says all.
    """
    known = _STATES.get(exit_code)
    said = message or f"its process ended with exit code {exit_code}"
    report(environ, known or State("CRASHED", "Crashed", said))
