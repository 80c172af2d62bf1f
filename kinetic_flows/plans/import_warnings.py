"""Telling what a call imports and its environment lacks, where that is certain."""

from __future__ import annotations

from dataclasses import replace

from kinetic_flows.core.errors import DependencyError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.dependencies.missing_imports import Shipped, describe, missing_imports
from kinetic_flows.platforms.image_sources import ImageSource, known_packages


def with_import_warnings(
    lock: Lock,
    shipped: Shipped,
    image: ImageSource,
    base: ResolvedImage | None,
    *,
    source: DependencySource,
    settings: Settings,
) -> Lock:
    """Return a lock that warns of what a call imports and its environment lacks.

    Args:
        lock: The call's lock.
        shipped: What is to run.
        image: Where its image comes from.
        base: The base image, in prebuilt mode; None where it was not looked up.
        source: What declares its dependencies.
        settings: The settings in force.

    Raises:
        DependencyError: There is such an import, and the settings refuse it.
    """
    known = known_packages(image, base, lock.target)
    if known is None:
        return lock
    packages = {*known, *(item.name for item in lock.packages)}
    found = missing_imports(shipped, packages, home=settings.home)
    sentences = tuple(describe(item, source) for item in found)
    if found and settings.strict_imports:
        raise DependencyError(
            "; ".join(sentences),
            value=tuple(item.module for item in found),
            hint="unset KINETIC_STRICT_IMPORTS to be warned only",
        )
    return replace(lock, warnings=(*lock.warnings, *sentences))
