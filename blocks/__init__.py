"""Prefect blocks of kinetic-flows.

Prefect finds them through the `prefect.collections` entry point; the library itself never
imports this package, and loads what is saved by name.
"""

from .kinetic_build_cache import KineticBuildCache
from .kinetic_cluster import KineticCluster

__all__ = ["KineticBuildCache", "KineticCluster"]
