"""What the value of an option may look like, wherever options are written.

Every function takes what the option is called and its value, and returns the value as it is used,
or raises `UsageError` with both and what to write instead.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from numbers import Integral, Real
from typing import Any, Literal, NoReturn

from kinetic_flows.core.errors import UsageError, suggest

MAX_COUNT = 2**31 - 1
"""What Kubernetes and Prefect count with has 32 bits."""

MAX_SECONDS = 100 * 365 * 86_400
"""A hundred years; what is meant to have no limit is written as None."""


def refuse(option: str, value: object, hint: str) -> NoReturn:
    """Refuse the value of an option.

    Raises:
        UsageError: Always.
    """
    raise UsageError(f"{option} is {value!r:.200}", value=value, hint=hint)


def text(option: str, value: object, hint: str = "give a text that says what") -> str:
    """Check a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        refuse(option, value, hint)
    return value


def flag(option: str, value: object) -> bool:
    """Check a truth value."""
    if not isinstance(value, bool):
        refuse(option, value, "give True or False")
    return value


def choice(option: str, value: object, choices: Iterable[str]) -> str:
    """Check one of several words."""
    valid = tuple(choices)
    if not isinstance(value, str) or value not in valid:
        refuse(option, value, suggest(str(value), valid))
    return value


def count(option: str, value: object, *, least: int = 0) -> int:
    """Check a whole number; those of other libraries will do."""
    wanted = "give 0 or a whole number" if least == 0 else f"give a whole number, {least} or more"
    try:
        number = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = -1
    if number < least:
        refuse(option, value, wanted)
    if number > MAX_COUNT:
        refuse(option, value, f"give {MAX_COUNT} at most")
    return number


def seconds(option: str, value: object, *, may_be_zero: bool = False) -> float:
    """Check a number of seconds, whole or not; those of other libraries will do."""
    wanted = "0 or a positive number" if may_be_zero else "a positive number"
    hint = f"give {wanted} of seconds"
    number = _number(value)
    if number is None:
        refuse(option, value, hint)
    if not math.isfinite(number) or number < 0 or (number == 0 and not may_be_zero):
        refuse(option, value, hint)
    if number > MAX_SECONDS:
        refuse(option, value, f"give {MAX_SECONDS} seconds at most")
    return number


def cost(option: str, value: object) -> float:
    """Return an amount of money.

    Raises:
        UsageError: It is no number, or not more than nothing.
    """
    number = _number(value)
    if number is None or not math.isfinite(number) or number <= 0:
        refuse(option, value, "give US dollars as a number greater than 0")
    return number


def duration(option: str, value: object) -> timedelta | Literal[True]:
    """Check a length of time, which a number gives in seconds, or True for any."""
    if value is True:
        return True
    if isinstance(value, timedelta) and value > timedelta(0):
        return value
    if not (_number(value) or 0) > 0:
        refuse(
            option,
            value,
            "give a positive timedelta, such as timedelta(days=7), or seconds; True for as long "
            "as it is kept, None for never",
        )
    return timedelta(seconds=seconds(option, value))


def texts(option: str, value: object) -> tuple[str, ...]:
    """Check a list of texts; a single one is not taken for the list of its characters."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        refuse(option, value, f"give a list: {option}=[{value!r:.100}]")
    return tuple(text(option, each) for each in value)


def limit_seconds(option: str, value: Any) -> float | None:
    """Check how long to wait at most; None for as long as it takes."""
    return None if value is None else seconds(option, value, may_be_zero=True)


def moment(option: str, value: Any) -> datetime | None:
    """Check a moment, local where it names no time zone; None for none."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        refuse(option, value, "give a datetime; one without a time zone is local time")
    return value.astimezone()


def _number(value: object) -> float | None:
    """Return a number as Python's own; None for what is none, which truth values are not either."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return math.inf
    return int(value) if isinstance(value, Integral) else number
