"""What `@kinetic.run(...)` accepts, validated where it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

from kinetic_flows.core import option_values as check
from kinetic_flows.core.errors import ConfigurationError, ImageError, UsageError, suggest
from kinetic_flows.core.settings.cloud import check_value
from kinetic_flows.core.settings.pool_variables import check_job_variables

DEFAULT_SCHEDULE_TIMEOUT_SECONDS = 3600.0

FRAMEWORKS = ("jax", "none")

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
        framework: `jax` for the base image that has it, `none` for one without any framework;
            None to let the packages decide.
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
    framework: str | None = None
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

    def warnings(self, hosts: int) -> tuple[str, ...]:
        """Say what of them does nothing on a slice of so many hosts."""
        told = f"retries={self.retries} does nothing on {hosts} hosts, which would be out of step"
        advice = f"{told}; Run.retry() and map(retries=...) run the call again as a new run"
        return (advice,) if self.retries and hosts > 1 else ()

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
        return replace(self, **{name: _checked(name, value) for name, value in changes.items()})


def _checked(name: str, value: Any) -> Any:
    """Return the value of an option as it is used.

    Raises:
        UsageError: It cannot be.
    """
    if value is None and name in _MAY_BE_NONE:
        return None
    try:
        return _CHECKS[name](name, value)
    except (ConfigurationError, ImageError) as error:
        # What a setting may not be, an option may not be either.
        raise UsageError(error.message, value=error.value, hint=error.hint) from error


def _accelerator(name: str, value: Any) -> str:
    from kinetic_flows.core.accelerators import check_accelerator

    given = check.text(name, value, "name one: `kinetic accelerators` lists all")
    check_accelerator(given)
    return given


def _container_image(name: str, value: Any) -> str:
    from kinetic_flows.core.image_modes import mode_of

    given = check.text(name, value, "give 'bundled', 'prebuilt' or an image's reference")
    mode_of(given)
    return given


def _cloud_setting(name: str, value: Any) -> str:
    given: str = check_value(name, check.text(name, value).strip())
    return given


def _cluster(name: str, value: Any) -> str:
    """Check a cluster's name, or that of a profile, which Prefect lets be a little more."""
    given = check.text(name, value).strip()
    if not re.fullmatch(r"[a-z0-9-]+", given):
        hint = "give the name of a cluster or of a profile: lower-case letters, digits and dashes"
        check.refuse(name, value, hint)
    return given


def _run_name(name: str, value: Any) -> str:
    given = check.text(name, value)
    if not re.search(r"[^/%&<>\s]", given):
        check.refuse(name, value, "give a name that has a letter or a digit")
    return given


def _variables(name: str, value: Any) -> tuple[str, ...]:
    given = check.texts(name, value)
    for each in given:
        if re.search(r"[=\0\s]", each):
            check.refuse(name, each, "name variables alone; their values are taken at the call")
    return given


def _requirements(name: str, value: Any) -> str | Path | tuple[str, ...]:
    if isinstance(value, str):
        return check.text(name, value, "give the path of a dependency file")
    if isinstance(value, Path):
        return value
    if not isinstance(value, Sequence):
        check.refuse(name, value, "give the path of a dependency file, or a list of requirements")
    return check.texts(name, value)


def _job_variables(name: str, value: Any) -> dict[str, Any]:
    return check_job_variables({} if value is None else value, name)


def _framework(name: str, value: Any) -> str:
    given = check.text(name, value, f"give one of {', '.join(map(repr, FRAMEWORKS))}")
    if given not in FRAMEWORKS:
        check.refuse(name, value, _framework_hint(given))
    return given


def _framework_hint(given: str) -> str:
    if given.lower() in ("torch", "pytorch", "tensorflow", "tf"):
        return (
            "give 'none': the image then has no framework, and your requirements bring"
            f" {given.lower()} with the CUDA it wants"
        )
    return suggest(given, FRAMEWORKS)


_MAY_BE_NONE = frozenset(item.name for item in fields(RunOptions) if item.default is None) | {
    "schedule_timeout_seconds"
}

_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "accelerator": _accelerator,
    "container_image": _container_image,
    "base_image_repo": _cloud_setting,
    "ship_wheels": check.flag,
    "requirements": _requirements,
    "framework": _framework,
    "name": _run_name,
    "tags": check.texts,
    "retries": check.count,
    "retry_delay_seconds": partial(check.seconds, may_be_zero=True),
    "timeout_seconds": check.seconds,
    "schedule_timeout_seconds": check.seconds,
    "max_preemptions": check.count,
    "cache_for": check.duration,
    "capture_env_vars": _variables,
    "job_variables": _job_variables,
    "project": _cloud_setting,
    "zone": _cloud_setting,
    "cluster": _cluster,
    "dispatch": _cloud_setting,
}
