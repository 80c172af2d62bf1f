"""What a lock is made for: an interpreter, a platform, and what its base already holds."""

from __future__ import annotations

import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.plan import Category

CLOUD_PLATFORM = "x86_64-manylinux_2_28"
"""uv's name of the platform that images are for."""

ACCELERATOR_PACKAGES = frozenset({"jax", "jaxlib", "libtpu", "libtpu-nightly"})
"""Packages whose version the base decides."""

CORE_REQUIREMENTS = ("cloudpickle>=3.1",)
"""What the runner needs wherever it runs."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What to lock for.

    Attributes:
        python: Python minor version, such as `3.11`.
        platform: uv's name of the platform; for this machine, Python's own name of it.
        category: Kind of accelerator.
        base_identity: Digest of the base's inputs.
        constraints: Pins of the accelerator's closure that nothing may move.
        preferences: Versions the base holds, taken where nothing asks for another.
        runtime: Requirements that are part of every environment.
        keep_accelerator_packages: Whether the project's own jax and its kin stay in.
        template_sha256: Digest of the template the environment is built from; empty for none.
        interpreter: Python to resolve and build for, when it is this machine's; else None.
    """

    python: str
    platform: str
    category: Category
    base_identity: str
    constraints: tuple[str, ...] = ()
    preferences: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    keep_accelerator_packages: bool = False
    template_sha256: str = ""
    interpreter: Path | None = None


def local_target(category: Category = "cpu") -> Target:
    """Return the target that is this machine and the running interpreter."""
    from kinetic_flows.dependencies.identity import base_identity

    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return Target(
        python=python,
        platform=sysconfig.get_platform(),
        category=category,
        base_identity=base_identity("local", python),
        runtime=CORE_REQUIREMENTS,
        keep_accelerator_packages=True,
        interpreter=Path(sys.executable),
    )
