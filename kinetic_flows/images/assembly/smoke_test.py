"""The smoke test of an image that was assembled, answered from what its wheels say. Pure.

It asks what `pip check` asks, and whether two wheels put different contents in one place. A
project may hold on purpose what does not fit (uv's `override-dependencies`, a line that ends with
`# kn:keep`), and some wheels share a file that nobody misses: what is found is said, by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from kinetic_flows.images.assembly.layer_plan import HeldPackage
from kinetic_flows.images.layers.model import WheelFacts
from kinetic_flows.images.markers import image_markers

MOST_PATHS = 3
"""How many of the places are named that two wheels share."""


def smoke_test(
    packages: Sequence[HeldPackage],
    facts: Mapping[str, WheelFacts],
    python: str,
    *,
    is_whole: bool = True,
) -> tuple[str, ...]:
    """Return what is wrong with a set of packages, a sentence each.

    Args:
        packages: All packages of the image.
        facts: What is known of their wheels, by their digests; a wheel that nothing is known of
            asks for nothing.
        python: Python minor version.
        is_whole: Whether these are all packages that there will be; else some may be elsewhere.
    """
    known = [facts[package.sha256] for package in packages if package.sha256 in facts]
    versions = {package.name: package.version for package in packages}
    unmet = _unmet(known, versions, python, is_whole=is_whole)
    return (*unmet, *_shared_paths(known))


def _unmet(
    known: Iterable[WheelFacts], versions: Mapping[str, str], python: str, *, is_whole: bool
) -> Iterator[str]:
    markers = {**image_markers(python), "extra": ""}
    for facts in known:
        if not _allows_python(facts.requires_python, python):
            yield (
                f"{facts.name} {facts.version} asks for Python {facts.requires_python}, and the "
                f"image has Python {python}"
            )
        for line in facts.requires:
            requirement = _requirement(line)
            if requirement is None or not _applies(requirement, markers):
                continue
            if is_whole or canonicalize_name(requirement.name) in versions:
                yield from _unmet_requirement(facts, requirement, versions)


def _unmet_requirement(
    facts: WheelFacts, requirement: Requirement, versions: Mapping[str, str]
) -> Iterator[str]:
    wanted = f"{facts.name} {facts.version} asks for {requirement.name}{requirement.specifier}"
    version = versions.get(canonicalize_name(requirement.name))
    if version is None:
        yield f"{wanted}, which the image does not have"
    elif not requirement.specifier.contains(version, prereleases=True):
        yield f"{wanted}, and the image has {requirement.name} {version}"


def _allows_python(requires: str, python: str) -> bool:
    """Whether a release of a minor version of Python may be what a wheel asks for."""
    try:
        specifiers = SpecifierSet(requires)
    except InvalidSpecifier:
        return True
    # `>=3.11.4` is for images of Python 3.11 to satisfy, and `!=3.11.0` excludes one release.
    return any(specifiers.contains(f"{python}.{patch}") for patch in (0, 1, 99))


def _applies(requirement: Requirement, markers: dict[str, str]) -> bool:
    try:
        return requirement.marker is None or requirement.marker.evaluate(markers)
    except (UndefinedComparison, UndefinedEnvironmentName):
        # Such as `python_version ~= '3'`, which uv takes.
        return False


def _requirement(line: str) -> Requirement | None:
    try:
        return Requirement(line)
    except InvalidRequirement:
        return None


def _shared_paths(known: Sequence[WheelFacts]) -> Iterator[str]:
    owners: dict[str, WheelFacts] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    for facts in known:
        for path, content in facts.files.items():
            owner = owners.setdefault(path, facts)
            if owner.files[path] != content:
                pair = (f"{owner.name} {owner.version}", f"{facts.name} {facts.version}")
                shared.setdefault(pair, []).append(path)
    for (first, second), paths in shared.items():
        named = ", ".join(f"/{path}" for path in sorted(paths)[:MOST_PATHS])
        more = f" and {len(paths) - MOST_PATHS} more" if paths[MOST_PATHS:] else ""
        yield (
            f"{first} and {second} both have {named}{more}, with different contents: the image "
            "has one of them"
        )
