"""Saving profiles, and choosing the one that counts where nothing names any."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from kinetic_flows.clients.prefect.profiles import SavedProfiles
from kinetic_flows.core.errors import ConfigurationError, UsageError, suggest
from kinetic_flows.core.progress import NullProgress, Progress
from kinetic_flows.core.settings.cloud import CloudSettings, check_value
from kinetic_flows.core.settings.remembered import (
    RememberedProfile,
    RememberedProfiles,
    remember_profile,
    remembered_profiles,
)
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.core.settings.table import rows
from kinetic_flows.runs.session import prefect_api_url

MAX_NAME_CHARACTERS = 255
"""Of a Prefect block's name."""

Existing = Literal["refuse", "update", "replace"]
"""What becomes of a profile that is there: nothing, its other values and credentials stay, or all
of it goes."""

Saved = Literal["created", "changed", "unchanged"]


def saved_profiles(progress: Progress | None = None) -> SavedProfiles:
    """Return the profiles saved in the Prefect API in use.

    Args:
        progress: Told when the background server has to be started; None for nobody.
    """
    environ = process_environment()
    settings = load_settings(environ)
    shown = progress or NullProgress()
    return SavedProfiles(lambda: prefect_api_url(settings, environ, shown))


def save_profile(
    name: str,
    values: Mapping[str, object],
    blocks: Mapping[str, str] | None = None,
    *,
    existing: Existing = "update",
    saved: SavedProfiles | None = None,
) -> Saved:
    """Save a cluster under a name.

    Args:
        name: The profile's name.
        values: What it sets, by the name of the setting (a field of `CloudSettings`).
        blocks: Names of saved blocks that it is to carry, by field: `gcp_credentials`, `images`,
            `base_images`; those that it carries already stay where it is updated.
        existing: What becomes of a profile of that name.
        saved: Where to save it; None for the Prefect API in use.

    Returns:
        What became of it.

    Raises:
        UsageError: It is there, and is not to be changed.
        ConfigurationError: A value cannot be, a setting does not exist, the project is missing, or
            there is no such block.
        PrefectServerError: Prefect cannot be asked.
    """
    checked = checked_values(values)
    store = saved or saved_profiles()
    before = store.load(check_name(name))
    if before is not None and existing == "refuse":
        raise taken(name)
    kept = before if before is not None and existing == "update" else None
    wanted = {**kept.values, **checked} if kept else checked
    if "project" not in wanted:
        raise ConfigurationError(
            f"profile {name!r} would name no project",
            value=name,
            hint="give the Google Cloud project's id: --project my-project-123",
        )
    if kept and wanted == kept.values and not blocks:
        return "unchanged"
    if kept:
        store.update(name, checked, blocks)
    else:
        store.save(name, checked, blocks)
    return "created" if before is None else "changed"


def use_profile(name: str | None, where: Path | None = None) -> RememberedProfiles:
    """Remember a profile as the one that counts where nothing names any.

    Args:
        name: Its name, which is not looked up; None to forget the one that was.
        where: The directory for which, and for those in it; None for wherever this user is.

    Returns:
        What is remembered from now on.

    Raises:
        ConfigurationError: The name cannot be, or the file that remembers is damaged.
    """
    home = load_settings(process_environment()).home
    directory = where.resolve() if where else None
    remember_profile(home, None if name is None else check_name(name), directory)
    return remembered_profiles(home)


def delete_profile(
    name: str, *, saved: SavedProfiles | None = None
) -> tuple[RememberedProfile, ...]:
    """Delete a profile, and forget it wherever this machine remembers it.

    Args:
        name: Its name.
        saved: Where it is saved; None for the Prefect API in use.

    Returns:
        Where it was remembered.

    Raises:
        ConfigurationError: It is neither saved nor remembered.
        PrefectServerError: Prefect cannot be asked.
    """
    store = saved or saved_profiles()
    home = load_settings(process_environment()).home
    places = remembered_profiles(home).of(name)
    if not store.delete(name) and not places:
        raise unknown_profile(name, store.names())
    for place in places:
        remember_profile(home, None, place.directory)
    return places


def taken(name: str) -> UsageError:
    """Return the error for the name of a profile that is there.

    Args:
        name: The profile.
    """
    return UsageError(
        f"there is a profile {name!r} already",
        value=name,
        hint="--update changes the values that are given and leaves its others, --overwrite "
        "replaces all of it",
    )


def unknown_profile(name: str, names: tuple[str, ...]) -> ConfigurationError:
    """Return the error for a profile that is not saved.

    Args:
        name: The profile.
        names: Those that are saved.
    """
    create = f"`kinetic profile create {name}` saves one"
    return ConfigurationError(
        f"no profile {name!r} is saved",
        value=name,
        hint=suggest(name, names) if names else create,
    )


def check_name(name: str) -> str:
    """Return a profile's name, if it may be one.

    Raises:
        ConfigurationError: Prefect does not take it as a block's name.
    """
    if len(name) > MAX_NAME_CHARACTERS or not re.fullmatch(r"[a-z0-9]+(?:-+[a-z0-9]+)*", name):
        raise ConfigurationError(
            f"a profile cannot be called {name!r}",
            value=name,
            hint="give lower-case letters, digits and dashes",
        )
    return name


def checked_values(values: Mapping[str, object]) -> dict[str, Any]:
    """Return the values of a profile as they are used.

    Args:
        values: What is to be saved, by setting; None counts as not given.

    Raises:
        ConfigurationError: A value cannot be, or a setting does not exist.
    """
    known = rows(CloudSettings)
    for key in values:
        if key not in known:
            raise ConfigurationError(
                f"a profile has no setting {key!r}", value=key, hint=suggest(key, known)
            )
    return {key: check_value(key, value) for key, value in values.items() if value is not None}
