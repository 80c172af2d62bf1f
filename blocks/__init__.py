"""Prefect blocks of kinetic-flows, loaded when first used.

The library itself never imports this package: it finds the build cache through an entry point,
and loads what is saved by name.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .image_repository import ImageRepository
    from .kinetic_build_cache import KineticBuildCache
    from .kinetic_cluster import KineticCluster

__all__ = ["ImageRepository", "KineticBuildCache", "KineticCluster"]

_MODULES = {
    "ImageRepository": ".image_repository",
    "KineticBuildCache": ".kinetic_build_cache",
    "KineticCluster": ".kinetic_cluster",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name], __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
