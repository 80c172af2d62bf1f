"""What `@kinetic.run(...)` accepts, validated where it is written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import timedelta
from numbers import Real
from pathlib import Path
from typing import Any, Literal

from kinetic_flows.errors import ConfigurationError, UsageError, suggest
from kinetic_flows.pool_variables import check_job_variables

DEFAULT_SCHEDULE_TIMEOUT_SECONDS = 3600.0

_CLOUD_OPTIONS = ("project", "zone", "cluster", "base_image_repo", "dispatch")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a function is to run; every field is a keyword of `kinetic.run`.

    Attributes:
        accelerator: What to run on, such as `cpu`, `l4` or `tpu-v6e-8`.
        container_image: `bundled` (also None), `prebuilt`, or an image reference.
        base_image_repo: Repository of prebuilt base images; None for `KINETIC_BASE_IMAGE_REPO`.
        ship_wheels: Whether prebuilt mode sends every package along, so that pods need no
            package index; without it they get those that no public index has.
        requirements: A dependency file, or requirements themselves; None to find the file.
        name: Name of the runs; None for the function's own.
        tags: Tags of the flow runs.
        retries: How often the function is called again after it raised.
        retry_delay_seconds: Pause before each retry.
        timeout_seconds: Limit for the function, all tries together; None for no limit.
        schedule_timeout_seconds: How long a run may wait for its node; None for no limit.
        max_preemptions: How often a run that was preempted, evicted or lost with its node
            starts again; None for 3 on Spot VMs and 0 elsewhere.
        cache_for: For how long a result answers further calls of the same function with the same
            arguments, code and dependencies; True for as long as it is kept; None for never.
        capture_env_vars: Names of environment variables to take along.
        job_variables: Variables of the work pool's job template, such as `memory`.
        project: Google Cloud project; None for `KINETIC_PROJECT`.
        zone: Zone of the cluster; None for `KINETIC_ZONE`.
        cluster: GKE cluster, or the name of a saved profile; None for `KINETIC_CLUSTER`.
        dispatch: Who starts runs on a cluster: `client`, `worker`, or `auto`; None for
            `KINETIC_DISPATCH`.
    """

    accelerator: str = "cpu"
    container_image: str | None = None
    base_image_repo: str | None = None
    ship_wheels: bool = False
    requirements: str | Path | tuple[str, ...] | None = None
    name: str | None = None
    tags: tuple[str, ...] = ()
    retries: int = 0
    retry_delay_seconds: float = 0.0
    timeout_seconds: float | None = None
    schedule_timeout_seconds: float | None = DEFAULT_SCHEDULE_TIMEOUT_SECONDS
    max_preemptions: int | None = None
    cache_for: timedelta | Literal[True] | None = None
    capture_env_vars: tuple[str, ...] = ()
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    project: str | None = None
    zone: str | None = None
    cluster: str | None = None
    dispatch: str | None = None

    @property
    def cloud(self) -> dict[str, str]:
        """What is said of Google Cloud, by the name of the setting."""
        said = {name: getattr(self, name) for name in _CLOUD_OPTIONS}
        return {name: value for name, value in said.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain JSON values, which `updated` takes."""
        said = asdict(self)
        # A run that is started again is to run.
        said.pop("cache_for")
        plain: dict[str, Any] = json.loads(json.dumps(said, default=str))
        return plain

    def updated(self, changes: Mapping[str, Any]) -> RunOptions:
        """Return options with some changed.

        Raises:
            UsageError: A name is not an option, or a value cannot be.
        """
        valid = {item.name for item in fields(self)}
        for unknown in changes.keys() - valid:
            raise UsageError(
                f"kinetic.run() has no option {unknown!r}",
                value=unknown,
                hint=suggest(unknown, valid),
            )
        normalised = dict(changes)
        for name in ("tags", "capture_env_vars"):
            if name in changes:
                normalised[name] = _names(name, changes[name])
        if "requirements" in changes:
            normalised["requirements"] = _requirements(changes["requirements"])
        if "job_variables" in changes:
            normalised["job_variables"] = _job_variables(changes["job_variables"])
        options = replace(self, **normalised)
        options._check()
        return options

    def _check(self) -> None:
        for name in ("accelerator", "container_image", "name", *_CLOUD_OPTIONS):
            _check_text(name, getattr(self, name), required=name == "accelerator")
        if not isinstance(self.ship_wheels, bool):
            raise UsageError(
                f"ship_wheels is {self.ship_wheels!r}",
                value=self.ship_wheels,
                hint="give True or False",
            )
        _check_count("retries", self.retries)
        _check_seconds("retry_delay_seconds", self.retry_delay_seconds, minimum=0.0)
        if self.max_preemptions is not None:
            _check_count("max_preemptions", self.max_preemptions)
        for name in ("timeout_seconds", "schedule_timeout_seconds"):
            if getattr(self, name) is not None:
                _check_seconds(name, getattr(self, name), minimum=math.ulp(0.0))


def _names(option: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UsageError(
            f"{option} is {value!r}", value=value, hint=f"give a list: {option}=[{value!r}]"
        )
    names = tuple(value)
    for name in names:
        _check_text(option, name, required=True)
    return names


def _requirements(value: Any) -> str | Path | tuple[str, ...] | None:
    if value is None or isinstance(value, str | Path):
        return value
    if isinstance(value, Sequence):
        return _names("requirements", value)
    raise UsageError(
        f"requirements is {value!r}",
        value=value,
        hint="give the path of a dependency file, or a list of requirements",
    )


def _job_variables(value: Any) -> dict[str, Any]:
    try:
        return check_job_variables(value or {}, "job_variables")
    except ConfigurationError as error:
        raise UsageError(error.message, value=error.value, hint=error.hint) from error


def _check_text(option: str, value: Any, *, required: bool) -> None:
    if value is None and not required:
        return
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{option} is {value!r}", value=value, hint="give a text that says what")


def _check_count(option: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UsageError(f"{option} is {value!r}", value=value, hint="give 0 or a whole number")


def _check_seconds(option: str, value: Any, *, minimum: float) -> None:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < minimum:
        wanted = "a positive number" if minimum else "0 or a positive number"
        raise UsageError(f"{option} is {value!r}", value=value, hint=f"give {wanted} of seconds")


def _check_cache_for(value: Any) -> None:
    is_duration = isinstance(value, timedelta) and value > timedelta(0)
    if value is not None and value is not True and not is_duration:
        raise UsageError(
            f"cache_for is {value!r}",
            value=value,
            hint="give a positive timedelta, such as timedelta(days=7), or True",
        )
