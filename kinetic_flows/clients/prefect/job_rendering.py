"""The Job of a run, rendered by Prefect's own worker code.

The Job is then created directly, not by a worker that is started in process. Such a worker
registers itself with the work pool and shows as online for a minute and a half after it has
gone, starts an observer of the whole cluster, repeats a creation that may have succeeded, and
needs a Prefect API to create an object in Kubernetes. What it adds to a Job (names, labels,
environment) comes from its job configuration, which is what is used here: so one work pool's
template, with whatever an administrator changed in it, gives the same Job either way.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any
from uuid import UUID

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.internals import explicit_job_configuration
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.settings.pool_variables import template_defaults

_SERVER_SIDE = ("prefect.blocks.", "prefect.variables.", '"$ref"', "block_document_id")


def render_job(
    template: Mapping[str, Any], job_variables: Mapping[str, Any], *, run_id: str, name: str
) -> dict[str, Any]:
    """Return the manifest of a run's Job.

    Args:
        template: Base job template of the work pool.
        job_variables: What its variables are for this run.
        run_id: The flow run's id.
        name: Name of the function.

    Raises:
        LaunchError: The template cannot be filled.
    """
    rendering = _render(template, job_variables, run_id, name)
    try:
        # In a thread of its own, because a notebook's thread has an event loop already.
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(copy_context().run, asyncio.run, rendering).result()
    except (ValueError, KeyError, TypeError) as error:
        raise LaunchError(
            f"the work pool's job template cannot be filled: {error}",
            value=run_id,
            hint="`kinetic pool create` restores the template that this version comes with",
        ) from error


async def _render(
    template: Mapping[str, Any], job_variables: Mapping[str, Any], run_id: str, name: str
) -> dict[str, Any]:
    kind: Any = explicit_job_configuration()
    async with _client_for(template, job_variables) as client:
        configuration = await kind.from_template_and_values(
            dict(template), dict(job_variables), client=client
        )
    configuration.prepare_for_flow_run(
        sdk.objects.FlowRun(id=UUID(run_id), flow_id=UUID(run_id), name=name)
    )
    manifest: dict[str, Any] = configuration.job_manifest
    # Only the worker's own checks want these two; a pod has no such fields.
    pod = manifest["spec"]["template"]["spec"]
    pod.pop("parallelism", None)
    pod.pop("completions", None)
    if manifest["metadata"].get("name"):
        manifest["metadata"].pop("generateName", None)
    return manifest


def _client_for(template: Mapping[str, Any], job_variables: Mapping[str, Any]) -> Any:
    """Open a client of Prefect's where the template refers to blocks or variables.

    Elsewhere a stand-in does, which is never asked: rendering with none at all would start a
    temporary server.
    """
    text = json.dumps(
        [template["job_configuration"], template_defaults(template), dict(job_variables)]
    )
    is_server_side = any(mark in text for mark in _SERVER_SIDE)
    return sdk.prefect.get_client() if is_server_side else nullcontext(object())
