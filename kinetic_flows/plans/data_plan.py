"""What a plan says of the data of a call, and of its volumes."""

from __future__ import annotations

from typing import Literal, NamedTuple

from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import KineticError, in_a_sentence
from kinetic_flows.core.job_parts import DataSpec, VolumeSpec
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.volumes import volume_specs
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.plan import PlannedData, PlannedVolume


class DataPlan(NamedTuple):
    """What was found out about the data of a call.

    Attributes:
        data: The data.
        warnings: What the person should know of it, a sentence each.
        obstacles: Why the run could not get it, a sentence each.
        specs: What its job would say of it; empty where some of it cannot be had.
        volumes: What its job would say of its volumes; empty where data cannot be had.
    """

    data: tuple[PlannedData, ...] = ()
    warnings: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()
    specs: tuple[DataSpec, ...] = ()
    volumes: tuple[VolumeSpec, ...] = ()


def plan_data(draft: Draft) -> DataPlan:
    """Find out what the data of a call is, and how much of it would be sent."""
    paths = [
        volume.path
        for volume in (draft.call.options.volumes or {}).values()
        if volume.data is not None
    ]
    arguments = len(draft.data) - len(paths)
    planned: list[PlannedData] = []
    warnings: list[str] = []
    obstacles: list[str] = []
    for number, data in enumerate(draft.data):
        at = paths[number - arguments] if number >= arguments else None
        try:
            planned.append(_planned(draft, data, at))
        except KineticError as error:
            obstacles.append(in_a_sentence(error))
            planned.append(PlannedData(source=data.shown_source, how=_how(draft, data), at=at))
        warnings += draft.sources.warnings(data)
    found = DataPlan(tuple(planned), tuple(warnings), tuple(obstacles))
    if obstacles:
        return found
    volumes = volume_specs(draft.call.options.volumes, arguments)
    specs = tuple(draft.sources.spec(data) for data in draft.data)
    return found._replace(
        specs=draft.platform.data_places(specs, volumes) if specs else (), volumes=volumes
    )


def plan_volumes(options: RunOptions) -> tuple[PlannedVolume, ...]:
    """Return the claims and scratch disks of a run."""
    return tuple(
        PlannedVolume(path=path, volume=str(volume), read_only=volume.read_only)
        for path, volume in (options.volumes or {}).items()
        if volume.data is None
    )


def _planned(draft: Draft, data: Data, at: str | None) -> PlannedData:
    spec: DataSpec = draft.sources.spec(data)
    is_sent = draft.sources.is_sent(data)
    return PlannedData(
        source=spec.source,
        how=_how(draft, data),
        at=at,
        identity=spec.identity or None,
        files=spec.files,
        size_bytes=spec.size_bytes,
        unsent_bytes=draft.sources.unsent_bytes(data) if is_sent else None,
    )


def _how(draft: Draft, data: Data) -> Literal["in place", "sent", "fetched", "mounted"]:
    if data.kind == "local":
        return "sent" if draft.sources.is_sent(data) else "in place"
    # On this machine what would be mounted is copied.
    return "mounted" if data.mode == "mount" and not draft.platform.sees_files else "fetched"
