"""What a plan says of the data of a call."""

from __future__ import annotations

from typing import Literal, NamedTuple

from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.job_parts import DataSpec
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.plan import PlannedData


class DataPlan(NamedTuple):
    """What was found out about the data of a call.

    Attributes:
        data: The data.
        warnings: What the person should know of it, a sentence each.
        obstacles: Why the run could not get it, a sentence each.
    """

    data: tuple[PlannedData, ...] = ()
    warnings: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()


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
            obstacles.append(f"{error.message}; {error.hint}" if error.hint else error.message)
            planned.append(PlannedData(source=data.shown_source, how=_how(draft, data), at=at))
        warnings += draft.sources.warnings(data)
    return DataPlan(tuple(planned), tuple(warnings), tuple(obstacles))


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
