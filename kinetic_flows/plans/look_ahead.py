"""What speaks against a call before anything is done for it: the same for a plan and for a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.launcher import LaunchNeeds, Preflight
from kinetic_flows.plans.draft import Draft
from kinetic_flows.platforms.base import Platform


def look_ahead(
    draft: Draft, platform: Platform, template: Mapping[str, Any] | None, prefect_api_url: str
) -> Preflight:
    """Ask the cluster everything that a launch by this client depends on.

    Args:
        draft: The call.
        platform: Where it runs.
        template: The work pool's base job template; None for the one that ships.
        prefect_api_url: Where the run is to report.

    Raises:
        LaunchError: Nobody answers.
    """
    options, known = draft.call.options, template or platform.worker_pool.template()
    data = draft.payload.data
    reported_to = platform.api_for_runs(prefect_api_url)
    asked = (draft.accelerator, draft.mode, options, known, reported_to, data)
    needs = platform.launch_needs(*asked)
    found = with_packages(platform.launcher.preflight(needs), needs)
    places = (needs.no_variables, needs.no_volumes, needs.no_secrets, needs.no_slices)
    lacking = [why for why in (*places, needs.no_room) if why]
    return replace(found, problems=(*found.problems, *lacking)) if lacking else found


def with_packages(found: Preflight, needs: LaunchNeeds) -> Preflight:
    """Judge whether packages can be mounted where they are to be, or may be.

    Args:
        found: What the cluster told.
        needs: What the launch needs.
    """
    if found.no_image_volumes is None:
        return found
    why = found.no_image_volumes or needs.no_packages_volume
    found = replace(found, no_image_volumes=why)
    if not why:
        return found
    if needs.packages == "volume":
        problem = f"KINETIC_PREBUILT is 'volume', and packages cannot be mounted: {why}"
        return replace(found, problems=(*found.problems, problem))
    if why == needs.no_packages_volume:
        # The cluster could, and it is up to a person that it does not.
        return replace(found, warnings=(*found.warnings, installed_because(why)))
    return found


def installed_because(why: str) -> str:
    """Say that a prebuilt run's packages are not mounted."""
    return f"packages are installed when the run starts: {why}"


def refuse_volume(
    draft: Draft, platform: Platform, template: Callable[[], Mapping[str, Any] | None]
) -> None:
    """Refuse a run that a worker starts, if its pods must have something and cannot.

    Args:
        draft: The call.
        platform: Where it runs.
        template: Reads the work pool's base job template; None for the one that ships.

    Raises:
        LaunchError: The template has no place for it.
    """
    error = lacks_place(draft, platform, template)
    if error:
        raise error


def _starts_alone(draft: Draft, platform: Platform) -> LaunchError | None:
    try:
        check_worker(draft.accelerator, platform)
    except LaunchError as error:
        return error
    return None


def check_worker(accelerator: Accelerator, platform: Platform) -> None:
    """Refuse a run that a Prefect worker cannot start, as it is more than one Job or process.

    Args:
        accelerator: What it runs on.
        platform: Where it runs.

    Raises:
        LaunchError: It is more.
    """
    why = platform.worker_obstacle(accelerator)
    if why:
        raise LaunchError(
            f"a Prefect worker starts one {why}",
            value=str(accelerator),
            hint="call the function: its client starts them all (on a cluster with "
            "KINETIC_DISPATCH=client, and credentials for it)",
        )


def _no_room(needs: LaunchNeeds) -> LaunchError | None:
    """Return why no machine could ever hold a pod, if so."""
    if not needs.no_room:
        return None
    asked = {"cpu": needs.requests.cpu, "memory": needs.requests.memory}
    hint = "say less with cpu= or memory=; nothing was built or uploaded"
    return LaunchError(needs.no_room, value=asked, hint=hint)


def lacks_place(
    draft: Draft, platform: Platform, template: Callable[[], Mapping[str, Any] | None]
) -> LaunchError | None:
    """Return why a worker's template has no place for something that pods must have, if so.

    Args:
        draft: The call.
        platform: Where it runs.
        template: Reads the work pool's base job template; None for the one that ships.
    """
    asked, data = (draft.accelerator, draft.mode, draft.call.options), draft.payload.data
    needs = platform.launch_needs(*asked, data=data)
    if platform.dispatch == "worker" and (lonely := _starts_alone(draft, platform)):
        return lonely
    if too_much := _no_room(needs):
        return too_much
    is_mounted = needs.packages == "volume" or needs.volumes or needs.secrets
    # Nothing is asked of Prefect for a run that sets nothing.
    sets_some = platform.chosen_variables(draft.call.options) or needs.nodes.labels
    if not is_mounted and not sets_some and not draft.accelerator.flex:
        return None
    needs = platform.launch_needs(*asked, template(), data=data)
    if needs.no_variables:
        return LaunchError(needs.no_variables, hint="nothing was built or uploaded")
    if too_much := _no_room(needs):
        return too_much
    if needs.no_volumes:
        return LaunchError(
            f"the run cannot have its volumes: {needs.no_volumes}",
            value=[volume.path for volume in needs.volumes],
            hint="nothing was built or uploaded",
        )
    if needs.no_secrets:
        variables = [source.variable for source in needs.secrets]
        hint = "nothing was built or uploaded"
        return LaunchError(needs.no_secrets, value=variables, hint=hint)
    if needs.packages == "volume" and needs.no_packages_volume:
        return LaunchError(
            f"KINETIC_PREBUILT is 'volume', and {needs.no_packages_volume}",
            value=needs.packages,
            hint="bring the work pool up to date, or say KINETIC_PREBUILT=install",
        )
    return None


def left_to_worker(pool: str) -> str:
    """Say that a Prefect worker starts the run, because this client may not."""
    return (
        f"left to a Prefect worker of work pool {pool}: from here no Jobs may be created in the "
        "cluster (KINETIC_DISPATCH=client says what is missing)"
    )
