"""The settings in force: the table of those that the environment decides, and Google Cloud's.

This is the one module that reads `os.environ`: once for each thing that a person asks for.
Everything below receives a `Settings` value.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.progress import ProgressMode
from kinetic_flows.core.settings import values as check
from kinetic_flows.core.settings.accelerator_names import setting_meant
from kinetic_flows.core.settings.active_profile import cloud_of, resolve_profile
from kinetic_flows.core.settings.cloud import (
    DEFAULT_BASE_IMAGE_REPO,
    DEFAULT_RETENTION_DAYS,
    CloudSettings,
)
from kinetic_flows.core.settings.price_values import check_prices
from kinetic_flows.core.settings.pyproject import (
    ACCELERATORS,
    OTHER_KEYS,
    keys,
    read_project_settings,
)
from kinetic_flows.core.settings.remembered import remembered_profiles
from kinetic_flows.core.settings.table import (
    DEFAULT,
    Givers,
    Profiles,
    ProjectSettings,
    Source,
    row,
    rows,
)
from kinetic_flows.core.settings.variables import unknown_variables

TRACKING = ("DO_NOT_TRACK", "PREFECT_SERVER_ANALYTICS_ENABLED")
"""Variables by which people choose whether Prefect may tell of their use of it."""

PlatformName = Literal["local", "gke"]

_RANKS = ("environment", "pyproject", "remembered")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment decides: each setting with the variable that sets it."""

    platform: PlatformName = field(metadata=row(check.choice(*get_args(PlatformName))))
    """`KINETIC_PLATFORM`: where functions run. Unset: `gke` when a project or a profile is
    configured, else `local`."""

    home: Path = field(
        metadata=row(check.home, lambda _: Path.home() / ".kinetic", is_of_projects=False)
    )
    """`KINETIC_HOME`: caches, local environments and the background Prefect server."""

    project: str | None = field(metadata=row(check.as_it_is))
    """`KINETIC_PROJECT`: Google Cloud project; None when unknown."""

    profile: str | None = field(metadata=row(check.as_it_is))
    """`KINETIC_PROFILE`: name of the saved `KineticCluster` block; None for none."""

    accelerator: str = field(metadata=row(check.as_it_is, "cpu"))
    """`KINETIC_ACCELERATOR`: what functions run on whose decorator does not say."""

    package_root: Path | None = field(metadata=row(check.path, is_of_projects=False))
    """`KINETIC_PACKAGE_ROOT`: directory to ship; None to find it."""

    container_image: str | None = field(metadata=row(check.as_it_is, is_of_projects=False))
    """`KINETIC_CONTAINER_IMAGE`: image mode or URI that overrides the decorator's; None leaves it
    alone."""

    base_image_repo: str = field(metadata=row(check.as_it_is, DEFAULT_BASE_IMAGE_REPO))
    """`KINETIC_BASE_IMAGE_REPO`: repository of the prebuilt base images."""

    output_dir: str | None = field(metadata=row(check.as_it_is))
    """`KINETIC_OUTPUT_DIR`: where runs keep their outputs; None for the store's."""

    quiet: bool = field(metadata=row(check.flag, False, is_of_projects=False))
    """`KINETIC_QUIET`: what `KINETIC_PROGRESS=quiet` says today; counts where that is not set."""

    progress: ProgressMode = field(
        metadata=row(
            check.choice(*get_args(ProgressMode)),
            lambda values: "quiet" if values["quiet"] else "auto",
            is_of_projects=False,
        )
    )
    """`KINETIC_PROGRESS`: how a call is shown: `auto`, alive on a terminal and in plain lines
    elsewhere; `rich` or `plain` wherever it goes; `verbose`, with every step and every line of a
    build's log; `quiet`, nothing but what the function prints."""

    debug: bool = field(metadata=row(check.flag, False, is_of_projects=False))
    """`KINETIC_DEBUG`: show all frames and causes of errors, and what other libraries log for
    us."""

    strict_imports: bool = field(metadata=row(check.flag, False))
    """`KINETIC_STRICT_IMPORTS`: refuse a call that imports what is not among its dependencies, in
    place of warning."""

    no_default_excludes: bool = field(metadata=row(check.flag, False))
    """`KINETIC_NO_DEFAULT_EXCLUDES`: ship what is excluded by default."""

    no_origin: bool = field(metadata=row(check.flag, False))
    """`KINETIC_NO_ORIGIN`: leave out of a run who called it from where, and the commit of its
    code."""

    max_code_size_bytes: int = field(
        metadata=row(check.megabytes, 2_000_000_000, variable="KINETIC_MAX_CODE_SIZE_MB")
    )
    """`KINETIC_MAX_CODE_SIZE_MB`: refuse to ship more code than this."""

    retention_days: int = field(metadata=row(check.whole_number("days"), DEFAULT_RETENTION_DAYS))
    """`KINETIC_RETENTION_DAYS`: after how long a run's own objects expire."""

    rehearse: bool = field(metadata=row(check.flag, True, is_of_projects=False))
    """`KINETIC_REHEARSE`: 0 launches what a rehearsal says does not fit, too, and rehearses
    nothing before it."""

    prices: Mapping[str, float] = field(metadata=row(check_prices, lambda _: {}))
    """`KINETIC_PRICES`: what an hour of a chip, or of this machine, costs; see `own_prices`."""

    platform_is_explicit: bool
    """Whether `KINETIC_PLATFORM` itself chose the platform."""

    inside_run: bool
    """Whether this process is itself a run (the runner sets `KINETIC_RUN_ID`)."""

    cloud: CloudSettings | None = None
    """What decides where on Google Cloud things are; None on this machine, and until
    `resolve_settings` has asked for it."""

    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)
    """Where the values came from, by field."""

    project_file: ProjectSettings | None = field(default=None, repr=False)
    """What the project's `pyproject.toml` says; None when it says nothing, or was not asked."""

    @property
    def own_prices(self) -> Mapping[str, float]:
        """Prices that somebody has given: those of the cluster that is used, where one is."""
        return self.prices if self.cloud is None else self.cloud.prices

    def required_cloud(self) -> CloudSettings:
        """Return the settings of Google Cloud.

        Raises:
            ConfigurationError: They have not been resolved.
        """
        if self.cloud is None:
            raise ConfigurationError(
                "Google Cloud was chosen and its settings are not known",
                value=self.platform,
                hint="see `kinetic config` for what is set and what is missing",
            )
        return self.cloud


