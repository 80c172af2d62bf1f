"""What `@kinetic.run(...)` accepts, validated where it is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from kinetic_flows.core import option_values as check
from kinetic_flows.core.captured import check_captured
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import (
    AcceleratorError,
    ConfigurationError,
    ImageError,
    UsageError,
    suggest,
)
from kinetic_flows.core.functions import is_flow
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.output_dirs import check_output_dir
from kinetic_flows.core.secret_sources import SecretSource, parse_secrets
from kinetic_flows.core.settings.cloud import CloudSettings, Dispatch, check_value
from kinetic_flows.core.settings.pool_variables import check_job_variables
from kinetic_flows.core.settings.table import rows
from kinetic_flows.core.volumes import Volume, parse_volumes

if TYPE_CHECKING:
    from kinetic_flows.core import keras_kinetic
else:
    keras_kinetic = LazyModule("kinetic_flows.core.keras_kinetic")

DEFAULT_SCHEDULE_TIMEOUT_SECONDS = 3600.0

FRAMEWORKS = ("jax", "none")


class Unsaid(str):
    """The value of an option that nobody gave, which a setting may replace."""

    __slots__ = ()


class MaybeAlias(str):
    """What no accelerator is called, and the function's project may call one."""

    __slots__ = ()


class Options(TypedDict, total=False):
    """What `kinetic.run` and `with_options` take: the one list that documents it."""

    accelerator: str
    """What to run on, such as `cpu`, `l4` or `tpu-v6e-8`, or a name of the project's own for one;
    what `KINETIC_ACCELERATOR` says by default, and else `cpu`."""

    container_image: Literal["bundled", "prebuilt"] | str | None
    """`bundled` (default, also None), `prebuilt`, or an image URI."""

    base_image_repo: str | None
    """Repository of prebuilt base images; None for `KINETIC_BASE_IMAGE_REPO`."""

    ship_wheels: bool
    """Whether prebuilt mode sends every package along, so that pods need no package index."""

    requirements: str | Path | Sequence[str] | None
    """A dependency file or a list of requirements; None to find the file."""

    framework: Literal["jax", "none"] | None
    """What the image is to bring on a cluster: `jax` with what it needs for the accelerator, or
    `none`, so that all of it comes from the requirements. None (default) decides by them: on GPUs
    a project with PyTorch or TensorFlow, and without jax, gets none. Nothing of it matters on this
    machine."""

    name: str | None
    """Name of the runs; None for the function's own."""

    tags: Sequence[str]
    """Tags of the flow runs."""

    retries: int
    """How often the function is called again after it raised."""

    retry_delay_seconds: float
    """Pause before each retry."""

    timeout_seconds: float | None
    """Limit for the function, all tries together; None for no limit."""

    schedule_timeout_seconds: float | None
    """How long a run may wait for its node before it fails with what it waits for (default 3600);
    None for no limit."""

    max_preemptions: int | None
    """How often a run that was preempted, evicted or lost with its node starts again; None for 3
    on Spot VMs and 0 elsewhere. What the function raises is never started again by it: that is
    `retries`."""

    cache_for: timedelta | float | Literal[True] | None
    """For how long a result answers further calls of the same function with the same arguments,
    code and dependencies: a `timedelta(days=7)`, or seconds; True for as long as it is kept; None
    (default) for never."""

    capture_env_vars: Sequence[str]
    """Names of environment variables to take along, or patterns of them such as `WANDB_*`; their
    values are sealed for the run."""

    secrets: Mapping[str, str] | None
    """Variables of the run whose values are secret, and where each comes from:
    `secret-manager:NAME`, `k8s:SECRET/KEY`, `prefect:BLOCK` or `env:VARIABLE`."""

    volumes: Mapping[str, Data | str] | None
    """What the run finds at absolute paths: `kinetic.Data(...)` or its source,
    `pvc:CLAIM[/DIRECTORY][:ro]`, or `scratch:100Gi`."""

    output_dir: str | Path | None
    """Where the run's outputs go: a name, a path or `gs://` URI, of which `{function}`, `{name}`,
    `{arguments_hash}` and the names of arguments in braces are replaced; it is used as it is, so
    that a later run finds what is there. None (default) for a directory of each run's own."""

    output_dir_in_use: Literal["refuse", "wait"]
    """What becomes of a run whose `output_dir` another run writes to that has not ended: it is
    refused (default), or waits for that run's end."""

    job_variables: Mapping[str, Any] | None
    """Variables of the work pool's job template on a cluster: `cpu`, `memory`,
    `ephemeral_storage`, `shared_memory` (Kubernetes quantities, such as `64Gi`), `queue_name`,
    `priority_class_name`, `service_account_name`, `labels`, `annotations`, `tolerations`,
    `env_from` (Secrets), and `active_deadline_seconds`, `finished_job_ttl`,
    `termination_grace_seconds` (whole seconds), or what an administrator added. What is left out
    is the work pool's default. Nothing of it matters on this machine."""

    project: str | None
    """Google Cloud project; None for `KINETIC_PROJECT`."""

    zone: str | None
    """Zone of the cluster; None for `KINETIC_ZONE`."""

    cluster: str | None
    """GKE cluster, or the name of a saved profile; None for `KINETIC_CLUSTER`."""

    dispatch: Dispatch | None
    """Who starts runs on a cluster: `client` (this process), `worker` (any stock Prefect worker of
    the work pool), or `auto`; None for `KINETIC_DISPATCH`."""


def _accelerator(name: str, value: Any) -> str:
    from kinetic_flows.core.accelerators import check_accelerator
    from kinetic_flows.core.accelerators.aliases import may_be_alias

    given = check.text(name, value, "name one: `kinetic accelerators` lists all")
    try:
        check_accelerator(given)
    except AcceleratorError:
        if not may_be_alias(given):
            raise
        return MaybeAlias(given)
    return given


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

    accelerator: str = field(default=Unsaid("cpu"), metadata=_by(_accelerator))
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

    def accelerator_or(self, setting: str) -> str:
        """Return what to run on: what was said, else what a setting says."""
        return setting if isinstance(self.accelerator, Unsaid) else self.accelerator

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
                accelerator=None if isinstance(runs_on, Unsaid) else runs_on,
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


def check_flow(target: Any, options: RunOptions) -> None:
    """Refuse options that a Prefect flow has of its own.

    Raises:
        UsageError: There is one.
    """
    if options.retries and is_flow(target):
        raise UsageError(
            f"retries is {options.retries}, and {target.__name__} is a Prefect flow",
            value=options.retries,
            hint="write @flow(retries=...): Prefect's engine runs the flow again in its run",
        )
