"""Base images: what each is made from, and its identity before it has ever been made.

The inputs come with this package, under `runner_image/`; `refresh_base_locks.py` there writes
the locks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from importlib.resources.abc import Traversable

from kinetic_flows.core.accelerators.image_variables import (
    DRIVER_LIBRARIES,
    DRIVER_PROGRAMS,
    JAX_PLATFORMS,
)
from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.accelerators.packages import is_accelerator_package
from kinetic_flows.core.environment import BaseVariant
from kinetic_flows.core.errors import ImageError, suggest
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.images.layers.model import FORMAT_VERSION

UPSTREAM = "docker.io/library/python:{python}-slim-bookworm"
"""The image that bases start from (https://hub.docker.com/_/python); its Debian release is named
so that its glibc does not change under a base."""

GLIBC = "2.36"
"""The glibc of that image (Debian 12, https://packages.debian.org/bookworm/libc6). Packages are
resolved for exactly this one: for an older one uv goes back, without a word, to whatever releases
had wheels for it. The smoke test of every base holds the image to it."""

PLATFORM = f"x86_64-manylinux_{GLIBC.replace('.', '_')}"
"""uv's name of the platform that images are for."""

_FOR_UV = {"PYTHONUNBUFFERED": "1", "UV_SYSTEM_PYTHON": "1", "UV_BREAK_SYSTEM_PACKAGES": "1"}
VARIABLES: Mapping[Category, Mapping[str, str]] = {
    "cpu": {**_FOR_UV, "JAX_PLATFORMS": JAX_PLATFORMS["cpu"]},
    "gpu": {
        **_FOR_UV,
        "JAX_PLATFORMS": JAX_PLATFORMS["gpu"],
        "LD_LIBRARY_PATH": DRIVER_LIBRARIES,
        "PATH": f"$PATH:{DRIVER_PROGRAMS}",
    },
    "tpu": {**_FOR_UV, "JAX_PLATFORMS": JAX_PLATFORMS["tpu"], "TF_CPP_MIN_LOG_LEVEL": "2"},
}
"""Environment variables of each category's images; `$PATH` is what the image had before."""

_PINNED = re.compile(r"(?m)^(?P<name>[A-Za-z0-9][\w.-]*)==(?:.*\\\n)*.*\n")
_ONLY_FOR_JAX = frozenset({"ml-dtypes", "numpy", "opt-einsum", "scipy"})


@dataclass(frozen=True, kw_only=True)
class BaseInputs:
    """Everything a base image is made from, but for the runner's bootstrap.

    Attributes:
        category: Kind of accelerator.
        python: Python minor version, such as `3.11`.
        lock: The locked packages with their hashes.
        upstream: Reference of the image it starts from.
        is_shipped: Whether the lock comes with this package; else it was made for the Python.
        variant: Which of the category's bases it is.
    """

    category: Category
    python: str
    lock: str
    upstream: str
    is_shipped: bool = True
    variant: BaseVariant = "jax"

    @property
    def identity(self) -> Sha256:
        """Digest of the inputs; the lock's comments do not count."""
        return identity_of_base(
            lock=self.lock, variables=VARIABLES[self.category], upstream=self.upstream
        )


def read_base_inputs(category: Category, python: str, lock: str | None = None) -> BaseInputs:
    """Return the inputs of a base image, as they come with this package.

    Args:
        category: Kind of accelerator.
        python: Python minor version.
        lock: A lock that was made for a Python that no lock comes for; None for the one that
            comes with this package.

    Raises:
        ImageError: No lock comes for that version of Python.
    """
    return BaseInputs(
        category=category,
        python=python,
        lock=lock or _shipped_lock(category, python),
        upstream=UPSTREAM.format(python=python),
        is_shipped=not lock,
    )


def _shipped_lock(category: Category, python: str) -> str:
    lock = _resources().joinpath("base-locks", base_lock_name(category, python))
    if not lock.is_file():
        raise ImageError(
            f"there is no {category} base image for Python {python}",
            value=python,
            hint=f"run the client with a Python that has one: {suggest(python, base_pythons())}",
        )
    return lock.read_text(encoding="utf-8")


def base_requirements(category: Category) -> tuple[str, ...]:
    """Return what a base image's lock is resolved from."""
    lines = _read(f"base-locks/{category}.in").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def lean_inputs(inputs: BaseInputs) -> BaseInputs:
    """Return the inputs of the base without a framework, from those of the one with jax.

    Its lock is the other's without jax, what jax alone asks for, and the accelerator's runtime,
    so that both have the same releases of everything else.
    """
    return replace(inputs, lock=without_framework(inputs.lock), variant="lean")


def without_framework(lock: str) -> str:
    """Return a base's lock without jax and all that is there for jax alone."""
    return "".join(
        match[0]
        for match in _PINNED.finditer(lock)
        if match["name"] not in _ONLY_FOR_JAX and not is_accelerator_package(match["name"])
    )


def read_project_template() -> str:
    """Return the template of the Dockerfiles of project images that are not assembled."""
    return _read("project.Dockerfile.template")


def project_recipe() -> str:
    """Return how project images are made, by either way, which is part of their identity."""
    return f"{read_project_template()}# layers {FORMAT_VERSION}\n"


def read_bootstrap() -> bytes:
    """Return the bootstrap that images carry at `/app/remote_runner.py`."""
    return _resources().joinpath("remote_runner.py").read_bytes()


def bootstrap_version() -> str:
    """Return what the bootstrap answers to `--version`."""
    match = re.search(rb'(?m)^VERSION = "([^"]+)"', read_bootstrap())
    if match is None:
        raise ImageError("the bootstrap does not say its version")
    return match[1].decode()


def read_smoke_test() -> str:
    """Return the program that a base from a Dockerfile must pass before it is published."""
    return _read("smoke_test.py")


def read_controller_template() -> str:
    """Return the template of the image that the product's own flows run in."""
    return _read("controller.Dockerfile.template")


def base_pythons() -> tuple[str, ...]:
    """Return the Python versions that have base images."""
    names = [item.name for item in _resources().joinpath("base-locks").iterdir()]
    return tuple(sorted({match[1] for n in names if (match := re.match(r"cpu-py(.*)\.txt", n))}))


def base_lock_name(category: Category, python: str) -> str:
    """Return the file name of a base image's lock."""
    return f"{category}-py{python}.txt"


def identity_of_base(*, lock: str, variables: Mapping[str, str], upstream: str) -> Sha256:
    """Return the identity of a base image: the digest of what it is made from, and how.

    Args:
        lock: The base's lock; its comments do not count.
        variables: Environment variables that it sets.
        upstream: Reference of the image it starts from.
    """
    lines = [line for line in lock.splitlines() if line.strip()]
    content = {
        "lock": [line for line in lines if not line.lstrip().startswith("#")],
        "layers": FORMAT_VERSION,
        "variables": dict(variables),
        "upstream": upstream,
    }
    return sha256_hex(canonical_json(content))


def _resources() -> Traversable:
    return files("kinetic_flows.runner_image")


def _read(name: str) -> str:
    return _resources().joinpath(name).read_text(encoding="utf-8")
