"""The work pool of a cluster, whose workers start runs as Jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.platforms.gke.manifests import WORK_POOL_TYPE, base_job_template


class KubernetesWorkerPool:
    """The work pool of a cluster.

    Args:
        name: Its name.
    """

    type = WORK_POOL_TYPE

    def __init__(self, name: str) -> None:
        self.name = name

    def template(self) -> dict[str, Any]:
        """Return the base job template that ships."""
        return base_job_template()

    def variables(
        self,
        image: ResolvedImage,
        environment: Mapping[str, str],
        job_variables: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return the job's variables, with the image and the pod's variables among them."""
        env = {**(job_variables.get("env") or {}), **environment}
        return {**job_variables, "image": image.reference, "env": env}
