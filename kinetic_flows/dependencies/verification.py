"""Checking a lock that somebody else made against what the project asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from packaging.requirements import InvalidRequirement, Requirement

from kinetic_flows.dependencies.lines import Line
from kinetic_flows.dependencies.targets import Target


def unsatisfied(
    lines: Iterable[Line], versions: Mapping[str, str | None], target: Target
) -> Line | None:
    """Return the first line that packages do not satisfy; None when they satisfy all.

    Args:
        lines: What is asked for.
        versions: Version of each package by name; None where only its source knows.
        target: Where the markers of the lines are evaluated.
    """
    markers = target.markers()
    return next((line for line in lines if not _is_satisfied(line, versions, markers)), None)


def _is_satisfied(
    line: Line, versions: Mapping[str, str | None], markers: Mapping[str, str]
) -> bool:
    try:
        requirement = Requirement(line.text)
    except InvalidRequirement:
        return True
    marker = requirement.marker
    if line.name is None or (marker and not marker.evaluate({**markers, "extra": ""})):
        return True
    if line.name not in versions:
        return False
    version = versions[line.name]
    return version is None or requirement.specifier.contains(version, prereleases=True)
