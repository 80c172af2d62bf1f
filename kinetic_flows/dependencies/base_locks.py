"""The lock of a base image for a Python that no lock comes for.

It is made like the locks that come with this package, and kept like any other: for everyone in
the store, and here.
"""

from __future__ import annotations

import re

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.files import private_directory
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.locking import Lock, Locker
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.images.bases import PLATFORM, base_requirements


def make_base_lock(category: Category, python: str, locker: Locker, *, write: bool = False) -> Lock:
    """Return the lock of a base image: the stored one, else a new one.

    Args:
        category: Kind of accelerator.
        python: Python minor version.
        locker: Makes and keeps it.
        write: Whether to store a new lock.

    Raises:
        LockError: The runtime cannot be resolved for that Python.
        ImageError: A package of it has no wheel on a public index.
    """
    home = locker.home
    private_directory(home)
    source = DependencySource(
        kind="list", path=None, project_root=home, requirements=base_requirements(category)
    )
    target = Target(
        python=python,
        platform=PLATFORM,
        category=category,
        base_identity="base",
        keep_accelerator_packages=True,
    )
    lock = locker.lock(source, target, write=write)
    if lock.wheels:
        names = ", ".join(wheel.filename for wheel in lock.wheels)
        raise ImageError(
            f"the {category} base image for Python {python} would need packages that the public "
            f"index has no wheel of: {names}",
            value=python,
            hint="run the client with an earlier Python, or give an image of your own as "
            "container_image=",
        )
    return lock


def made_base_notice(category: Category, python: str, lock: str) -> str:
    """Say that a base's lock was made, and what it holds."""
    found = re.search(r"(?m)^jax==(\S+)", lock)
    runtime = f" (jax {found[1]})" if found else ""
    return (
        f"no lock of the {category} base comes for Python {python}: one was resolved{runtime}, "
        "which everyone with this bucket shares"
    )
