"""The work pools whose workers start runs: Kubernetes' on a cluster, processes on this machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kinetic_flows.clients.prefect.work_pools import LOCAL_WORK_POOL, WorkPools
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.protocols import ResolvedImage, WorkerPool
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


class ProcessWorkerPool:
    """The work pool of this machine, whose workers start the runner as a process.

    A worker of Prefect's on this machine, run by whoever made the deployment, finds the
    environment and the store where they are. Unlike a run that is launched directly, its
    process inherits the worker's variables.

    Args:
        python: Finds the interpreter of an environment.
        bootstrap: Where the bootstrap is kept for runs to come.
    """

    name = LOCAL_WORK_POOL
    type = "process"

    def __init__(
        self, python: Callable[[ResolvedImage], Path], bootstrap: Callable[[], Path]
    ) -> None:
        self._python = python
        self._bootstrap = bootstrap

    def template(self) -> dict[str, Any]:
        """Return the base job template of Prefect's process workers."""
        from prefect.workers.process import ProcessWorker

        return ProcessWorker.get_default_base_job_template()

    def variables(
        self,
        image: ResolvedImage,
        environment: Mapping[str, str],
        job_variables: Mapping[str, Any],  # noqa: ARG002 - a process is no Job
    ) -> dict[str, Any]:
        """Return the command that runs the runner in an environment, and its variables."""
        python = self._python(image)
        # The same for whoever deploys, so that deploying again changes nothing.
        path = os.pathsep.join([str(python.parent), "/usr/local/bin", os.defpath])
        return {
            "command": shlex.join([str(python), "-u", str(self._bootstrap())]),
            "env": {"PATH": path, "VIRTUAL_ENV": str(python.parent.parent), **environment},
            "stream_output": False,
        }


def ensure_worker_pool(pool: WorkerPool, variables: Mapping[str, Any], api_url: str) -> bool:
    """Make a work pool unless it is there; what an administrator changed in it stays.

    Args:
        pool: The work pool.
        variables: What its workers are to be told of a run.
        api_url: The Prefect API.

    Returns:
        Whether this call made it.

    Raises:
        PrefectServerError: There is one of another type, or Prefect refuses.
        LaunchError: Its template would leave out something of what workers are told.
    """
    pools = WorkPools(api_url)
    template = pools.read_template(pool.name, pool.type)
    if template is None:
        return pools.create(pool.name, pool.type, pool.template())
    known = (template.get("variables") or {}).get("properties") or {}
    unknown = sorted(variables.keys() - known.keys())
    if unknown:
        # Such as the one that a worker makes which is started before the work pool is there.
        raise LaunchError(
            f"the template of work pool {pool.name!r} has no variable {', '.join(unknown)}",
            value=pool.name,
            hint="`kinetic pool create` installs the template that this version needs",
        )
    return False
