"""Base images as assemblies: an image of Python, a lock's wheels, the runner's bootstrap. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kinetic_flows.core.accelerators.packages import accelerator_closure
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images import tags
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.bases import PLATFORM, VARIABLES, BaseInputs, read_bootstrap
from kinetic_flows.images.labels import (
    LABEL_BASE_IDENTITY,
    LABEL_BASE_NAME,
    LABEL_CATEGORY,
    LABEL_KIND,
    LABEL_LOCK_DIGEST,
    LABEL_PYTHON,
    LABEL_TITLE,
    LABEL_VARIANT,
    LABEL_VERSION,
)

CONSTRAINTS = "/app/constraints.txt"
BOOTSTRAP = "/app/remote_runner.py"
BASE_FILES = (CONSTRAINTS, BOOTSTRAP)
"""The files of a base besides its packages."""

COMMAND = ("python3", "-u", BOOTSTRAP)


def base_assembly(
    inputs: BaseInputs,
    *,
    repository: str,
    references: Sequence[str],
    upstream: str,
    wheels: Sequence[WheelFile],
    labels: Mapping[str, str],
) -> Assembly:
    """Return a base image as what has to be assembled.

    Args:
        inputs: What it is made from.
        repository: The repository that it and its layers go to.
        references: What it is called there, with tags; the first one is only its own.
        upstream: The image it starts from, by digest.
        wheels: The wheels that its lock chooses.
        labels: Its labels, as `base_labels` returns them.
    """
    return Assembly(
        reference=references[0],
        also=tuple(references[1:]),
        layers=tags.layers_image(repository),
        start=upstream,
        starts_from="upstream",
        python=inputs.python,
        platform=PLATFORM,
        wheels=tuple(sorted(wheels, key=lambda wheel: wheel.name)),
        files=base_files(inputs, read_bootstrap()),
        environment=VARIABLES[inputs.category],
        command=COMMAND,
        labels=labels,
    )


def base_files(inputs: BaseInputs, bootstrap: bytes) -> dict[str, bytes]:
    """Return the files of a base besides its packages, by their absolute path."""
    constraints = "".join(f"{pin}\n" for pin in accelerator_closure(inputs.lock))
    return {CONSTRAINTS: constraints.encode(), BOOTSTRAP: bootstrap}


def base_labels(inputs: BaseInputs, version: str) -> dict[str, str]:
    """Return the labels of a base image.

    Args:
        inputs: What it is made from.
        version: This product's version.
    """
    return {
        LABEL_KIND: "base",
        LABEL_CATEGORY: inputs.category,
        LABEL_PYTHON: inputs.python,
        LABEL_BASE_IDENTITY: inputs.identity,
        LABEL_LOCK_DIGEST: f"sha256:{sha256_hex(inputs.lock.encode())}",
        LABEL_VERSION: version,
        LABEL_TITLE: f"kinetic base for {inputs.category}, Python {inputs.python}",
        LABEL_BASE_NAME: inputs.upstream,
        **({} if inputs.variant == "jax" else {LABEL_VARIANT: inputs.variant}),
    }


def base_digest(inputs: BaseInputs, bootstrap: bytes) -> Sha256:
    """Return the digest of everything a base is made from, the runner's bootstrap included.

    The product's version is a label and no part of it.
    """
    files = {path: sha256_hex(data) for path, data in base_files(inputs, bootstrap).items()}
    return sha256_hex(canonical_json({"identity": inputs.identity, "files": files}))
