"""Every `KINETIC_*` setting and where its value came from, resolved once at the boundary.

This is the one module that reads `os.environ`. Everything below receives a `Settings` value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from kinetic_flows.errors import ConfigurationError, suggest

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
        no_default_excludes: `KINETIC_NO_DEFAULT_EXCLUDES`: ship what is excluded by default.
        max_code_size_bytes: `KINETIC_MAX_CODE_SIZE_MB`: refuse to ship more code than this.
        inside_run: Whether this process is itself a run (the runner sets `KINETIC_RUN_ID`).
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
    no_default_excludes: bool = False
    max_code_size_bytes: int = 2_000_000_000
    inside_run: bool = False


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

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
        no_default_excludes=_flag(env, "NO_DEFAULT_EXCLUDES"),
        max_code_size_bytes=_megabytes(env, "MAX_CODE_SIZE_MB", default=2000),
        inside_run="KINETIC_RUN_ID" in env,
    )


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


def setting_names() -> tuple[str, ...]:
    """Return the names of all settings, as fields of `Settings`."""
    return tuple(item.name for item in fields(Settings))


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


def _megabytes(env: Mapping[str, str], name: str, *, default: int) -> int:
    value = _text(env, name)
    if value is None:
        return default * 1_000_000
    if not value.isdigit() or int(value) == 0:
        raise ConfigurationError(
            f"{PREFIX}{name} is {value!r}", value=value, hint="give a whole number of megabytes"
        )
    return int(value) * 1_000_000
