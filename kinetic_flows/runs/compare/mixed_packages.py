"""Environments that have some of their packages from one run, and the rest from another."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import asdict, dataclass, replace
from typing import Any

from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.job_parts import ObjectRef, RequirementsSpec
from kinetic_flows.dependencies.installation import keep_lock
from kinetic_flows.dependencies.lockfile import environment_spec, format_lock, variant_of
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.images.labels import LABEL_DEPENDENCY_HASH
from kinetic_flows.platforms.base import ImageOptions
from kinetic_flows.platforms.image_sources import ProjectImage
from kinetic_flows.runs.compare.changes import Side, environment_differs, is_bound
from kinetic_flows.runs.session import Session


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What a mixture finds installed.

    Attributes:
        image: The fields of its image.
        requirements: What it installs first; None when the image has everything.
    """

    image: dict[str, Any]
    requirements: RequirementsSpec | None


@dataclass(frozen=True, kw_only=True)
class MixedPackages:
    """Makes environments of two runs' packages.

    Attributes:
        good: The run that the rest is from.
        bad: The run that some packages are from.
        source: What images are made by; None where the packages are installed by the run.
        session: Where they are made.
    """

    good: Side
    bad: Side
    source: ProjectImage | None
    session: Session

    @classmethod
    def of(cls, good: Side, bad: Side, session: Session) -> MixedPackages | None:
        """Return what makes mixtures of two runs' packages; None where that cannot be done.

        It can where both locks were kept, and nothing else of the environment differs: where both
        install their packages into one base image, or where what makes images here would make
        just those two from the locks.
        """
        if is_bound(good, bad) or not environment_differs(good, bad):
            return None
        if not good.locked or not bad.locked or good.job.python != bad.job.python:
            return None
        if good.launch.mode != bad.launch.mode or good.job.packages or bad.job.packages:
            return None
        if good.job.requirements and bad.job.requirements:
            is_alike = good.launch.image == bad.launch.image and _how(good) == _how(bad)
            return cls(good=good, bad=bad, source=None, session=session) if is_alike else None
        source = _source(good, session)
        if source is None or not all(_is_made_by(source, each) for each in (good, bad)):
            return None
        return cls(good=good, bad=bad, source=source, session=session)

    def with_packages(self, taken: Set[str], tell: Callable[[str], None]) -> Environment:
        """Return the environment that has some packages from the bad run.

        Args:
            taken: Their names.
            tell: Told what is printed by what makes an image.

        Raises:
            KineticError: It cannot be made.
        """
        old, new = self.good.locked, self.bad.locked
        names = (old.keys() - taken) | (new.keys() & taken)
        packages = {name: new[name] if name in taken else old[name] for name in names}
        variant = variant_of(self.good.installed.lock or "")
        text = format_lock(packages.values(), variant=variant)
        if self.source is None:
            return self._installed(text)
        target = _target(self.source, text)
        environment = environment_spec(text, target)
        keep_lock(environment, self.session.platform.store)
        request = self.source.request(environment)
        found = self.session.platform.registry.resolve(request.reference)
        image = found or self.session.platform.builder.build(request, environment, tell)
        return Environment(image=asdict(image), requirements=None)

    def _installed(self, text: str) -> Environment:
        given = self.good.job.requirements
        other = self.bad.job.requirements
        assert given is not None
        assert other is not None
        store = self.session.platform.store
        lock = keep_lock(environment_spec(text, _any_target(self.good)), store)
        wheels: tuple[ObjectRef, ...] = tuple(dict.fromkeys((*given.wheels, *other.wheels)))
        return Environment(
            image=dict(self.good.launch.image),
            requirements=replace(given, lock=lock, wheels=wheels),
        )


def _how(side: Side) -> tuple[object, ...]:
    spec = side.job.requirements
    return (spec.constraints, spec.offline) if spec else ()


def _any_target(side: Side) -> Target:
    """Return a target for a lock that is installed by a run: its identity does not matter."""
    return Target(python=side.job.python, platform="", category="cpu", base_identity="")


def _source(side: Side, session: Session) -> ProjectImage | None:
    """Return what makes the images of runs here; None where that is another kind of image."""
    options = side.options
    asked = ImageOptions(
        container_image=options.get("container_image"), framework=options.get("framework")
    )
    try:
        source = session.platform.image_source(asked, parse_accelerator(side.launch.accelerator))
    except KineticError:
        return None
    return source if isinstance(source, ProjectImage) else None


def _target(source: ProjectImage, text: str) -> Target:
    return source.target.settled(variant_of(text))


def _is_made_by(source: ProjectImage, side: Side) -> bool:
    """Whether a run's image is what would be made from its lock."""
    lock, labels = side.installed.lock, side.launch.image.get("labels") or {}
    if lock is None:
        return False
    made = environment_spec(lock, _target(source, lock))
    return bool(made.dependency_hash == labels.get(LABEL_DEPENDENCY_HASH))
