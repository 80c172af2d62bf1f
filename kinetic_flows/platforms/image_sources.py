"""Where the image of a call comes from: one kind of source for each image mode.

`container_image=` chooses one, and everything that differs between the modes hangs on it. Which
image a call gets is decided here alone, for `train.plan()` and for the call: both say how their
questions are asked, plainly or as tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypeAlias

from packaging.requirements import Requirement

from kinetic_flows.core.environment import EnvironmentSpec, ImageMode, ImageRequest
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.settings.cloud import Prebuilt
from kinetic_flows.dependencies.installation import packages_environment
from kinetic_flows.dependencies.lockfile import environment_spec
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.images.base_lookup import FoundBase, WantedBase, is_made_from
from kinetic_flows.images.inspection import ImageReport, ImageRequirements


class ImageQuestions(Protocol):
    """What has to be asked until an image is decided."""

    def lock(self, base: ResolvedImage | None = None) -> Lock:
        """Lock the call's packages, given the base image in prebuilt mode."""
        ...

    def resolve(self, request: ImageRequest) -> ResolvedImage | None:
        """Look for the project's image; None when it has to be built."""
        ...

    def find_base(self, wanted: WantedBase) -> FoundBase:
        """Look for a base image, which has to be there."""
        ...

    def check(self, reference: str, required: ImageRequirements) -> ImageReport:
        """Look at an image of the person's own, which has to be there and to fit."""
        ...


@dataclass(frozen=True, kw_only=True)
class DecidedProjectImage:
    """An image for the project's packages.

    Attributes:
        request: The image, by the name that its content gives it.
        image: The image; None when it has to be built.
        lock: The project's packages.
        environment: What the image contains, and its identity.
        warnings: What the person should know of the image: nothing.
    """

    request: ImageRequest
    image: ResolvedImage | None
    lock: Lock
    environment: EnvironmentSpec
    warnings: ClassVar[tuple[str, ...]] = ()

    @property
    def reference(self) -> str:
        """The name it has or will get."""
        return self.request.reference


@dataclass(frozen=True, kw_only=True)
class DecidedBaseImage:
    """A base image, and the packages that a run has besides.

    Attributes:
        reference: The name it was found under.
        image: The base image.
        lock: The project's packages.
        environment: What a run finds installed besides the base, and its identity.
        ship_wheels: Whether every package is sent along, so that no index is asked.
        warnings: What the person should know of the image, a sentence each.
        prebuilt: How packages are to come into it.
        lacking: What it may lack of the environment, which is what can be mounted.
        volume: The image that holds just that, by the name that its content gives it.
    """

    reference: str
    image: ResolvedImage
    lock: Lock
    environment: EnvironmentSpec
    ship_wheels: bool
    warnings: tuple[str, ...]
    prebuilt: Prebuilt
    lacking: EnvironmentSpec
    volume: ImageRequest


@dataclass(frozen=True, kw_only=True)
class DecidedOwnImage:
    """An image of the person's own, which has everything.

    Attributes:
        reference: The image, as it was named.
        image: The image.
        lock: The project's packages: they do not count.
        environment: Their identity: it does not, either.
        warnings: What the person should know of the image, a sentence each.
    """

    reference: str
    image: ResolvedImage
    lock: ClassVar[None] = None
    environment: ClassVar[None] = None
    warnings: tuple[str, ...]


DecidedImage: TypeAlias = DecidedProjectImage | DecidedBaseImage | DecidedOwnImage


@dataclass(frozen=True, kw_only=True)
class ProjectImage:
    """An image (on this machine a virtual environment) that holds the project's packages.

    Attributes:
        target: What the packages are locked for.
        name_of: Gives the reference that an environment's image has or will get.
        built_by: What builds it.
        mode: The mode that was asked for: on this machine `prebuilt` is no different.
        has_known_base: Whether its base was made from the inputs that come with this package.
        lean_base: Gives the digest of the lean base of a configured repository, for packages that
            want that one; None where the product builds it.
    """

    target: Target
    name_of: Callable[[EnvironmentSpec], str]
    built_by: str
    mode: ImageMode = "bundled"
    has_known_base: bool = True
    lean_base: Callable[[], str] | None = None
    packages_come: ClassVar[str] = "Baked into the image"

    @property
    def python(self) -> str:
        """Python minor version of the image."""
        return self.target.python

    @property
    def build_step(self) -> str:
        """What has to be built, in the words of the documentation."""
        return f"{self.built_by} (cached by dep hash)"

    def environment(self, lock: Lock) -> EnvironmentSpec:
        """Return what the image contains, and its identity.

        Raises:
            ImageError: The packages want a lean base, and the configured repository has none.
        """
        target = lock.target
        if target.variant != self.target.variant and self.lean_base is not None:
            target = replace(target, base_identity=self.lean_base())
        return environment_spec(lock.text, target)

    def decide(self, ask: ImageQuestions) -> DecidedProjectImage:
        """Lock the packages, and look for the image that holds them."""
        lock = ask.lock()
        environment = self.environment(lock)
        request = self.request(environment)
        return DecidedProjectImage(
            request=request, image=ask.resolve(request), lock=lock, environment=environment
        )

    def request(self, environment: EnvironmentSpec) -> ImageRequest:
        """Return the image, by the name that its content gives it."""
        return ImageRequest(
            reference=self.name_of(environment),
            mode=self.mode,
            dependency_hash=environment.dependency_hash,
        )


