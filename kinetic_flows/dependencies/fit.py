"""Which wheels fit a target, and which packages satisfy what is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags, sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from kinetic_flows.dependencies.lines import Line
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.images.bases import GLIBC

_GLIBC_MINORS = range(int(GLIBC.partition(".")[2]), 4, -1)
_OLD_NAMES = {17: "manylinux2014_x86_64", 12: "manylinux2010_x86_64", 5: "manylinux1_x86_64"}


def target_tags(target: Target) -> tuple[Tag, ...]:
    """Return the tags of wheels that fit a target, best first."""
    if target.interpreter is not None:
        return tuple(sys_tags())
    version = tuple(int(part) for part in target.python.split("."))
    platforms = list(_cloud_platforms())
    interpreter = f"cp{version[0]}{version[1]}"
    return (
        *cpython_tags(python_version=version, platforms=platforms),
        *compatible_tags(python_version=version, interpreter=interpreter, platforms=platforms),
    )


def best_wheel(filenames: Iterable[str], target: Target) -> str | None:
    """Return the file name of the wheel that fits a target best; None when none fits."""
    ranks = {tag: rank for rank, tag in enumerate(target_tags(target))}
    ranked = [
        (min(ranks[tag] for tag in tags if tag in ranks), filename)
        for filename in filenames
        if (tags := _tags(filename)) & ranks.keys()
    ]
    return min(ranked)[1] if ranked else None


def misfit(filename: str, target: Target) -> str | None:
    """Say why a wheel cannot be installed on a target; None when it can."""
    tags = _tags(filename)
    if not tags:
        return f"{filename} is not the name of a wheel"
    if tags & set(target_tags(target)):
        return None
    is_pure = all(tag.platform == "any" for tag in tags)
    made_for = sorted({tag.interpreter if is_pure else tag.platform for tag in tags})
    wanted = f"Python {target.python}" if is_pure else f"{target.platform}, Python {target.python}"
    return f"{filename} is made for {', '.join(made_for)}, the environment is {wanted}"


def _tags(filename: str) -> frozenset[Tag]:
    try:
        return parse_wheel_filename(filename)[3]
    except InvalidWheelFilename:
        return frozenset()


def _cloud_platforms() -> Iterator[str]:
    for minor in _GLIBC_MINORS:
        yield f"manylinux_2_{minor}_x86_64"
        if minor in _OLD_NAMES:
            yield _OLD_NAMES[minor]
    # A wheel built from source on such a machine has no better name than this.
    yield "linux_x86_64"


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
