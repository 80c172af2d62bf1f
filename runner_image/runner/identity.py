"""Which run this is, for jobs that were written before their run had an id.

A Prefect worker names the flow run it starts in `PREFECT__FLOW_RUN_ID`, and its API in
`PREFECT_API_URL` (https://docs.prefect.io/v3/concepts/workers).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from .contract import EXIT_BAD_LAUNCH, EXIT_RUNTIME_UNFIT, JOB_VERSION, Fault, result_object

FLOW_RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
API_URL_VARIABLE = "PREFECT_API_URL"

LAUNCHED_RUN_VARIABLE = "KINETIC_LAUNCHED_RUN"
"""Names the run where a worker's flow run is but one of its launches; see `launches.py`."""

REFERENCE_PREFIX = "KINETIC_VALUE_OF_"
"""A Kubernetes Secret's value is in a variable with this prefix, out of this process's way; the
function gets it under its own name."""

RUN_KEY_VARIABLE = "KINETIC_RUN_KEY"
KEPT_FROM_FUNCTION = frozenset(
    {RUN_KEY_VARIABLE, "PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"}
    | {"KINETIC_SEAL_KEY", "KINETIC_SEAL_BLOCK"}
    | {"KINETIC_COMPILE_CACHE_KEY", "KINETIC_COMPILE_CACHE_BLOCK"}
    | {"KINETIC_JOB", "KINETIC_JOB_SHA256", "KINETIC_STORE", "KINETIC_PACKAGES"}
    | {LAUNCHED_RUN_VARIABLE, "KINETIC_HOSTS_DIRECTORY"}
    | {"KINETIC_CLIENT", "KINETIC_DATA_CACHE", "KINETIC_VOLUMES"}
)
"""Variables that no process of the project's gets: credentials, and what names this launch."""


def read_job(data: bytes) -> dict[str, Any]:
    """Return a job that this runner can read.

    Args:
        data: The job's object.

    Raises:
        Fault: It is of another version.
    """
    job: dict[str, Any] = json.loads(data)
    version = job.get("version")
    if version != JOB_VERSION:
        message = f"the job is of version {version!r}, its runner of {JOB_VERSION}"
        raise Fault(EXIT_BAD_LAUNCH, message)
    return job


def identified(job: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return a job with everything filled in that its run's id decides.

    Args:
        job: The job; one that names its run stays as it is.
        environ: This process's environment.

    Raises:
        Fault: The job names no run, and neither does the environment.
    """
    if job["run_id"]:
        return dict(job)
    run_id = _flow_run_id(environ)
    return {
        **job,
        "run_id": run_id,
        "result": result_object(run_id),
        "output_dir": f"{job['output_dir'].rstrip('/')}/{run_id}",
        "prefect": _prefect(job["prefect"], run_id, environ),
    }


def _prefect(
    spec: Mapping[str, Any] | None, run_id: str, environ: Mapping[str, str]
) -> dict[str, Any] | None:
    if spec is None:
        return None
    api_url = spec["api_url"] or environ.get(API_URL_VARIABLE)
    if not api_url:
        raise Fault(EXIT_BAD_LAUNCH, f"{API_URL_VARIABLE} must be set; Prefect's workers set it")
    return {**spec, "api_url": api_url, "flow_run_id": run_id}


def _flow_run_id(environ: Mapping[str, str]) -> str:
    from uuid import UUID

    name = LAUNCHED_RUN_VARIABLE if environ.get(LAUNCHED_RUN_VARIABLE) else FLOW_RUN_VARIABLE
    text = environ.get(name, "")
    try:
        return str(UUID(text))
    except ValueError as error:
        message = f"{name} is {text!r} and must be a flow run's id"
        raise Fault(EXIT_BAD_LAUNCH, message) from error


def check_python(wanted: str) -> None:
    """Refuse a Python that reads other pickles than the client writes.

    Args:
        wanted: The client's Python minor version.

    Raises:
        Fault: This is another one.
    """
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if wanted != here:
        raise Fault(
            EXIT_RUNTIME_UNFIT,
            f"the call was made by Python {wanted}, the image has Python {here}; use an image "
            f"with Python {wanted}, or call from Python {here}",
        )


def run_key(environ: Mapping[str, str]) -> str:
    """Return the key that signs the run's result.

    Raises:
        Fault: There is none.
    """
    key = environ.get(RUN_KEY_VARIABLE, "")
    try:
        bytes.fromhex(key)
    except ValueError:
        key = ""
    if not key:
        raise Fault(EXIT_BAD_LAUNCH, f"{RUN_KEY_VARIABLE} must be set, in hexadecimal")
    return key


def without_keys(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for processes in which code runs that is not the runner's."""
    return {
        name: value
        for name, value in environ.items()
        if name not in KEPT_FROM_FUNCTION and not name.startswith(REFERENCE_PREFIX)
    }


def environment_of_function(
    environ: Mapping[str, str], job: Mapping[str, Any], *, is_flow: bool
) -> dict[str, str]:
    """Return the environment of the function's process: without credentials.

    Args:
        environ: The supervisor's environment.
        job: The job.
        is_flow: Whether Prefect's engine runs there, which needs those of the API.
    """
    own = without_keys(environ)
    if not is_flow:
        return own
    keys = {name: value for name, value in environ.items() if name.startswith("PREFECT_API_")}
    # What the engine logs is printed too, and every record is sent from here.
    return {
        **own,
        **keys,
        "PREFECT_API_URL": job["prefect"]["api_url"],
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
    }
