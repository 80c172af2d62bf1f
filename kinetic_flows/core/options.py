"""What `@kinetic.run(...)` accepts, validated where it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kinetic_flows.core import capacity_values as capacity
from kinetic_flows.core import option_values as check
from kinetic_flows.core.captured import check_captured
from kinetic_flows.core.errors import (
    ConfigurationError,
    ImageError,
    UsageError,
    suggest,
)
from kinetic_flows.core.functions import is_flow
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.output_dirs import check_output_dir
from kinetic_flows.core.secret_sources import SecretSource, parse_secrets
from kinetic_flows.core.settings.accelerator_names import names_in, names_in_words
from kinetic_flows.core.settings.cloud import CloudSettings, check_value
from kinetic_flows.core.settings.pool_variables import check_job_variables
from kinetic_flows.core.settings.table import rows
from kinetic_flows.core.volumes import Volume, parse_volumes

if TYPE_CHECKING:
    from kinetic_flows.core import keras_kinetic, option_pairs
else:
    keras_kinetic = LazyModule("kinetic_flows.core.keras_kinetic")
    option_pairs = LazyModule("kinetic_flows.core.option_pairs")

DEFAULT_SCHEDULE_TIMEOUT_SECONDS = 3600.0
DEFAULT_FALLBACK_SECONDS = 600.0

FRAMEWORKS = ("jax", "none")

PAIRED = (
    *("strategy", "fallback_after_seconds", "on_oom", "hosts", "slices", "cpu", "memory"),
    *("reservation", "max_run_duration_seconds", "idle_timeout_seconds"),
)
"""Options that go together with only some values of others."""


class Unsaid(str):
    """The value of an option that nobody gave, which a setting may replace."""

    __slots__ = ()


def _container_image(name: str, value: Any) -> str:
    from kinetic_flows.core.image_reference import mode_of

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


def _in_use(name: str, value: Any) -> str:
    return check.choice(name, value, ("refuse", "wait"))


def _strategy(name: str, value: Any) -> str:
    return check.choice(name, value, ("in_order", "race"))


def _on_oom(name: str, value: Any) -> str:
    return check.choice(name, value, ("larger",))


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


def _by(check: Callable[[str, Any], Any], *, may_be_none: bool = False) -> Mapping[str, Any]:
    """Tell how an option is read: by what, and whether None means something, its default apart."""
    return {"check": check, "may_be_none": may_be_none}


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a function is to run: each of `Options`, checked, as it is used."""

    accelerator: str | tuple[str, ...] = field(
        default=Unsaid("cpu"), metadata=_by(capacity.accelerators)
    )
    strategy: str = field(default="in_order", metadata=_by(_strategy))
    fallback_after_seconds: float = field(
        default=DEFAULT_FALLBACK_SECONDS, metadata=_by(check.seconds)
    )
    on_oom: str | None = field(default=None, metadata=_by(_on_oom))
    hosts: int | None = field(default=None, metadata=_by(partial(check.count, least=1)))
    slices: int | None = field(default=None, metadata=_by(partial(check.count, least=1)))
    cpu: str | None = field(default=None, metadata=_by(capacity.cpu))
    memory: str | None = field(default=None, metadata=_by(capacity.memory))
    reservation: str | None = field(default=None, metadata=_by(capacity.reservation))
    compute_class: str | None = field(default=None, metadata=_by(capacity.compute_class))
    node_pool: str | None = field(default=None, metadata=_by(capacity.node_pool))
    zones: tuple[str, ...] | None = field(default=None, metadata=_by(capacity.zones))
    max_run_duration_seconds: float | None = field(
        default=None, metadata=_by(capacity.run_duration)
    )
    idle_timeout_seconds: float | None = field(default=None, metadata=_by(check.seconds))
    stuck_after_seconds: float | None = field(default=None, metadata=_by(check.seconds))
    debug: bool = field(default=False, metadata=_by(check.flag))
    profile: bool = field(default=False, metadata=_by(check.flag))
    compile_cache: bool | None = field(default=None, metadata=_by(check.flag))
    rehearse: bool = field(default=False, metadata=_by(check.flag))
    max_cost: float | None = field(default=None, metadata=_by(check.cost))
    container_image: str | None = field(default=None, metadata=_by(_container_image))
    base_image_repo: str | None = field(default=None, metadata=_by(_cloud_setting))
    ship_wheels: bool = field(default=False, metadata=_by(check.flag))
    requirements: str | Path | tuple[str, ...] | None = field(
        default=None, metadata=_by(_requirements)
    )
    framework: str | None = field(default=None, metadata=_by(_framework))
    name: str | None = field(default=None, metadata=_by(_run_name))
    tags: tuple[str, ...] = field(default=(), metadata=_by(check.texts))
    retries: int = field(default=0, metadata=_by(check.count))
    retry_delay_seconds: float = field(
        default=0.0, metadata=_by(partial(check.seconds, may_be_zero=True))
    )
    timeout_seconds: float | None = field(default=None, metadata=_by(check.seconds))
    schedule_timeout_seconds: float | None = field(
        default=DEFAULT_SCHEDULE_TIMEOUT_SECONDS, metadata=_by(check.seconds, may_be_none=True)
    )
    max_preemptions: int | None = field(default=None, metadata=_by(check.count))
    cache_for: timedelta | Literal[True] | None = field(default=None, metadata=_by(check.duration))
    capture_env_vars: tuple[str, ...] = field(default=(), metadata=_by(check_captured))
    secrets: Mapping[str, SecretSource] | None = field(default=None, metadata=_by(parse_secrets))
    volumes: Mapping[str, Volume] | None = field(default=None, metadata=_by(parse_volumes))
    output_dir: str | None = field(default=None, metadata=_by(check_output_dir))
    output_dir_in_use: str = field(default="refuse", metadata=_by(_in_use))
    job_variables: Mapping[str, Any] = field(default_factory=dict, metadata=_by(_job_variables))
    project: str | None = field(default=None, metadata=_by(_cloud_setting))
    zone: str | None = field(default=None, metadata=_by(_cloud_setting))
    cluster: str | None = field(default=None, metadata=_by(_cluster))
    dispatch: str | None = field(default=None, metadata=_by(_cloud_setting))

    @classmethod
    def defaults(cls) -> Mapping[str, Any]:
        """Return what each option is where nobody says anything, as people write it."""
        made = {item.name: item.default for item in fields(cls)}
        return {name: None if value is MISSING else value for name, value in made.items()}

    def accelerators_or(self, setting: str) -> tuple[str, ...]:
        """Return what to run on, in the order of preference: what was said, else a setting's.

        Args:
            setting: One name, or several with commas between them.
        """
        if isinstance(self.accelerator, tuple):
            return self.accelerator
        return names_in(setting) if isinstance(self.accelerator, Unsaid) else (self.accelerator,)

    @property
    def accelerator_words(self) -> str:
        """What to run on, as people read it: one name, or several with `or` between them."""
        named = self.accelerator
        return names_in_words(named) if isinstance(named, tuple) else named

    @property
    def has_pairs(self) -> bool:
        """Whether there is any that goes together with only some values of others."""
        return any(getattr(self, name) != getattr(RunOptions, name) for name in PAIRED)

    @property
    def cloud(self) -> dict[str, str]:
        """What is said of Google Cloud, by the name of the setting."""
        options = [name for name, setting in rows(CloudSettings).items() if setting.is_option]
        said = {name: getattr(self, name) for name in options}
        return {name: value for name, value in said.items() if value is not None}

    def warnings(self, hosts: int) -> tuple[str, ...]:
        """Say what of them does nothing on a slice of so many hosts."""
        told = f"retries={self.retries} does nothing on {hosts} hosts, which would be out of step"
        advice = f"{told}; Run.retry() and map(retries=...) run the call again as a new run"
        return (advice,) if self.retries and hosts > 1 else ()

    def to_json(self) -> dict[str, Any]:
        """Return the options as plain JSON values, which `updated` takes."""
        said = asdict(self)
        # A run that is started again is to run; its job says what it finds where.
        del said["cache_for"], said["volumes"]
        said["secrets"] = {name: str(source) for name, source in (self.secrets or {}).items()}
        plain: dict[str, Any] = json.loads(json.dumps(said, default=str))
        return plain

    def updated(self, changes: Mapping[str, Any]) -> RunOptions:
        """Return options with some changed.

        Raises:
            UsageError: A name is not an option, or a value cannot be.
        """
        declared = {item.name: item for item in fields(self)}
        if unknown := {name: changes[name] for name in changes if name not in declared}:
            runs_on = changes.get("accelerator", self.accelerator)
            raise keras_kinetic.refused_options(
                "kinetic.run()",
                unknown,
                declared,
                words=keras_kinetic.OPTIONS,
                accelerator=runs_on if type(runs_on) is str else None,
            )
        return replace(self, **{name: _checked(declared[name], changes[name]) for name in changes})


def _checked(option: Field[Any], value: Any) -> Any:
    """Return the value of an option as it is used.

    Raises:
        UsageError: It cannot be.
    """
    if value is None and (option.default is None or option.metadata["may_be_none"]):
        return None
    try:
        return option.metadata["check"](option.name, value)
    except (ConfigurationError, ImageError) as error:
        # What a setting may not be, an option may not be either.
        raise UsageError(error.message, value=error.value, hint=error.hint) from error


def check_together(target: Any, options: RunOptions, said: Mapping[str, Any]) -> None:
    """Refuse options that do not go together, as far as that is plain where they are written.

    Args:
        target: The function, or the Prefect flow.
        options: All of its options.
        said: Those that were written just now.

    Raises:
        UsageError: Two of them do not go together, or a Prefect flow has one of its own.
    """
    if options.retries and is_flow(target):
        raise UsageError(
            f"retries is {options.retries}, and {target.__name__} is a Prefect flow",
            value=options.retries,
            hint="write @flow(retries=...): Prefect's engine runs the flow again in its run",
        )
    if not options.has_pairs:
        return
    named = options.accelerator
    names = () if isinstance(named, Unsaid) else named if isinstance(named, tuple) else (named,)
    option_pairs.check_written(options, names, said.keys())
