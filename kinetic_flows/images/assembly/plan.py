"""Which layers an image has: pure, from what is to be assembled and what it starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from kinetic_flows.core.accelerators.packages import is_accelerator_package
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.assembly.layer_plan import HeldPackage, LayerPlan, files_plan
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.assembly.start import StartImage, StartLayer
from kinetic_flows.images.layers.model import WheelFacts

MAX_LAYERS = 100
"""Docker and containerd mount at most 127 or 128 layers, and some room has to stay for images
that people build on top of ours."""

BYTECODE_WORTH_BYTES = 64 << 10
"""Python compiles less than this much source in the time that another layer takes to be pulled."""


@dataclass(frozen=True, kw_only=True)
class ImagePlan:
    """The layers of an image.

    Attributes:
        kept: Those of the image it starts from that it has, too, the lowest first.
        added: Its own, above them.
        made_from: Layers of the image it starts from that some of its own are made from, by
            their tags: those that hold a package that gives way to another version, and others.
    """

    kept: tuple[StartLayer, ...]
    added: tuple[LayerPlan, ...]
    made_from: Mapping[str, StartLayer]

    @property
    def packages(self) -> tuple[HeldPackage, ...]:
        """The packages that it holds, each once, sorted."""
        plans = [*(layer.plan for layer in self.kept if layer.plan), *self.added]
        held = {package for plan in plans if plan.kind != "bytecode" for package in plan.packages}
        return tuple(sorted(held))


def plan_image(assembly: Assembly, start: StartImage) -> ImagePlan:
    """Decide which layers an image has; of bytecode all that may turn out to be worth a layer.

    Args:
        assembly: The image.
        start: What it starts from.

    Raises:
        ImageError: It cannot be made of so few layers, or what it starts from is none of ours.
    """
    if assembly.starts_from == "base" and not start.is_assembled:
        raise ImageError(
            f"the base {start} was not assembled from layers",
            value=str(start),
            hint="build it again with: kinetic build-image",
        )
    replacing = {wheel.name: wheel.sha256 for wheel in assembly.wheels}
    kept: list[StartLayer] = []
    added: list[LayerPlan] = []
    made_from: dict[str, StartLayer] = {}
    for layer in start.layers:
        rest = _without_replaced(layer.plan, replacing) if layer.plan else None
        if rest == layer.plan:
            kept.append(layer)
        elif rest is not None and (rest.packages or rest.kind == "site"):
            added.append(rest)
            made_from[rest.tag] = layer
    if assembly.starts_from == "upstream":
        added.append(LayerPlan(kind="site", python=assembly.python, upstream=start.digest))
    held = {package.sha256 for layer in kept if layer.plan for package in layer.plan.packages}
    held |= {package.sha256 for plan in added for package in plan.packages}
    wheels = [wheel for wheel in assembly.wheels if wheel.sha256 not in held]
    added += _layers_of_wheels(wheels, assembly)
    if assembly.files:
        added.append(files_plan(assembly.files.items()))
    return ImagePlan(
        kept=tuple(kept),
        added=_merged(added, wheels, len(kept), assembly),
        made_from=made_from,
    )


def settled(plan: ImagePlan, facts: Mapping[str, WheelFacts], assembly: Assembly) -> ImagePlan:
    """Return a plan without layers of bytecode that are known not to be worth it.

    Args:
        plan: The plan.
        facts: What is known of wheels, by their digests.
        assembly: The image.
    """
    if assembly.starts_from == "upstream":
        return plan

    def is_worth_it(layer: LayerPlan) -> bool:
        if layer.kind != "bytecode" or layer.tag in plan.made_from:
            return True
        known = [facts.get(package.sha256) for package in layer.packages]
        sizes = [item.source_bytes for item in known if item is not None]
        return len(sizes) < len(known) or sum(sizes) >= BYTECODE_WORTH_BYTES

    return replace(plan, added=tuple(layer for layer in plan.added if is_worth_it(layer)))


def without_site_packages(plan: ImagePlan, site: LayerPlan, assembly: Assembly) -> ImagePlan:
    """Return a plan whose site layer leaves out what the image gets as wheels.

    Args:
        plan: The plan of an image that starts from one of Python.
        site: Its site layer, with the packages that were found in that image.
        assembly: The image.
    """
    names = {wheel.name for wheel in assembly.wheels}
    rest = tuple(package for package in site.packages if package.name not in names)
    part = replace(site, packages=rest, is_part=rest != site.packages)
    added = tuple(part if layer.kind == "site" else layer for layer in plan.added)
    return replace(plan, added=added)


def _without_replaced(plan: LayerPlan, replacing: Mapping[str, str]) -> LayerPlan | None:
    """Return what a layer is without the packages that give way; None for files of a base."""
    rest = tuple(
        package
        for package in plan.packages
        if replacing.get(package.name, package.sha256) == package.sha256
    )
    return plan if rest == plan.packages else replace(plan, packages=rest, is_part=True)


def _layers_of_wheels(wheels: Sequence[WheelFile], assembly: Assembly) -> Iterable[LayerPlan]:
    shared = [wheel for wheel in wheels if _is_shared(wheel, assembly)]
    names = {wheel.sha256 for wheel in shared}
    core = [wheel for wheel in wheels if _is_core(wheel, assembly)]
    if core:
        # Below the others: a base has the same one for each kind of accelerator.
        yield LayerPlan(kind="merged", packages=tuple(sorted(map(held_package, core))))
    for wheel in sorted(wheels, key=lambda wheel: wheel.name):
        if wheel in core:
            continue
        python = None if wheel.sha256 in names else assembly.python
        yield LayerPlan(kind="wheel", python=python, packages=(held_package(wheel),))
    sets = [shared] if assembly.starts_from == "upstream" else [[wheel] for wheel in shared]
    for members in filter(None, sets):
        packages = tuple(sorted(held_package(wheel) for wheel in members))
        yield LayerPlan(kind="bytecode", python=assembly.python, packages=packages)


def _is_shared(wheel: WheelFile, assembly: Assembly) -> bool:
    """Whether a wheel's layer has no bytecode, so that images of every minor version have it.

    In a base all such wheels are; a project's are when they bring libraries, not Python sources.
    """
    return wheel.is_for_any_python and (assembly.starts_from == "upstream" or not _is_pure(wheel))


def _is_core(wheel: WheelFile, assembly: Assembly) -> bool:
    """Whether a wheel is one of the many small ones that bases have in one layer.

    Pure Python that is not of the accelerator's runtime: what each layer costs a node, in its pull
    and in every import that looks through it, is more than these are worth alone.
    """
    is_small = wheel.is_for_any_python and _is_pure(wheel)
    return (
        assembly.starts_from == "upstream" and is_small and not is_accelerator_package(wheel.name)
    )


def _is_pure(wheel: WheelFile) -> bool:
    return wheel.filename.removesuffix(".whl").endswith("-any")


def held_package(wheel: WheelFile) -> HeldPackage:
    """Return what a layer of a wheel holds."""
    return HeldPackage(name=wheel.name, version=wheel.version, sha256=wheel.sha256)


def _merged(
    added: Sequence[LayerPlan], wheels: Sequence[WheelFile], kept: int, assembly: Assembly
) -> tuple[LayerPlan, ...]:
    """Put the smallest wheels together in one layer where there would be too many."""
    excess = kept + len(added) - MAX_LAYERS
    if excess <= 0:
        return tuple(added)
    sizes = {str(wheel.sha256): (wheel.size_bytes, wheel.name) for wheel in wheels}
    own = [plan for plan in added if plan.kind == "wheel" and plan.python]
    own.sort(key=lambda plan: sizes[plan.packages[0].sha256])
    small = own[: excess + 1]
    if len(small) <= excess:
        raise ImageError(
            f"{assembly.reference} would have {kept + len(added)} layers, and an image can have "
            f"{MAX_LAYERS}",
            value=assembly.reference,
            hint="use fewer packages that every Python takes, or a smaller base",
        )
    packages = tuple(sorted(plan.packages[0] for plan in small))
    together = LayerPlan(kind="merged", python=assembly.python, packages=packages)
    last = max(added.index(plan) for plan in small)
    return tuple(
        together if index == last else plan
        for index, plan in enumerate(added)
        if index == last or plan not in small
    )
