"""Every `KINETIC_*` setting and where its value came from, resolved once at the boundary.

This is the one module that reads `os.environ`. Everything below receives a `Settings` value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Literal

from kinetic_flows.core.errors import ConfigurationError, suggest
from kinetic_flows.core.settings.cloud import (
    DEFAULT,
    DEFAULT_RETENTION_DAYS,
    CloudSettings,
    Profile,
    Profiles,
    Source,
    resolve_cloud,
)
from kinetic_flows.core.settings.values import whole_number

PlatformName = Literal["local", "gke"]

PREFIX = "KINETIC_"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the environment decides, with the variable that sets it under each field.

    Attributes:
        platform: `KINETIC_PLATFORM`: where functions run. Unset: `gke` when a project or a
            profile is configured, else `local`.
        platform_is_explicit: Whether `KINETIC_PLATFORM` itself chose the platform.
        home: `KINETIC_HOME`: caches, local environments and the background Prefect server.
        project: `KINETIC_PROJECT`: Google Cloud project; None when unknown.
        profile: `KINETIC_PROFILE`: name of the saved `KineticCluster` block; None for none.
        package_root: `KINETIC_PACKAGE_ROOT`: directory to ship; None to find it.
        container_image: `KINETIC_CONTAINER_IMAGE`: image mode or URI that overrides the
            decorator's; None leaves it alone.
        base_image_repo: `KINETIC_BASE_IMAGE_REPO`: repository of the prebuilt base images.
        output_dir: `KINETIC_OUTPUT_DIR`: where runs keep their outputs; None for the store's.
        quiet: `KINETIC_QUIET`: print no progress and no output of the function.
        strict_imports: `KINETIC_STRICT_IMPORTS`: refuse a call that imports what is not among its
            dependencies, in place of warning.
        no_default_excludes: `KINETIC_NO_DEFAULT_EXCLUDES`: ship what is excluded by default.
        max_code_size_bytes: `KINETIC_MAX_CODE_SIZE_MB`: refuse to ship more code than this.
        retention_days: `KINETIC_RETENTION_DAYS`: after how long a run's own objects expire.
        inside_run: Whether this process is itself a run (the runner sets `KINETIC_RUN_ID`).
        cloud: What decides where on Google Cloud things are; None on this machine, and until
            `resolve_settings` has asked for it.
        sources: Where the values came from, by field; what is missing is a default.
    """

    platform: PlatformName = "local"
    platform_is_explicit: bool = False
    home: Path = field(default_factory=lambda: Path.home() / ".kinetic")
    project: str | None = None
    profile: str | None = None
    package_root: Path | None = None
    container_image: str | None = None
    base_image_repo: str = "kinetic"
    output_dir: str | None = None
    quiet: bool = False
    strict_imports: bool = False
    no_default_excludes: bool = False
    max_code_size_bytes: int = 2_000_000_000
    retention_days: int = DEFAULT_RETENTION_DAYS
    inside_run: bool = False
    cloud: CloudSettings | None = None
    sources: Mapping[str, Source] = field(default_factory=dict, repr=False)

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


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings that the environment alone decides.

    Args:
        environ: Variables to read; None for this process's environment.

    Raises:
        ConfigurationError: A variable has a value that cannot be.
    """
    env = os.environ if environ is None else environ
    project = _text(env, "PROJECT")
    profile = _text(env, "PROFILE")
    chosen = _platform(env)
    platform: PlatformName = chosen or ("gke" if project or profile else "local")
    if platform == "gke":
        project = project or env.get("GOOGLE_CLOUD_PROJECT") or None
    return Settings(
        platform=platform,
        platform_is_explicit=chosen is not None,
        home=_home(env),
        project=project,
        profile=profile,
        package_root=_path(env, "PACKAGE_ROOT"),
        container_image=_text(env, "CONTAINER_IMAGE"),
        base_image_repo=_text(env, "BASE_IMAGE_REPO") or "kinetic",
        output_dir=_text(env, "OUTPUT_DIR"),
        quiet=_flag(env, "QUIET"),
        strict_imports=_flag(env, "STRICT_IMPORTS"),
        no_default_excludes=_flag(env, "NO_DEFAULT_EXCLUDES"),
        max_code_size_bytes=_megabytes(env, "MAX_CODE_SIZE_MB", default=2000),
        retention_days=_days(env),
        inside_run="KINETIC_RUN_ID" in env,
        sources=_sources(env),
    )


def resolve_settings(
    profiles: Profiles,
    *,
    arguments: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings, and those of Google Cloud where functions run there.

    On this machine nothing is asked of `profiles`.

    Args:
        profiles: Where profiles are saved.
        arguments: What the decorator says: `project`, `zone`, `cluster`, `base_image_repo`.
            A cluster may be the name of a profile.
        environ: Variables to read; None for this process's environment.

    Raises:
        ConfigurationError: A value cannot be, a profile does not exist, or no project is known.
    """
    env = os.environ if environ is None else environ
    given = dict(arguments or {})
    settings = load_settings(env)
    chooses = next((name for name in ("project", "cluster") if name in given), None)
    if settings.platform == "local" and (settings.platform_is_explicit or chooses is None):
        return settings
    sources = dict(settings.sources)
    if settings.platform == "local":
        sources["platform"] = Source("argument", f"{chooses}=")
    profile = _active_profile(profiles, given, settings, sources)
    cloud = resolve_cloud(arguments=given, environ=env, profile=profile)
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
    hidden = {"platform_is_explicit", "inside_run", "cloud", "sources", "credentials"}
    cloud = settings.cloud
    in_cloud = [item.name for item in fields(cloud)] if cloud else []
    rows = [
        _row(settings, settings.sources, item.name)
        for item in fields(settings)
        if item.name not in hidden.union(in_cloud)
    ]
    if cloud:
        rows += [_row(cloud, cloud.sources, name) for name in in_cloud if name not in hidden]
        saved = cloud.credentials
        source = Source("profile", settings.profile or "") if saved else DEFAULT
        rows.append(
            ResolvedSetting(name="credentials", value=saved.name if saved else None, source=source)
        )
    return tuple(rows)