@dataclass(frozen=True, kw_only=True)
class LockedImage(ProjectImage):
    """A virtual environment that holds packages which were locked before, wherever that was.

    Attributes:
        lock: The packages.
        locked: What the environment contains, and its identity.
    """

    lock: Lock
    locked: EnvironmentSpec

    def decide(self, ask: ImageQuestions) -> DecidedProjectImage:
        """Look for the environment."""
        request = self.request(self.locked)
        return DecidedProjectImage(
            request=request, image=ask.resolve(request), lock=self.lock, environment=self.locked
        )


@dataclass(frozen=True, kw_only=True)
class BaseImage:
    """A base image as it is, beside which the runner has the project's packages.

    Attributes:
        target: What the packages are locked for.
        wanted: The base image.
        volume_of: Gives the reference that the image of packages to be mounted has or will get.
        ship_wheels: Whether every package is sent along, so that no index is asked.
        prebuilt: How packages are to come into the base.
    """

    target: Target
    wanted: WantedBase
    volume_of: Callable[[EnvironmentSpec], str]
    ship_wheels: bool = False
    prebuilt: Prebuilt = "auto"
    mode: ClassVar[ImageMode] = "prebuilt"
    build_step: ClassVar[str] = "None"
    packages_come: ClassVar[str] = "At pod startup via `uv pip install`"

    @property
    def python(self) -> str:
        """Python minor version of the image."""
        return self.target.python

    def decide(self, ask: ImageQuestions) -> DecidedBaseImage:
        """Look for the base, lock the packages, and look for the base that they turn out to want.

        The lock does not depend on the base's digest, so a rebuilt base does not move versions;
        the identity of the environment does.
        """
        base = ask.find_base(self.wanted)
        lock = ask.lock(base.image)
        if lock.target.variant != self.wanted.variant:
            base = ask.find_base(replace(self.wanted, variant=lock.target.variant))
        target = replace(lock.target, base_identity=base.image.digest)
        lacking = packages_environment(lock, base.image)
        return DecidedBaseImage(
            reference=base.reference,
            image=base.image,
            lock=lock,
            environment=environment_spec(lock.text, target),
            ship_wheels=self.ship_wheels,
            warnings=base.warnings,
            prebuilt=self.prebuilt,
            lacking=lacking,
            volume=ImageRequest(
                reference=self.volume_of(lacking),
                mode=self.mode,
                dependency_hash=lacking.dependency_hash,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class OwnImage:
    """An image of the person's own, which has everything.

    Attributes:
        reference: The image, as it was named.
        required: What it has to be.
    """

    reference: str
    required: ImageRequirements
    mode: ClassVar[ImageMode] = "custom"
    build_step: ClassVar[str] = "None (you manage it)"
    packages_come: ClassVar[str] = "Whatever is in your image"

    @property
    def python(self) -> str:
        """Python minor version of the image."""
        return self.required.python

    def decide(self, ask: ImageQuestions) -> DecidedOwnImage:
        """Look at the image."""
        report = ask.check(self.reference, self.required)
        return DecidedOwnImage(
            reference=self.reference, image=report.image, warnings=report.warnings
        )


ImageSource: TypeAlias = ProjectImage | BaseImage | OwnImage


def known_packages(
    source: ImageSource, base: ResolvedImage | None, settled: Target | None = None
) -> frozenset[str] | None:
    """Return the names of the packages that an image has besides the project's.

    Args:
        source: Where the image comes from.
        base: The base image, in prebuilt mode; None where it was not looked up.
        settled: What the packages were locked for; None for what was asked for.

    Returns:
        None where nobody knows them, as the image or its base was not made from the inputs that
        come with this package.
    """
    if isinstance(source, OwnImage):
        return None
    target = settled or source.target
    if target.variant != source.target.variant:
        is_known = isinstance(source, ProjectImage) and source.lean_base is None
    elif isinstance(source, BaseImage):
        is_known = base is not None and is_made_from(base, target.base_identity)
    else:
        is_known = source.has_known_base
    # The lean base has nothing of what a chip needs: that comes with the project.
    held = target.constraints if target.variant == "jax" else ()
    pins = (*held, *target.preferences)
    return frozenset(Requirement(pin).name for pin in pins) if is_known else None