@dataclass(frozen=True, kw_only=True)
class ResolvedSetting:
    """One setting as it came out.

    Attributes:
        name: Its name.
        value: Its value; None where None means something.
        source: Where the value came from.
    """

    name: str
    value: object
    source: Source


def load_settings(
    environ: Mapping[str, str] | None = None,
    project_file: ProjectSettings | None = None,
    directory: Path | None = None,
) -> Settings:
    """Read the settings that this machine alone decides.

    Args:
        environ: Variables to read; None for this process's environment.
        project_file: What the project's `pyproject.toml` says; None for nothing.
        directory: Where the function's file is, for which a profile may be remembered; None where
            that is not known: then none is, and an accelerator may be one that only a project
            knows.

    Raises:
        ConfigurationError: A value cannot be.
    """
    env = os.environ if environ is None else environ
    values, sources = Givers(environ=env, project=project_file).resolve(Settings)
    is_explicit = sources["platform"].kind == "environment"
    is_local = is_explicit and values["platform"] == "local"
    inside_run = "KINETIC_RUN_ID" in env
    # A run on this machine has its user's KINETIC_HOME; what they choose later is not for it.
    asks_nobody = is_local or inside_run or sources["profile"] != DEFAULT
    if directory is not None and not asks_nobody:
        remembered = remembered_profiles(values["home"]).at(directory)
        if remembered:
            values["profile"] = remembered.name
            sources["profile"] = Source("remembered", remembered.place)
    if sources["accelerator"] != DEFAULT and (directory or project_file):
        values["accelerator"] = setting_meant(
            values["accelerator"], sources["accelerator"], project_file
        )
    values["platform"], sources["platform"] = _platform(values, sources)
    if values["platform"] == "gke":
        values["project"] = values["project"] or env.get("GOOGLE_CLOUD_PROJECT") or None
    return Settings(
        **values,
        platform_is_explicit=is_explicit,
        inside_run=inside_run,
        sources=sources,
        project_file=project_file,
    )


def _platform(
    values: Mapping[str, Any], sources: Mapping[str, Source]
) -> tuple[PlatformName, Source]:
    """Return where functions run, and who said so.

    The environment comes before the project's file, and that before what is remembered.
    """
    said = [name for name in ("platform", "project", "profile") if sources[name] != DEFAULT]
    by_rank = sorted(said, key=lambda name: _RANKS.index(sources[name].kind))
    if not by_rank:
        return "local", DEFAULT
    first = by_rank[0]
    return values["platform"] if first == "platform" else "gke", sources[first]


