"""`kinetic profile`: clusters saved under a name, and which of them is used."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from kinetic_flows.cli.documents import Json, print_json
from kinetic_flows.cli.examples import add_examples
from kinetic_flows.cli.profile_questions import asked_for
from kinetic_flows.cli.profile_values import in_force, pairs
from kinetic_flows.cli.questions import confirmed, is_terminal
from kinetic_flows.cli.reading import anything_to_read, require_something_to_read
from kinetic_flows.cli.tables import print_table
from kinetic_flows.clients.prefect.profiles import SavedProfiles
from kinetic_flows.code.project_settings import local_settings
from kinetic_flows.core.errors import UsageError
from kinetic_flows.core.settings.remembered import USER, RememberedProfiles, remembered_profiles
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.core.settings.table import Profile
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.runs import profiles

profile_app = App(name="profile", help_format="markdown", help_epilogue="")

_FLAG = Parameter(negative="")


@profile_app.command
def create(
    name: str,
    /,
    *,
    project: str | None = None,
    zone: str | None = None,
    cluster: str | None = None,
    namespace: str | None = None,
    work_pool: str | None = None,
    settings: Annotated[tuple[str, ...], Parameter(name="--set", negative="")] = (),
    credentials: str | None = None,
    images: str | None = None,
    base_images: str | None = None,
    current: Annotated[bool, _FLAG] = False,
    update: Annotated[bool, _FLAG] = False,
    overwrite: Annotated[bool, _FLAG] = False,
    use: Annotated[bool, _FLAG] = False,
    as_json: Json = False,
) -> None:
    """Save a cluster under a name, for everybody who uses the same Prefect API.

    What is left out is a default. On a terminal a new profile's project, zone and cluster are
    asked for.

    Args:
        name: What to save it under: lower-case letters, digits and dashes.
        project: The Google Cloud project's id.
        zone: The cluster's zone, or the region of a regional cluster.
        cluster: The GKE cluster.
        namespace: Kubernetes namespace of runs.
        work_pool: Prefect work pool of runs.
        settings: Any other setting, as NAME=VALUE, such as retention_days=90; may be repeated.
        credentials: Name of a saved GCP Credentials block to use in place of Application Default
            Credentials.
        images: Name of a saved Image Repository block for the images that are built.
        base_images: Name of a saved Image Repository block for prebuilt base images.
        current: Begin with what variables, the project's file and the profile in use say now,
            without the credentials that this profile carries.
        update: Change what is given here in a profile that is there, and leave the rest of it.
        overwrite: Replace a profile that is there.
        use: Use it from now on, as `kinetic profile use` does.
        as_json: Print a JSON object.
    """
    if update and overwrite:
        raise UsageError(
            "--update and --overwrite do not go together", hint="leave one of them out"
        )
    profiles.check_name(name)
    options = {"project": project, "zone": zone, "cluster": cluster}
    options |= {"namespace": namespace, "work_pool": work_pool}
    given: dict[str, Any] = in_force() if current else {}
    given |= pairs(settings)
    given |= {key: value for key, value in options.items() if value is not None}
    saved = _saved()
    if "project" not in given and not update and is_terminal() and not as_json:
        if not overwrite and name in saved.names():
            raise profiles.taken(name)
        given |= asked_for(given)
    blocks = {"gcp_credentials": credentials, "images": images, "base_images": base_images}
    action = profiles.save_profile(
        name,
        profiles.checked_values(given),
        {field: block for field, block in blocks.items() if block},
        existing="update" if update else "replace" if overwrite else "refuse",
        saved=saved,
    )
    if use:
        profiles.use_profile(name)
    if as_json:
        print_json({"profile": name, "action": action, "used": use})
        return
    print(f"profile {name}: {action}")
    if use:
        _tell_of_use(name, None)
    elif local_settings(process_environment()).profile != name:
        print(f"`kinetic profile use {name}` uses it from now on")


@profile_app.command
def ls(*, as_json: Json = False) -> None:
    """List the saved profiles, and which of them is used.

    Args:
        as_json: Print a JSON list.
    """
    found = _saved().listed() if anything_to_read() else ()
    settings = local_settings(process_environment())
    remembered = remembered_profiles(settings.home)
    if as_json:
        print_json([_as_json(each, remembered, settings.profile) for each in found])
        return
    if found:
        lines = [_cells(each, remembered, settings.profile) for each in found]
        print_table([("", "name", "project", "zone", "cluster", "remembered for"), *lines])
    else:
        print("no profile is saved: `kinetic profile create NAME --project ID` saves one")
    if settings.profile and settings.profile not in {each.name for each in found}:
        source = settings.sources["profile"]
        print(f"{settings.profile!r} ({source}) is not saved here", file=sys.stderr)


@profile_app.command
def use(
    name: str | None = None,
    /,
    *,
    directory: Path | None = None,
    forget: Annotated[bool, _FLAG] = False,
) -> None:
    """Use a profile from now on, where nothing else names one.

    A variable (`KINETIC_PROFILE`, `KINETIC_PROJECT`, `KINETIC_PLATFORM=local`) and the project's
    file come before it. It is remembered on this machine alone.

    Args:
        name: The profile.
        directory: Use it for functions in this directory and below, and not everywhere; `.` for
            the working directory.
        forget: Use none from now on.
    """
    if (name is None) != forget:
        text = "which profile to use is not said" if name is None else "--forget takes no profile"
        raise UsageError(text, hint="`kinetic profile use NAME`, or `kinetic profile use --forget`")
    if directory is not None and not directory.is_dir() and not forget:
        raise UsageError(
            f"there is no directory {str(directory)!r}",
            value=str(directory),
            hint="give the directory of the functions that are to use it, such as `.`",
        )
    if name is not None:
        require_something_to_read()
        names = _saved().names()
        if name not in names:
            raise profiles.unknown_profile(name, names)
    profiles.use_profile(name, directory)
    _tell_of_use(name, directory)


@profile_app.command
def show(name: str | None = None, /, *, as_json: Json = False) -> None:
    """Print what a profile says; the one in use without a name.

    Args:
        name: The profile.
        as_json: Print a JSON object.
    """
    require_something_to_read()
    settings = local_settings(process_environment())
    wanted = name or settings.profile
    if wanted is None:
        raise UsageError(
            "no profile is in use here", hint="name one: `kinetic profile ls` lists those saved"
        )
    saved = _saved()
    found = saved.load(wanted)
    if found is None:
        raise profiles.unknown_profile(wanted, saved.names())
    remembered = remembered_profiles(settings.home)
    if as_json:
        document = _as_json(found, remembered, settings.profile)
        carried = found.credentials.name if found.credentials else None
        print_json({**document, "credentials": carried})
        return
    lines = [(key, _shown(value)) for key, value in found.values.items()]
    if found.credentials:
        lines.append(("credentials", found.credentials.name))
    places = _places(wanted, remembered)
    print_table([("profile", wanted), *lines, *([("remembered for", places)] if places else [])])


@profile_app.command
def rm(
    name: str,
    /,
    *,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="")] = False,
) -> None:
    """Delete a profile, for everybody, and forget it here; the cluster is left as it is.

    Args:
        name: The profile.
        yes: Do not ask.
    """
    saved = _saved()
    places = remembered_profiles(load_settings(process_environment()).home).of(name)
    names = saved.names() if anything_to_read() else ()
    if name not in names and not places:
        raise profiles.unknown_profile(name, names)
    undone = f"profile {name} was left as it is"
    question = f"Delete the profile {name} for everybody who uses this Prefect API?"
    if not yes and not confirmed(question, undone=undone):
        raise UsageError(undone, value=name, hint="say --yes to delete it")
    for place in profiles.delete_profile(name, saved=saved):
        print(f"it was remembered for {place.place}, where now no profile is")
    print(f"profile {name}: deleted")


def _saved() -> SavedProfiles:
    environ = process_environment()
    return profiles.saved_profiles(terminal_progress(load_settings(environ).progress, environ))


def _tell_of_use(name: str | None, directory: Path | None) -> None:
    """Say what is used from now on, and what comes before it there."""
    place = directory.resolve() if directory else None
    used = f"used in {place}" if place else "used wherever nothing names another"
    gone = f"no profile is remembered any more for {place or USER}"
    print(f"profile {name} is {used}" if name else gone)
    settings = local_settings(process_environment(), place)
    where, sources = "there" if place else "here", settings.sources
    if name and settings.platform == "local":
        print(f"{where} functions run on this machine: {sources['platform']} comes before it")
    elif settings.profile not in (name, None):
        before = " comes before it" if name else ""
        print(f"{where} {settings.profile} is used: {sources['profile']}{before}")


def _places(name: str, remembered: RememberedProfiles) -> str:
    return ", ".join(place.place for place in remembered.of(name))


def _cells(each: Profile, remembered: RememberedProfiles, used: str | None) -> Sequence[str]:
    said = [str(each.values.get(key, "-")) for key in ("project", "zone", "cluster")]
    return ("*" if each.name == used else "", each.name, *said, _places(each.name, remembered))


def _as_json(each: Profile, remembered: RememberedProfiles, used: str | None) -> dict[str, Any]:
    places = remembered.of(each.name)
    return {
        "name": each.name,
        "used": each.name == used,
        "remembered_for": {
            "user": any(place.directory is None for place in places),
            "directories": [str(place.directory) for place in places if place.directory],
        },
        "values": dict(each.values),
    }


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={item}" for key, item in value.items())
    return str(value)


add_examples(
    profile_app,
    {
        "create": (
            "kinetic profile create team --project my-project-123 --zone europe-west4-b --use",
            "kinetic profile create team --update --set retention_days=90",
            "kinetic profile create mine --current",
        ),
        "ls": ("kinetic profile ls",),
        "use": (
            "kinetic profile use team",
            "kinetic profile use team --directory .",
            "kinetic profile use --forget",
        ),
        "show": ("kinetic profile show", "kinetic profile show team --json"),
        "rm": ("kinetic profile rm team",),
    },
)
