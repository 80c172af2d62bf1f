"""Base images in a user's own repository."""

from __future__ import annotations

from dataclasses import dataclass

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.environment import BaseVariant
from kinetic_flows.core.errors import ImageError, RegistryAccessError, RepositoryNotFoundError
from kinetic_flows.core.image_reference import DOCKER_HUB, parse_reference
from kinetic_flows.core.image_registry import ImageRegistry, ResolvedImage
from kinetic_flows.core.settings.cloud import DEFAULT_BASE_IMAGE_REPO
from kinetic_flows.images import tags
from kinetic_flows.images.inspection import python_of
from kinetic_flows.images.labels import LABEL_BASE_IDENTITY, LABEL_CATEGORY

BUILD_YOUR_OWN = (
    "unset KINETIC_BASE_IMAGE_REPO to have a base built into the cluster's own repository"
)
USE_BUNDLED = "use container_image='bundled', which builds what it needs"


@dataclass(frozen=True, kw_only=True)
class WantedBase:
    """A base image that is looked for.

    Attributes:
        repository: Where it is looked for.
        category: Kind of accelerator it must be for.
        python: Python minor version it must have.
        tag: Its version tag; its variant for that Python, `{tag}-py{python}`, is preferred.
        variant: Which of the category's bases it must be.
        otherwise: What to do instead of building it, for errors.
    """

    repository: str
    category: Category
    python: str
    tag: str
    variant: BaseVariant = "jax"
    otherwise: str = BUILD_YOUR_OWN

    @property
    def references(self) -> tuple[str, ...]:
        """The names it may have, best first."""
        return (f"{self._name}:{tags.python_tag(self.tag, self.python)}", self.plain)

    @property
    def plain(self) -> str:
        """Its name without a Python version."""
        return f"{self._name}:{self.tag}"

    @property
    def _name(self) -> str:
        return tags.base_image(self.repository, self.category, self.variant)


@dataclass(frozen=True, kw_only=True)
class FoundBase:
    """A base image that exists and fits.

    Attributes:
        reference: The name it was found under.
        image: The image.
        warnings: What the person should know, a sentence each.
    """

    reference: str
    image: ResolvedImage
    warnings: tuple[str, ...] = ()


def find_base(registry: ImageRegistry, wanted: WantedBase) -> FoundBase:
    """Return a base image that exists and, as far as it says, fits.

    Raises:
        ImageError: There is none, it does not fit, or the registry cannot tell.
    """
    try:
        for reference in wanted.references:
            image = registry.resolve(reference)
            if image is not None:
                return _fitting(reference, image, wanted)
    except RepositoryNotFoundError as error:
        raise _unfit(wanted, error.message) from error
    except RegistryAccessError as error:
        # Docker Hub refuses access to what does not exist.
        if parse_reference(wanted.plain).registry != DOCKER_HUB:
            raise
        raise _unfit(wanted, error.message) from error
    raise _unfit(wanted, f"the base image {wanted.plain} does not exist")


def is_made_from(base: ResolvedImage, identity: str) -> bool:
    """Whether a base image says that it was made from inputs of this identity."""
    return base.labels.get(LABEL_BASE_IDENTITY) == identity


def check_base(
    image: ResolvedImage,
    *,
    repository: str,
    category: Category,
    python: str,
    tag: str,
    variant: BaseVariant = "jax",
) -> ResolvedImage:
    """Return a base image if its labels, where it has any, fit what it is used for.

    Raises:
        ImageError: It is for another category or another version of Python.
    """
    wanted = WantedBase(
        repository=repository, category=category, python=python, tag=tag, variant=variant
    )
    return _fitting(image.reference, image, wanted).image


def _fitting(reference: str, image: ResolvedImage, wanted: WantedBase) -> FoundBase:
    category = image.labels.get(LABEL_CATEGORY)
    if category not in (None, wanted.category):
        raise _unfit(
            wanted,
            f"the base image {reference} is for {category} where {wanted.category} is needed",
        )
    python = python_of(image)
    if python not in (None, wanted.python):
        raise _unfit(
            wanted,
            f"the base image {reference} has Python {python} where {wanted.python} is needed",
        )
    if category is None:
        taken = f"{reference} was not built by kinetic build-image: it is taken to be a base for "
        return FoundBase(
            reference=reference,
            image=image,
            warnings=(f"{taken}{wanted.category} with Python {wanted.python}",),
        )
    return FoundBase(reference=reference, image=image)


def _unfit(wanted: WantedBase, what: str) -> ImageError:
    build = (
        "kinetic build-image --repo {repo} --category "
        f"{tags.base_kind(wanted.category, wanted.variant)} --tag {wanted.tag}"
        f" --python {wanted.python}"
    )
    if wanted.repository == DEFAULT_BASE_IMAGE_REPO:
        how = f"{build.format(repo='REPOSITORY')}, and set KINETIC_BASE_IMAGE_REPO to it"
    else:
        how = build.format(repo=wanted.repository)
    if wanted.variant == "lean":
        how += "; or say framework='jax' to use the base with jax"
    return ImageError(what, value=wanted.plain, hint=f"build it with: {how}; or {wanted.otherwise}")