def resolve_settings(
    settings: Settings,
    profiles: Profiles,
    *,
    environ: Mapping[str, str],
    arguments: Mapping[str, str] | None = None,
) -> Settings:
    """Add the settings of Google Cloud, where functions run there.

    Elsewhere nothing is asked of `profiles`.

    Args:
        settings: What the environment alone decides.
        profiles: Where profiles are saved.
        environ: Variables to read.
        arguments: What the decorator says: `project`, `zone`, `cluster`, `base_image_repo`.
            A cluster may be the name of a profile.

    Raises:
        ConfigurationError: A value cannot be, a profile does not exist, or no project is known.
    """
    given = dict(arguments or {})
    chooses = next((name for name in ("project", "cluster") if name in given), None)
    is_elsewhere = settings.platform != "gke"
    if is_elsewhere and (settings.platform_is_explicit or chooses is None):
        return settings
    sources = dict(settings.sources)
    if is_elsewhere:
        sources["platform"] = Source("argument", f"{chooses}=")
    found, source, given = resolve_profile(
        profiles, given, settings.profile, sources["profile"], settings.home
    )
    cloud, profile = cloud_of(found, source, given, environ, settings.project_file)
    sources["profile"] = source if profile else DEFAULT
    return replace(
        settings,
        platform="gke",
        project=cloud.project,
        profile=profile.name if profile else None,
        base_image_repo=cloud.base_image_repo,
        retention_days=cloud.retention_days,
        cloud=cloud,
        sources=sources,
    )


def describe_settings(settings: Settings) -> tuple[ResolvedSetting, ...]:
    """Return every setting in force, with where its value came from."""
    cloud, names = settings.cloud, _accelerator_names(settings.project_file)
    if cloud is None:
        return (*_described(settings, rows(Settings)), names)
    own = [name for name in rows(Settings) if name not in rows(CloudSettings)]
    saved = cloud.credentials
    credentials = ResolvedSetting(
        name="credentials",
        value=saved.name if saved else None,
        source=Source("profile", settings.profile or "") if saved else DEFAULT,
    )
    return (*_described(settings, own), *_described(cloud, rows(CloudSettings)), credentials, names)


def _accelerator_names(file: ProjectSettings | None) -> ResolvedSetting:
    """Return the project's own names for accelerators, as if they were a setting."""
    if file is None or not file.accelerators:
        return ResolvedSetting(name=ACCELERATORS, value={}, source=DEFAULT)
    source = file.source(ACCELERATORS, file.accelerators_line)
    return ResolvedSetting(name=ACCELERATORS, value=file.accelerators, source=source)


def _described(holder: Settings | CloudSettings, names: Iterable[str]) -> Iterator[ResolvedSetting]:
    for name in names:
        source = holder.sources[name]
        yield ResolvedSetting(name=name, value=getattr(holder, name), source=source)


def unknown_settings(environ: Mapping[str, str]) -> list[str]:
    """Return what to say of each variable that begins like a setting and is none.

    Args:
        environ: Variables to read.
    """
    return unknown_variables(environ, (Settings, CloudSettings))


def settings_of_project(path: Path) -> ProjectSettings | None:
    """Return what a `pyproject.toml` says; None when there is none, or it says nothing.

    Args:
        path: The file.

    Raises:
        ConfigurationError: It cannot be read, or says what cannot be.
    """
    return read_project_settings(path, (Settings, CloudSettings))


def project_keys() -> tuple[str, ...]:
    """Return every key that `[tool.kinetic]` may have."""
    return (*keys((Settings, CloudSettings)), *OTHER_KEYS)


def process_environment() -> Mapping[str, str]:
    """Return this process's environment as it is now, for what a person asks for once."""
    return dict(os.environ)


def is_debugging() -> bool:
    """Whether errors show everything: `KINETIC_DEBUG`, which no wrong value may make an error."""
    word = os.environ.get("KINETIC_DEBUG", "").strip().lower()
    return word not in ("", *check.NO)


def track_nobody() -> None:
    """Have Prefect send nothing about this process to anybody, unless the person has chosen.

    It asks for these variables when it is imported, and later for each event, see
    https://docs.prefect.io/v3/concepts/telemetry. What this process starts inherits the choice.
    """
    if not any(name in os.environ for name in TRACKING):
        os.environ["DO_NOT_TRACK"] = "1"


def show_progress(mode: ProgressMode) -> None:
    """Have this process's calls shown in a way that its command line asks for.

    Args:
        mode: What `KINETIC_PROGRESS` is from here on.
    """
    os.environ["KINETIC_PROGRESS"] = mode
