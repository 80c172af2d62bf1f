"""How a run's pod is handed what it is started with: in its Job, or in its Secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinetic_flows.core.job import (
    COMPILE_CACHE_KEY_VARIABLE,
    RUN_KEY_VARIABLE,
    SEAL_KEY_VARIABLE,
)
from kinetic_flows.core.launcher import LaunchRequest
from kinetic_flows.core.settings.pool_variables import ADDED_UP, merged, template_defaults
from kinetic_flows.platforms.gke.manifests import base_job_template
from kinetic_flows.platforms.gke.names import LAUNCH_LABEL, SLICE_LABEL, run_secret_name

SECRET_VARIABLES = frozenset(
    {RUN_KEY_VARIABLE, SEAL_KEY_VARIABLE, COMPILE_CACHE_KEY_VARIABLE}
    | {"PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"}
)
"""Variables of a run that are handed over in its Secret, never in its Job."""


def launch_variables(request: LaunchRequest, job_name: str, namespace: str) -> dict[str, Any]:
    """Return the template's variables for one run: what is asked for, and its image and keys.

    Args:
        request: What to start; its own job variables come from `job_variables`.
        job_name: Name of the Job.
        namespace: Where the Job is created.
    """
    public = {
        name: value for name, value in request.environment.items() if name not in SECRET_VARIABLES
    }
    labels = {LAUNCH_LABEL: str(request.launch)} if request.launch else {}
    if request.slice is not None:
        labels[SLICE_LABEL] = request.key
    own = {
        **({"labels": labels} if labels else {}),
        "job_name": job_name,
        "namespace": namespace,
        "image": request.image.reference,
        "env": public,
        "env_from": [{"secretRef": {"name": run_secret_name(job_name)}}],
    }
    # Of single values the template's default is what Prefect fills in where we set none; what
    # holds several is ours added to the administrator's.
    defaults = template_defaults(request.template or base_job_template())
    kept = {name: defaults[name] for name in ADDED_UP if defaults.get(name)}
    return merged(kept, request.job_variables, own)


def secret_values(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what of a run's variables is handed over in its Secret."""
    return {name: value for name, value in environment.items() if name in SECRET_VARIABLES}
