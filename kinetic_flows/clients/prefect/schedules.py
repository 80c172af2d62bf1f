"""When a deployment runs: what people write, checked, as Prefect takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.schedules import Schedule

from kinetic_flows.core import option_values as check
from kinetic_flows.core.errors import UsageError

DeploymentSchedule: TypeAlias = DeploymentScheduleCreate
"""A schedule as Prefect's API takes it."""

UNCHOSEN_ANCHOR_SECONDS = 60.0
"""An anchor that was not given is the moment when the schedule was written down."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When a deployment is to run, as `train.deploy` was told.

    Attributes:
        cron: A cron expression of five fields.
        interval: Time between two starts; a number counts seconds.
        rrule: A recurrence rule of RFC 5545.
        schedules: Prefect's schedules (`prefect.schedules.Cron` and others), any number.
        timezone: IANA name of the time zone that cron, interval or rrule mean; None for UTC.
    """

    cron: str | None = None
    interval: timedelta | float | None = None
    rrule: str | None = None
    schedules: Sequence[Schedule] = ()
    timezone: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the deployment runs on demand only."""
        return not self.given()

    def given(self) -> dict[str, Any]:
        """Return the parameters that were given."""
        said = {"cron": self.cron, "interval": self.interval, "rrule": self.rrule}
        given = {name: value for name, value in said.items() if value is not None}
        return {**given, **({"schedules": self.schedules} if self.schedules else {})}


def make_schedules(timing: Timing) -> tuple[DeploymentSchedule, ...]:
    """Return the schedules of a deployment.

    Raises:
        UsageError: They cannot be.
    """
    given = timing.given()
    if len(given) > 1:
        names = " and ".join(f"{name}=" for name in given)
        raise UsageError(
            f"{names} say more than one schedule",
            value=tuple(given),
            hint="give one of them, or several as schedules=[Cron(...), Interval(...)] "
            "(from prefect.schedules)",
        )
    if timing.timezone is not None:
        _check_timezone(timing.timezone)
    if timing.timezone and not set(given) & {"cron", "interval", "rrule"}:
        raise UsageError(
            f"timezone={timing.timezone!r} belongs to no schedule",
            value=timing.timezone,
            hint="give cron=, interval= or rrule= with it; in schedules=[...] each has its own",
        )
    name, value = next(iter(given.items()), ("schedules", ()))
    try:
        return tuple(
            DeploymentScheduleCreate.from_schedule(each)
            for each in _schedules(name, value, timing.timezone)
        )
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise UsageError(
            f"{name}={value!r} is no schedule: {_first_line(error)}",
            value=value,
            hint=_HINTS[name],
        ) from error


def _check_timezone(name: object) -> None:
    hint = "give a name of the IANA data base, such as 'Europe/Berlin'; None for UTC"
    try:
        ZoneInfo(check.text("timezone", name, hint))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        check.refuse("timezone", name, hint)


def schedule_identity(schedule: DeploymentSchedule) -> dict[str, Any]:
    """Return what makes a schedule another one, as plain values."""
    plain: dict[str, Any] = schedule.model_dump(mode="json")
    anchor = getattr(schedule.schedule, "anchor_date", None)
    if isinstance(anchor, datetime):
        age_seconds = abs((datetime.now(UTC) - anchor).total_seconds())
        if age_seconds < UNCHOSEN_ANCHOR_SECONDS:
            plain["schedule"].pop("anchor_date")
    return plain


_HINTS: Mapping[str, str] = {
    "cron": "write five fields, such as '0 2 * * *' for two o'clock every night; timezone= takes "
    "names such as 'Europe/Berlin'",
    "interval": "give a timedelta, or a positive number of seconds",
    "rrule": "write a rule of RFC 5545, such as 'FREQ=WEEKLY;BYDAY=MO,TH'",
    "schedules": "give a list of schedules made with prefect.schedules: Cron, Interval, RRule",
}


def _schedules(name: str, value: Any, timezone: str | None) -> Sequence[Schedule]:
    if name == "schedules":
        return tuple(value)
    if name == "interval" and isinstance(value, bool):
        raise ValueError("it is no length of time")
    if name == "interval":
        value = value if isinstance(value, timedelta) else timedelta(seconds=value)
        if value <= timedelta(0):
            raise ValueError("it is not positive")
    return (Schedule(**{name: value}, timezone=timezone),)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # pydantic's first line counts its errors, its second names the field.
    line = lines[2] if len(lines) > 2 and "validation error" in lines[0] else (lines or [""])[0]
    return line.removeprefix("Value error, ").partition(" [type=")[0]
