"""A project's image as an assembly: its base, and the wheels that its lock chooses. Pure.

Likewise the image of its packages alone, which is mounted beside a base image.
"""

from __future__ import annotations

from collections.abc import Sequence

from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.job import PACKAGES_MARKER, canonical_json
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images import tags
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.dockerfiles import packages_labels, project_labels


def project_assembly(
    environment: EnvironmentSpec,
    *,
    reference: str,
    repository: str,
    base: str,
    wheels: Sequence[WheelFile],
    version: str,
) -> Assembly:
    """Return a project's image as what has to be assembled.

    Args:
        environment: What the image contains.
        reference: What it is called, with a tag.
        repository: The repository that it and its layers go to.
        base: The base image, by digest, which was assembled itself.
        wheels: The wheels that the environment's lock chooses, one for each package.
        version: This product's version, for the labels.
    """
    return Assembly(
        reference=reference,
        layers=tags.layers_image(repository),
        start=base,
        starts_from="base",
        python=environment.python,
        platform=environment.platform,
        wheels=tuple(sorted(wheels, key=lambda wheel: wheel.name)),
        labels=project_labels(environment, base=base, version=version),
    )


def packages_assembly(
    environment: EnvironmentSpec,
    *,
    reference: str,
    repository: str,
    wheels: Sequence[WheelFile],
    version: str,
) -> Assembly:
    """Return an image of packages alone as what has to be assembled.

    Args:
        environment: What the image contains; its identity is written into it, for the run that
            has it mounted.
        reference: What it is called, with a tag.
        repository: The repository that it and its layers go to.
        wheels: The wheels that the environment's lock chooses, one for each package.
        version: This product's version, for the labels.
    """
    marker = canonical_json({"identity": environment.dependency_hash})
    return Assembly(
        reference=reference,
        layers=tags.layers_image(repository),
        starts_from="nothing",
        python=environment.python,
        platform=environment.platform,
        wheels=tuple(sorted(wheels, key=lambda wheel: wheel.name)),
        files={f"/{PACKAGES_MARKER}": marker},
        labels=packages_labels(environment, version=version),
    )
