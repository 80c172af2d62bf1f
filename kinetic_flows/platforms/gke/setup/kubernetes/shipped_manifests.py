"""Kubernetes objects of the manifests that ship, which people may apply themselves, too."""

from __future__ import annotations

from importlib import resources
from typing import Any

from kinetic_flows.core.lazy import LazyModule

yaml: Any = LazyModule("yaml")


def shipped_objects(folder: str, name: str) -> tuple[dict[str, Any], ...]:
    """Return the objects of a manifest.

    Args:
        folder: Its folder below `deployments`.
        name: The file.
    """
    root = resources.files("kinetic_flows.deployments")
    return objects_of(root.joinpath(folder, name).read_text(encoding="utf-8"))


def objects_of(text: str) -> tuple[dict[str, Any], ...]:
    """Return the objects of a manifest's text."""
    return tuple(each for each in yaml.safe_load_all(text) if each)


def in_namespace(item: dict[str, Any], namespace: str) -> dict[str, Any]:
    """Return an object that is in a namespace."""
    return {**item, "metadata": {**item["metadata"], "namespace": namespace}}