def process_environment() -> Mapping[str, str]:
    """Return this process's environment, for those who start other programs."""
    return os.environ


def captured_environment(names: tuple[str, ...]) -> dict[str, str]:
    """Return the values of the variables a function asked to take along.

    Raises:
        ConfigurationError: A variable is not set.
    """
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise ConfigurationError(
            f"capture_env_vars names variables that are not set: {', '.join(missing)}",
            value=tuple(missing),
            hint="export them before the call, or take them out of capture_env_vars",
        )
    return {name: os.environ[name] for name in names}


def _active_profile(
    profiles: Profiles, given: dict[str, str], settings: Settings, sources: dict[str, Source]
) -> Profile | None:
    """Return the profile in force; a cluster that turns out to name it is taken out of `given`."""
    cluster = given.get("cluster")
    named = profiles.load(cluster) if cluster else None
    if named:
        del given["cluster"]
        sources["profile"] = Source("argument", "cluster=")
        return named
    if settings.profile is None:
        return None
    found = profiles.load(settings.profile)
    if found is None:
        saved = profiles.names()
        raise ConfigurationError(
            f"KINETIC_PROFILE is {settings.profile!r}, and no profile of that name is saved",
            value=settings.profile,
            hint=suggest(settings.profile, saved)
            if saved
            else "save one: kinetic_flows.blocks.KineticCluster(project=...)"
            f".save({settings.profile!r})",
        )
    return found


def _row(holder: object, sources: Mapping[str, Source], name: str) -> ResolvedSetting:
    return ResolvedSetting(
        name=name, value=getattr(holder, name), source=sources.get(name, DEFAULT)
    )


_VARIABLES = {"max_code_size_bytes": "KINETIC_MAX_CODE_SIZE_MB"}


def _sources(env: Mapping[str, str]) -> dict[str, Source]:
    """Return which fields a variable decides."""
    sources = {}
    for item in fields(Settings):
        name = _VARIABLES.get(item.name, PREFIX + item.name.upper())
        if env.get(name, "").strip():
            sources[item.name] = Source("environment", name)
    chooser = next((name for name in ("platform", "project", "profile") if name in sources), None)
    if chooser:
        sources["platform"] = sources[chooser]
    return sources


def _text(env: Mapping[str, str], name: str) -> str | None:
    return env.get(PREFIX + name, "").strip() or None


def _platform(env: Mapping[str, str]) -> PlatformName | None:
    value = (_text(env, "PLATFORM") or "").lower()
    if value == "local":
        return "local"
    if value == "gke":
        return "gke"
    if value:
        raise ConfigurationError(
            f"KINETIC_PLATFORM is {value!r}", value=value, hint=suggest(value, ("local", "gke"))
        )
    return None


def _home(env: Mapping[str, str]) -> Path:
    value = _text(env, "HOME")
    if value is None:
        return Path.home() / ".kinetic"
    path = Path(value).expanduser()
    if not path.is_absolute():
        raise ConfigurationError(
            f"KINETIC_HOME is the relative path {value!r}",
            value=value,
            hint="give it as an absolute path, so that every working directory shares it",
        )
    return path


def _path(env: Mapping[str, str], name: str) -> Path | None:
    value = _text(env, name)
    return Path(value).expanduser() if value else None


def _flag(env: Mapping[str, str], name: str) -> bool:
    value = (_text(env, name) or "").lower()
    if value in ("", "0", "false", "no", "off"):
        return False
    if value in ("1", "true", "yes", "on"):
        return True
    raise ConfigurationError(f"{PREFIX}{name} is {value!r}", value=value, hint="set it to 1 or 0")


def _days(env: Mapping[str, str]) -> int:
    value = _text(env, "RETENTION_DAYS")
    name = f"{PREFIX}RETENTION_DAYS"
    return DEFAULT_RETENTION_DAYS if value is None else whole_number("days")(value, name)


def _megabytes(env: Mapping[str, str], name: str, *, default: int) -> int:
    value = _text(env, name)
    if value is None:
        return default * 1_000_000
    if not value.isdigit() or int(value) == 0:
        raise ConfigurationError(
            f"{PREFIX}{name} is {value!r}", value=value, hint="give a whole number of megabytes"
        )
    return int(value) * 1_000_000
