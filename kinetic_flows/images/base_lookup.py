"""Base images that somebody built into a repository of their own."""

from __future__ import annotations

from kinetic_flows import naming
from kinetic_flows.errors import ImageError
from kinetic_flows.plan import Category
from kinetic_flows.protocols import ImageRegistry, ResolvedImage


def configured_base(
    registry: ImageRegistry, repository: str, category: Category, python: str, tag: str
) -> ResolvedImage:
    """Return the base image of a configured repository.

    Args:
        registry: Where to look.
        repository: The configured base image repository.
        category: Kind of accelerator it must be for.
        python: Python minor version it must have.
        tag: Its version tag.

    Raises:
        ImageError: There is none, or it does not fit.
    """
    reference = f"{naming.base_image(repository, category)}:{tag}"
    image = registry.resolve(reference)
    if image is None:
        raise _unfit(reference, "does not exist", repository, category, tag)
    return check_base(image, repository=repository, category=category, python=python, tag=tag)


def check_base(
    image: ResolvedImage, *, repository: str, category: Category, python: str, tag: str
) -> ResolvedImage:
    """Return a base image if its labels, where it has any, fit what it is used for.

    Raises:
        ImageError: It is for another category or another version of Python.
    """
    wanted = {naming.LABEL_CATEGORY: category, naming.LABEL_PYTHON: python}
    for label, value in wanted.items():
        found = image.labels.get(label, value)
        if found != value:
            why = f"has {label}={found} where {value} is needed"
            raise _unfit(image.reference, why, repository, category, tag)
    return image


def _unfit(reference: str, why: str, repository: str, category: str, tag: str) -> ImageError:
    return ImageError(
        f"the base image {reference} {why}",
        value=reference,
        hint=f"build it with: kinetic build-image --repo {repository} --category {category} "
        f"--tag {tag}; or unset KINETIC_BASE_IMAGE_REPO to have a base built into the "
        "cluster's own repository",
    )
