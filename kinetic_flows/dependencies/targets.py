"""The target of a lock: an interpreter, a platform, and the packages its base already holds.

A base's identity is the digest of what the base is made from, so it is known before the base
has ever been built.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.markers import default_environment

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.accelerators.packages import accelerator_closure, pins_of
from kinetic_flows.core.accelerators.runtime import RuntimeRequirement, moved_constraints
from kinetic_flows.core.environment import BaseVariant
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.images.bases import PLATFORM
from kinetic_flows.images.markers import image_markers

ACCELERATOR_PACKAGES = frozenset({"jax", "jaxlib", "libtpu", "libtpu-nightly"})
"""Packages whose version the base decides."""

CORE_REQUIREMENTS = ("cloudpickle>=3.1",)
"""What the runner needs wherever it runs."""

CLOUD_CORE_REQUIREMENTS = (*CORE_REQUIREMENTS, "google-cloud-storage>=3.1")
"""What the runner needs in an image."""

RUNTIME_REQUIREMENTS: Mapping[Category, str] = {
    "cpu": "jax",
    "gpu": "jax[cuda12]",
    "tpu": "jax[tpu]",
}
"""The accelerator runtime of each category."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """An interpreter, a platform and a base to lock for.

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
        needs: What the accelerator asks of the packages that talk to it.
        made_base_lock: The base's lock where none comes with this package; empty for one that
            does.
        variant: Which of the category's bases it is.
        otherwise: The same on the lean base, for a project that brings a framework of its own;
            None where there is no choice.
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
    needs: tuple[RuntimeRequirement, ...] = ()
    made_base_lock: str = ""
    variant: BaseVariant = "jax"
    otherwise: Target | None = None

    def settled(self, variant: BaseVariant) -> Target:
        """Return the target that a lock was made for, by the base that the lock names."""
        return self.otherwise if self.otherwise and variant == "lean" else self

    def markers(self) -> dict[str, str]:
        """Return the values that requirement markers have in the environment."""
        if self.interpreter is not None:
            return {key: str(value) for key, value in default_environment().items()}
        return image_markers(self.python)


def local_target(category: Category = "cpu") -> Target:
    """Return the target that is this machine and the running interpreter.

    Nothing provides an accelerator runtime here, so the project's own requirements stay as
    they are.
    """
    core = {"core": sorted(CORE_REQUIREMENTS)}
    return Target(
        python=_running_minor(),
        platform=sysconfig.get_platform(),
        category=category,
        base_identity=sha256_hex(canonical_json(core)),
        runtime=CORE_REQUIREMENTS,
        keep_accelerator_packages=True,
        interpreter=Path(sys.executable),
    )


def cloud_target(
    category: Category,
    python: str,
    *,
    base_lock: str,
    base_identity: str,
    template: str = "",
    needs: tuple[RuntimeRequirement, ...] = (),
) -> Target:
    """Return the target that is an image of Google Cloud.

    Args:
        category: Kind of accelerator.
        python: Python minor version of the image.
        base_lock: The base image's lock.
        base_identity: The identity of its inputs, or the digest of a base that comes from
            somewhere else.
        template: Text of the template that the project's image is built from.
        needs: What the accelerator asks of the packages that talk to it; where the base holds
            a release that does not know it, the project's image gets one that does.
    """
    pins = pins_of(base_lock)
    closure = accelerator_closure(base_lock)
    return Target(
        python=python,
        platform=PLATFORM,
        category=category,
        base_identity=base_identity,
        constraints=moved_constraints(closure, needs),
        preferences=tuple(pin for pin in pins if pin not in closure),
        runtime=(RUNTIME_REQUIREMENTS[category], *CLOUD_CORE_REQUIREMENTS),
        template_sha256=sha256_hex(template.encode()) if template else "",
        needs=needs,
    )


def lean_target(target: Target, *, base_lock: str, base_identity: str) -> Target:
    """Return a target of Google Cloud on the base that has no framework.

    Nothing of an accelerator is held there but what its chips need; the project's own lines
    about such packages stay as they are.

    Args:
        target: The target on the base with jax.
        base_lock: The lean base's lock.
        base_identity: The identity of its inputs.
    """
    return replace(
        target,
        base_identity=base_identity,
        constraints=tuple(f"{need.package}{need.versions}" for need in target.needs),
        preferences=pins_of(base_lock),
        runtime=CLOUD_CORE_REQUIREMENTS,
        keep_accelerator_packages=True,
        variant="lean",
        otherwise=None,
    )


def _running_minor() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
