"""A run's environment, as values: its packages, its image, and the words for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.job_parts import ObjectRef, Sha256

ImageMode = Literal["bundled", "prebuilt", "custom"]

BaseVariant = Literal["jax", "lean"]
"""What a base holds besides the runner's packages: jax for its accelerator, or no framework."""


@dataclass(frozen=True, kw_only=True)
class Package:
    """One locked package."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class EnvironmentSpec:
    """The content of an environment: of an image, or of a virtual environment here.

    Attributes:
        category: Kind of accelerator the base is for.
        python: Python minor version, such as `3.11`.
        platform: uv's name of the platform that packages are for, such as
            `x86_64-manylinux_2_36`.
        base_identity: Digest of the base's inputs.
        lock: The locked requirements with hashes, in the form of a requirements file.
        packages: The same packages, parsed.
        wheels: Wheels that the client ships because no index has them.
        dependency_hash: Identity of all of the above.
        made_base_lock: The base's lock where none comes with this package for the Python;
            empty where one does.
        variant: Which of the category's bases it is for.
    """

    category: Category
    python: str
    platform: str
    base_identity: str
    lock: str
    packages: tuple[Package, ...]
    wheels: tuple[ObjectRef, ...]
    dependency_hash: Sha256
    made_base_lock: str = ""
    variant: BaseVariant = "jax"


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """An image that must exist, by the name it has or will get."""

    reference: str
    mode: ImageMode
    dependency_hash: Sha256 | None


PULL_BYTES_PER_SECOND = 60e6
"""A guess at what a node downloads and unpacks of a compressed image."""


def pull_seconds(size_bytes: int) -> float:
    """Estimate how long a node that does not have an image needs to pull it."""
    return size_bytes / PULL_BYTES_PER_SECOND


def size_in_words(size_bytes: int) -> str:
    """Say how large an image is, and about how long its pull takes."""
    return (
        f"{size_in_units(size_bytes)} compressed, about {max(pull_seconds(size_bytes), 1):.0f} s "
        "to pull where a node does not have it"
    )
