"""The work pool of this machine, whose workers start runs as processes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kinetic_flows.clients.prefect.work_pools import LOCAL_WORK_POOL, process_job_template
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.platforms.local.client_side import client_side


class ProcessWorkerPool:
    """The work pool of this machine, whose workers start the runner as a process.

    A Prefect worker on this machine, run by the user who made the deployment, finds the
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
        return process_job_template()

    def variables(
        self,
        image: ResolvedImage,
        environment: Mapping[str, str],
        job_variables: Mapping[str, Any],  # noqa: ARG002 - a process is no Job
    ) -> dict[str, Any]:
        """Return the command that runs the runner in an environment, and its variables."""
        python = self._python(image)
        # The same for every user, so that deploying again changes nothing.
        path = os.pathsep.join([str(python.parent), "/usr/local/bin", os.defpath])
        return {
            "command": shlex.join([str(python), "-u", str(self._bootstrap())]),
            "env": {
                "PATH": path,
                "VIRTUAL_ENV": str(python.parent.parent),
                # Credentials are the worker's own.
                **client_side({}),
                **environment,
            },
            "stream_output": False,
        }
