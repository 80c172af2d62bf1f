"""Bases as what has to be assembled: what each starts from is looked up, its wheels are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.image_registry import ImageRegistry
from kinetic_flows.dependencies.wheel_files import choose_wheels
from kinetic_flows.images.assembly.bases import base_assembly
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.bases import PLATFORM, BaseInputs


def assembly_of_base(
    inputs: BaseInputs,
    *,
    repository: str,
    references: Sequence[str],
    labels: Mapping[str, str],
    registry: ImageRegistry,
    home: Path,
    environ: Mapping[str, str],
) -> Assembly:
    """Return a base image as what has to be assembled.

    Args:
        inputs: What it is made from.
        repository: The repository that it and its layers go to.
        references: What it is called there, with tags; the first one is only its own.
        labels: Its labels.
        registry: Where the image it starts from is looked up.
        home: Directory of this machine's caches.
        environ: Variables for uv: how to reach the index.

    Raises:
        ImageError: The image it starts from is not there, or the lock names a package without a
            wheel.
        LockError: The public index cannot be asked.
    """
    upstream = registry.resolve(inputs.upstream)
    if upstream is None:
        raise ImageError(
            f"the image {inputs.upstream}, which bases start from, does not exist",
            value=inputs.upstream,
            hint="see what KINETIC_REGISTRY_ENDPOINTS puts in Docker Hub's place",
        )
    chosen = choose_wheels(
        inputs.lock, python=inputs.python, platform=PLATFORM, home=home, environ=environ
    )
    if chosen.sources:
        names = ", ".join(chosen.sources)
        raise ImageError(
            f"the {inputs.category} base for Python {inputs.python} cannot be assembled: the "
            f"public index has no wheel for {names}",
            value=names,
            hint="run with a Python that has a base: see kinetic build-image --help",
        )
    return base_assembly(
        inputs,
        repository=repository,
        references=references,
        upstream=upstream.reference,
        wheels=chosen.wheels,
        labels=labels,
    )
