"""Which saved profile is in force, and what is said of one that cannot be found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kinetic_flows.core.errors import ConfigurationError, suggest
from kinetic_flows.core.settings.cloud import CloudSettings, resolve_cloud
from kinetic_flows.core.settings.remembered import FILE, USER
from kinetic_flows.core.settings.table import (
    DEFAULT,
    Profile,
    Profiles,
    ProjectSettings,
    Source,
)


def resolve_profile(
    profiles: Profiles,
    given: Mapping[str, str],
    named: str | None,
    source: Source,
    home: Path,
) -> tuple[Profile | None, Source, dict[str, str]]:
    """Return the profile in force, who named it, and the arguments that are left.

    A cluster that turns out to name a profile is no argument any more.

    Args:
        profiles: Where profiles are saved.
        given: What the decorator says.
        named: The profile that the environment, the project's file or what is remembered names;
            None for none.
        source: Who named it.
        home: `KINETIC_HOME`.

    Raises:
        ConfigurationError: There is no such profile.
    """
    arguments = dict(given)
    cluster = arguments.get("cluster")
    of_cluster = profiles.load(cluster) if cluster else None
    if of_cluster:
        del arguments["cluster"]
        return of_cluster, Source("argument", "cluster="), arguments
    if named is None:
        return None, DEFAULT, arguments
    found = profiles.load(named)
    if found is None:
        raise _missing(named, source, profiles.names(), home)
    return found, source, arguments


def cloud_of(
    profile: Profile | None,
    source: Source,
    arguments: Mapping[str, object],
    environ: Mapping[str, str],
    project_file: ProjectSettings | None,
) -> tuple[CloudSettings, Profile | None]:
    """Decide every setting of Google Cloud, and whether the profile counts.

    A profile that is only remembered counts for its own project: where something else names
    another one, its zone, its accounts and its credentials would be those of the wrong place.

    Args:
        profile: The profile in force; None for none.
        source: Who named it.
        arguments: What the decorator says, by field.
        environ: Variables.
        project_file: What the project's `pyproject.toml` says; None for nothing.

    Raises:
        ConfigurationError: A value cannot be, or there is no project.
    """

    def resolved(counting: Profile | None) -> CloudSettings:
        return resolve_cloud(
            arguments=arguments,
            environ=environ,
            profile=counting,
            project_file=project_file,
            is_profile_last=source.kind in ("pyproject", "remembered"),
        )

    cloud = resolved(profile)
    own = profile.values.get("project") if profile else None
    if source.kind == "remembered" and own not in (None, cloud.project):
        return resolved(None), None
    return cloud, profile


def _missing(name: str, source: Source, saved: tuple[str, ...], home: Path) -> ConfigurationError:
    """Return the error for a profile that is not saved where it is looked for."""
    if source.kind == "remembered":
        import shlex

        place = shlex.quote(source.name)
        forget, choose = "`kinetic profile use --forget`", "`kinetic profile use NAME`"
        if source.name != USER:
            forget = f"`kinetic profile use --forget --directory {place}`"
            choose = f"`kinetic profile use NAME --directory {place}`"
        return ConfigurationError(
            f"the profile {name!r}, remembered for {source.name} in {home / FILE}, is not saved "
            "in the Prefect API in use",
            value=name,
            hint=f"{forget} forgets it; {choose} chooses another: {', '.join(saved)}"
            if saved
            else f"{forget} forgets it; `kinetic profile create {name}` saves one",
        )
    return ConfigurationError(
        f"{source.name}: there is no saved profile {name!r}"
        if source.kind == "pyproject"
        else f"KINETIC_PROFILE is {name!r}, and no profile of that name is saved",
        value=name,
        hint=suggest(name, saved)
        if saved
        else f"save one: `kinetic profile create {name} --project ID`, or "
        f"kinetic_flows.blocks.KineticCluster(project=...).save({name!r})",
    )
