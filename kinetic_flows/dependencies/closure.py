"""What a project asks of the accelerator's own packages, against what its image has of them.

The image brings the accelerator's closure: jax, jaxlib, libtpu, the CUDA packages. A line about
one of them is left out when the image's version satisfies it, refused when it does not, and
kept when it ends with `# kn:keep`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.errors import DependencyError
from kinetic_flows.dependencies.lines import Line
from kinetic_flows.dependencies.targets import ACCELERATOR_PACKAGES, Target

_EXTRA_OF: Mapping[str, Category] = {"cuda": "gpu", "rocm": "gpu", "tpu": "tpu"}
_ACCELERATOR_EXTRA = re.compile(r"^(?P<kind>cuda|rocm|tpu)(?P<major>\d*)(-local)?$")
_PLUGIN = re.compile(r"^jax-(?P<kind>cuda|rocm)(?P<major>\d+)-(plugin|pjrt)$")
_PIN = re.compile(r"^[\w.-]+==[^,;]+$")
_LOCKED = re.compile(r'(?m)^name = "(?P<name>[^"]+)"\nversion = "(?P<version>[^"]+)"$')
_MADE_FOR: Mapping[str, Category] = {"libtpu": "tpu", "libtpu-nightly": "tpu"}


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Lines, judged against an image.

    Attributes:
        lines: Those that remain.
        kept: Those of them that are kept against the image's version.
        sentences: What is said of each that was left out.
    """

    lines: tuple[Line, ...]
    kept: tuple[Line, ...]
    sentences: tuple[str, ...]


def judge(lines: Iterable[Line], target: Target, *, held: bool = True) -> Judged:
    """Compare lines with what the target's image has of the accelerator's closure.

    Args:
        lines: Requirements, or constraints.
        target: What they are locked for.
        held: Whether the image's versions count; not where the project keeps its own.

    Raises:
        DependencyError: The image has another version than a line asks for.
    """
    remaining: list[Line] = []
    kept: list[Line] = []
    sentences: list[str] = []
    image = closure_of(target)
    for line in lines:
        if not is_about_closure(line, target):
            remaining.append(line)
        elif line.kept or not (held or _is_for_another(line, target)):
            remaining.append(line)
            kept += [line] if line.kept else []
        else:
            sentences.append(_sentence(line, image, target))
            remaining += _other_extras(line)
    return Judged(lines=tuple(remaining), kept=tuple(kept), sentences=tuple(sentences))


def closure_of(target: Target) -> dict[str, str]:
    """Return the versions of the accelerator's own packages in a target's image, by name."""
    # What a chip needs is a range that uv sees to; only pins tell what the image has.
    pairs = (pin.partition("==") for pin in target.constraints if _PIN.match(pin))
    return {canonicalize_name(name): version for name, _, version in pairs}


def is_held(name: str, target: Target) -> bool:
    """Whether a package is the image's business: it has it, or it is its kind of package."""
    return (
        name in ACCELERATOR_PACKAGES
        or _PLUGIN.match(name) is not None
        or name in closure_of(target)
    )


def replaced_in_lock(text: str, target: Target) -> tuple[str, ...]:
    """Say which versions of a project's own lock give way to the image's.

    Args:
        text: A `uv.lock` or `pylock.toml`. It is only searched: reading megabytes of TOML would
            take longer than all else that a call does.
        target: What the project is locked for.
    """
    image = closure_of(target)
    pairs = ((match["name"], match["version"]) for match in _LOCKED.finditer(text))
    return tuple(
        f"{name} {version} gives way to the image's {image[name]}"
        for name, version in pairs
        if image.get(name, version) != version
    )


def is_about_closure(line: Line, target: Target) -> bool:
    """Whether a line applies to the target and names what is the image's business."""
    if line.kind == "option" or line.name is None or not is_held(line.name, target):
        return False
    requirement = _requirement(line)
    marker = requirement.marker if requirement else None
    return marker is None or marker.evaluate({**target.markers(), "extra": ""})


