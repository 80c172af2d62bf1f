"""One error for everything that went wrong at once."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.errors import CloudError, KineticError, in_a_sentence

_ALIKE = ("api-off", "billing", "login", "name-taken", "permission", "unreachable")
"""Reasons that are the same for everything whose subject is the same, whatever Google's words."""

AGAIN = "then run the same command again: it goes on from here"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What could not be done about one resource.

    Attributes:
        kind: What it is: `node pool`.
        name: Its name.
        error: Why.
    """

    kind: str
    name: str
    error: KineticError


def failed(verb: str, failures: Sequence[Failure], *, done: int | None = None) -> KineticError:
    """Return what to raise; several things may fail for one reason, which is told once.

    Args:
        verb: What could not be done: `cannot be looked at`.
        failures: What it could not be done with; at least one.
        done: How many things were done before; None where nothing was to be done.
    """
    by_reason: dict[object, list[Failure]] = {}
    for failure in failures:
        by_reason.setdefault(_key(failure.error), []).append(failure)
    before = f" ({done} done before it stay as they are)" if done else ""
    again = None if done is None else AGAIN
    if len(by_reason) == 1:
        return _one(failures, before, again)
    listed = "".join(f"\n  - {_told(several)}" for several in by_reason.values())
    error = CloudError(
        f"{len(failures)} things {verb}{before}:{listed}",
        value=[failure.name for failure in failures],
        hint=again and f"mend that, {again}",
    )
    error.__cause__ = failures[0].error
    return error


def _told(several: Sequence[Failure]) -> str:
    """Return what is told of things that failed for one reason, and below it what to do."""
    hint = several[0].error.hint
    return _message(several) + (f"\n    {hint}" if hint else "")


def _message(several: Sequence[Failure]) -> str:
    """Return the words of the first, and what it is as true of."""
    first = several[0].error.message
    others = [failure for failure in several[1:] if failure.error.message != first]
    return f"{first} (likewise {_names(others)})" if others else first


def _key(error: KineticError) -> object:
    """Return what is alike for errors that are mended by one thing."""
    if not isinstance(error, CloudRefusal):
        return in_a_sentence(error)
    if error.reason in _ALIKE:
        return error.reason, error.subject
    return error.reason, error.words


def _one(failures: Sequence[Failure], before: str, again: str | None) -> KineticError:
    first = failures[0].error
    error = copy(first)
    error.message = f"{_message(failures)}{before}"
    error.args = (error.message,)
    says_it = "run the same" in (first.hint or "")
    error.hint = (
        "; ".join(part for part in (first.hint, None if says_it else again) if part) or None
    )
    error.__cause__ = first.__cause__
    return error


def _names(failures: Sequence[Failure]) -> str:
    shown = [f"{failure.kind} {failure.name}" for failure in failures[:3]]
    more = len(failures) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")
