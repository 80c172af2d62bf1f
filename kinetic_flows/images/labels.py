"""Labels of images, by which bases and projects' images are recognized."""

from __future__ import annotations

LABEL_CATEGORY = "kinetic.category"
LABEL_VARIANT = "kinetic.variant"
LABEL_PYTHON = "kinetic.python"
LABEL_DEPENDENCY_HASH = "kinetic.dependency-hash"
LABEL_LOCK_DIGEST = "kinetic.lock-digest"
LABEL_BASE_IDENTITY = "kinetic.base-identity"
LABEL_VERSION = "kinetic.version"
LABEL_KIND = "kinetic.kind"
LABEL_INPUTS = "kinetic.inputs"
LABEL_LAYERS = "kinetic.layers"
"""Marks an image that was assembled from layers, whose history tells what each of them is."""
LABEL_BASE_NAME = "org.opencontainers.image.base.name"
LABEL_TITLE = "org.opencontainers.image.title"