def accelerator_extras(line: Line) -> tuple[str, ...]:
    """Return the extras of a line that ask for an accelerator's runtime, such as `cuda12`."""
    requirement = _requirement(line)
    extras = requirement.extras if requirement else ()
    return tuple(sorted(item for item in extras if _ACCELERATOR_EXTRA.match(item)))


def ways_out(target: Target) -> str:
    """Return what to do when the image's versions do not suit."""
    return (
        "ask for another version; or end the line with '# kn:keep' to have yours installed over"
        " the image's; or say framework='none' to leave all of them to your requirements; or use"
        f" a {target.category} base image of your own, which can hold any version (kinetic"
        " build-image --dockerfile, KINETIC_BASE_IMAGE_REPO)"
    )


def _sentence(line: Line, image: Mapping[str, str], target: Target) -> str:
    """Say why a line is left out, or refuse it."""
    assert line.name is not None
    stands = f"{line.origin}: {line.text} is left out: "
    keep = "; to have yours installed, end the line with '# kn:keep'"
    if _is_for_another(line, target):
        return (
            f"{stands}the image is for {target.category.upper()}s, which have no use for it{keep}"
        )
    has = image.get(line.name)
    if has is None:
        return f"{stands}the image has {_instead(line, image, target)} in its place{keep}"
    if not _allows(line, has):
        raise _refusal(line, f"the image has {line.name} {has}", target)
    _check_extras(line, image, target)
    return f"{stands}the image has {line.name} {has}, which satisfies it{keep}"


def _is_for_another(line: Line, target: Target) -> bool:
    """Whether a line names what another kind of accelerator needs."""
    plugin = _PLUGIN.match(str(line.name))
    made_for = _EXTRA_OF[plugin["kind"]] if plugin else _MADE_FOR.get(str(line.name))
    return made_for not in (None, target.category)


def _allows(line: Line, version: str) -> bool:
    """Whether a line is content with a version out of whatever place."""
    requirement = _requirement(line)
    is_open = requirement is not None and requirement.url is None and line.path is None
    return requirement is not None and is_open and requirement.specifier.contains(version, True)


def _instead(line: Line, image: Mapping[str, str], target: Target) -> str:
    """Name what the image has in place of a package that it lacks, or refuse the line."""
    there = [f"{name} {version}" for name, version in image.items() if not _is_cuda_wheel(name)]
    instead = ", ".join(there) or "nothing of the kind"
    requirement = _requirement(line)
    if _PLUGIN.match(str(line.name)) or requirement is None or str(requirement) != requirement.name:
        raise _refusal(line, f"the image has {instead}", target)
    return instead


def _check_extras(line: Line, image: Mapping[str, str], target: Target) -> None:
    """Refuse an extra that asks for another runtime of the same kind of accelerator."""
    plugins = [match for name in image if (match := _PLUGIN.match(name))]
    for extra in accelerator_extras(line):
        asked = _ACCELERATOR_EXTRA.match(extra)
        if asked is None or _EXTRA_OF[asked["kind"]] != target.category or not plugins:
            continue
        if not any(
            asked["kind"] == has["kind"] and asked["major"] in ("", has["major"]) for has in plugins
        ):
            has = plugins[0]
            raise _refusal(
                line, f"the image has jax for {has['kind'].upper()} {has['major']}", target
            )


def _refusal(line: Line, what: str, target: Target) -> DependencyError:
    return DependencyError(
        f"{line.origin}: {line.text} is asked for, and {what}",
        value=line.text,
        hint=ways_out(target),
    )


def _other_extras(line: Line) -> list[Line]:
    """Return what a line asks for besides the accelerator: the packages of its other extras."""
    requirement = _requirement(line)
    if requirement is None:
        return []
    extras = sorted(requirement.extras - set(accelerator_extras(line)))
    marker = f" ; {requirement.marker}" if requirement.marker else ""
    text = f"{requirement.name}[{','.join(extras)}]{marker}"
    return [replace(line, text=text, hashes=())] if extras else []


def _is_cuda_wheel(name: str) -> bool:
    return name.startswith("nvidia-")


def _requirement(line: Line) -> Requirement | None:
    try:
        return Requirement(line.text)
    except InvalidRequirement:
        return None
