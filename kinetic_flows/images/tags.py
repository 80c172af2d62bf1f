"""Names and tags of images: the bases, the controller, and those of projects."""

from __future__ import annotations

from kinetic_flows.core.image_reference import DOCKER_HUB_HOSTS
from kinetic_flows.core.slug import slug

HASH_CHARACTERS_IN_TAG = 12


def base_image(repository: str, category: str, variant: str = "jax") -> str:
    """Name of one of a category's base images in a repository, without a tag."""
    return _image_in(repository, f"base-{base_kind(category, variant)}")


def base_kind(category: str, variant: str) -> str:
    """Name of a kind of base: `gpu`, or `gpu-lean`."""
    return category if variant == "jax" else f"{category}-{variant}"


def controller_image(repository: str) -> str:
    """Name of the image that our flows run in, without a tag."""
    return _image_in(repository, "controller")


def layers_image(repository: str) -> str:
    """Name of the image that keeps layers in a repository, without a tag."""
    return _image_in(repository, "layers")


def _image_in(repository: str, name: str) -> str:
    """Name an image in a repository.

    Docker Hub's names have exactly two parts, so `user/name` becomes `user/name-base-cpu`,
    while `user` becomes `user/base-cpu`; a registry of one's own takes paths.
    """
    first, _, rest = repository.strip("/").partition("/")
    is_host = bool(set(first) & set(".:")) or first == "localhost"
    on_docker_hub = not is_host or first in DOCKER_HUB_HOSTS
    path = rest if first in DOCKER_HUB_HOSTS else f"{first}/{rest}".rstrip("/")
    joint = "-" if on_docker_hub and "/" in path else "/"
    return f"{repository.strip('/')}{joint}{name}"


def python_tag(tag: str, python: str) -> str:
    """Tag of a base image's variant for one Python version."""
    return f"{tag}-py{python}"


def base_tag(python: str, identity: str) -> str:
    """Tag of a base image that was built for one Python version from known inputs."""
    return f"py{python}-{identity[:HASH_CHARACTERS_IN_TAG]}"


def build_tag(reference: str, subject: str) -> str:
    """Tag by which the builds of one image in one repository are found (128 characters fit)."""
    return f"kinetic-{subject[:HASH_CHARACTERS_IN_TAG]}-{slug(reference)}"[:128].rstrip("-")


def image_tag(category: str, dependency_hash: str) -> str:
    """Tag of the image (locally: name of the environment) of one dependency hash."""
    return f"{category}-{dependency_hash[:HASH_CHARACTERS_IN_TAG]}"


def local_image_reference(category: str, dependency_hash: str) -> str:
    """Reference of an environment on this machine."""
    return f"local/{image_tag(category, dependency_hash)}"


def packages_image(repository: str, category: str, dependency_hash: str) -> str:
    """Reference, with its tag, of the image of packages that is mounted in a prebuilt run."""
    return f"{_image_in(repository, 'packages')}:{image_tag(category, dependency_hash)}"


def project_image(repository: str, category: str, dependency_hash: str) -> str:
    """Reference, with its tag, of the image of one dependency hash in a cluster's repository."""
    return f"{repository}/app:{image_tag(category, dependency_hash)}"
