"""All blocks at once: what Prefect loads to register their types."""

from .image_repository import ImageRepository
from .kinetic_build_cache import KineticBuildCache
from .kinetic_cluster import KineticCluster

__all__ = ["ImageRepository", "KineticBuildCache", "KineticCluster"]
