"""How runs end, as values: from what happened to header fields, flow run state and exit code."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any, NamedTuple

from .contract import (
    EXIT_CANCELLED,
    EXIT_RAISED,
    EXIT_RETURNED,
    EXIT_TERMINATED,
    SIGNAL_BASE,
    Fault,
)

STATE_MESSAGE_CHARACTERS = 1_000
FAULT_CODES = range(40, 52)


class State(NamedTuple):
    """A state of a flow run."""

    type: str
    name: str
    message: str = ""


class Before(NamedTuple):
    """What has become of a run before a launch.

    Attributes:
        starts: How often its function was begun.
        disturbed: What ended it from outside the last time; empty where nothing did.
    """

    starts: int = 0
    disturbed: str = ""


class Ending(NamedTuple):
    """How a run ended.

    Attributes:
        exit_code: The supervisor's exit code.
        status: The result's status; None when no result is left, because the run was
            interrupted and may be started again.
        fields: Further fields of the result's header.
        body: Path of the pickled value or exception; None for none.
        out_of_memory: What says that it ran out of memory, its host's or a chip's; empty where it
            did not.
        seen: What was seen last of the function, for the black box; empty where it returned.
    """

    exit_code: int
    status: str | None = None
    fields: Mapping[str, Any] = {}
    body: str | None = None
    out_of_memory: str = ""
    seen: Mapping[str, Any] = {}


def from_outcome(outcome: Mapping[str, Any], body: str, log_tail: list[str]) -> Ending:
    """Return the ending of a run whose worker has left an outcome.

    Args:
        outcome: What the worker left.
        body: Path of the pickled value or exception.
        log_tail: The last lines that were printed.
    """
    own = ("status", "out_of_memory")
    fields = {name: value for name, value in outcome.items() if name not in own}
    status, out_of_memory = outcome["status"], outcome.get("out_of_memory", "")
    if status == "fault":
        return Ending(fields["exit_code"], "crashed", {**fields, "log_tail": log_tail})
    code = EXIT_RETURNED if status == "returned" else EXIT_RAISED
    return Ending(code, status, fields, body, out_of_memory)


def crashed(exit_code: int, log_tail: list[str], out_of_memory: str | None = None) -> Ending:
    """Return the ending of a run whose worker died.

    Args:
        exit_code: The worker's exit code, negative for a signal.
        log_tail: The last lines that were printed.
        out_of_memory: What says that it was killed for want of memory; None where it was not.
    """
    if exit_code < 0:
        how, code = f"was killed by {signal_name(-exit_code)}", SIGNAL_BASE - exit_code
    else:
        how, code = f"exited with {exit_code} while the function ran", EXIT_RAISED
    message = f"its process {how}" + (f": {out_of_memory}" if out_of_memory else "")
    fields = {"message": message, "exit_code": exit_code, "log_tail": log_tail}
    return Ending(code, "crashed", fields, out_of_memory=out_of_memory or "")


def timed_out(message: str, log_tail: list[str]) -> Ending:
    """Return the ending of a run whose time was over, or whose chips did nothing for too long."""
    return Ending(EXIT_RAISED, "timed_out", {"message": message, "log_tail": log_tail})


def cancelled(when: str) -> Ending:
    """Return the ending of a run that Prefect was asked to cancel."""
    return Ending(EXIT_CANCELLED, "cancelled", {"message": f"cancelled {when}"})


def terminated(when: str) -> Ending:
    """Return the ending of a run that was stopped from outside and may start again."""
    return Ending(EXIT_TERMINATED, None, {"message": f"terminated {when}"})


def failed(fault: Fault, log_tail: list[str]) -> Ending:
    """Return the ending of a run of which a phase around the function failed."""
    fields = {"message": fault.message, "exit_code": fault.exit_code, "log_tail": log_tail}
    return Ending(fault.exit_code, "crashed", fields)


def announcement(ending: Ending) -> str | None:
    """Return what the log should say of an ending; None when the function has said it itself."""
    if ending.status in ("returned", "raised", "unpicklable"):
        return None
    return str(ending.fields["message"])


def state_of(header: Mapping[str, Any]) -> State:
    """Return the final state that fits a result."""
    status, message = header["status"], header["message"][:STATE_MESSAGE_CHARACTERS]
    if status == "returned":
        shown = describe_value(header)[:STATE_MESSAGE_CHARACTERS]
        return State("COMPLETED", "Completed", shown)
    if status == "cancelled":
        return State("CANCELLED", "Cancelled", message)
    if status == "crashed":
        return State("CRASHED", "Crashed", message)
    if status == "timed_out":
        return State("FAILED", "TimedOut", message)
    if status == "raised":
        return State("FAILED", "Failed", describe_exception(header, STATE_MESSAGE_CHARACTERS))
    kind = header["type_name"]
    return State("FAILED", "Failed", f"returned a {kind}, which cannot be pickled: {message}")


def describe_value(header: Mapping[str, Any]) -> str:
    """Say in one short text what was returned."""
    kind, message = header["type_name"], header["message"]
    if kind == "NoneType":
        return "returned None"
    return f"returned {kind}: {message}" if message else f"returned {kind}"


def describe_exception(header: Mapping[str, Any], characters: int) -> str:
    """Say in one short text what was raised."""
    kind, message = header["type_name"], header["message"][:characters]
    return f"{kind}: {message}" if message else str(kind)


def exit_code_of(header: Mapping[str, Any]) -> int:
    """Return the exit code that fits a result that an earlier start has left."""
    status, code = header["status"], header["exit_code"]
    if status == "returned":
        return EXIT_RETURNED
    if status == "cancelled":
        return EXIT_CANCELLED
    if status != "crashed":
        return EXIT_RAISED
    if code < 0:
        return SIGNAL_BASE - int(code)
    return int(code) if code in FAULT_CODES else EXIT_RAISED


def signal_name(number: int) -> str:
    """Return a signal's name, or its number when it has none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
