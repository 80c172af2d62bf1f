"""Asking a Prefect deployment for a run, and watching it to its end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.api import PrefectApi, RunRecord, connect
from kinetic_flows.clients.prefect.sdk import httpx
from kinetic_flows.core.errors import (
    PrefectServerError,
    RunCancelled,
    RunCrashed,
    RunError,
    RunFailed,
    RunTimedOut,
    UsageError,
)
from kinetic_flows.core.interruption import pause

LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 600.0
"""How long the Prefect API may be gone while a run is watched."""

_ENDINGS: Mapping[str, tuple[type[RunError], str]] = {
    "FAILED": (RunFailed, "failed"),
    "CRASHED": (RunCrashed, "crashed"),
    "CANCELLED": (RunCancelled, "was cancelled"),
}


def start_deployment(api_url: str, name: str, parameters: Mapping[str, Any]) -> tuple[str, str]:
    """Make a run of a deployment, which its work pool picks up; do not wait for it.

    Args:
        api_url: The Prefect API.
        name: The deployment, as `flow/deployment`.
        parameters: Parameters that differ from the deployment's own.

    Returns:
        The flow run's id, and where it can be seen.

    Raises:
        UsageError: There is no such deployment, or it does not take these parameters.
        PrefectServerError: Prefect cannot be asked.
    """
    with connect(api_url) as api, sdk.prefect.get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(name)
            run = client.create_flow_run_from_deployment(deployment.id, parameters=dict(parameters))
        except sdk.exceptions.ObjectNotFound as error:
            raise UsageError(
                f"there is no deployment {name!r}",
                value=name,
                hint="`kinetic prefect deployment ls` lists them; deployments/prefect.yaml has one",
            ) from error
        except sdk.exceptions.PrefectHTTPStatusError as error:
            raise UsageError(
                f"Prefect refuses a run of {name!r}: {error.response.text[:300]}",
                value=name,
                hint="see the deployment's parameters in the Prefect UI",
            ) from error
        except httpx.TransportError as error:
            raise PrefectServerError(
                f"the Prefect API at {api_url} cannot be reached: {error}",
                value=api_url,
                hint="check PREFECT_API_URL",
            ) from error
        return str(run.id), api.run_url(str(run.id))


def state_changes(api: PrefectApi, run_id: str) -> Iterator[RunRecord]:
    """Yield a run whenever it has come into another state, its last one at the end.

    Args:
        api: Who knows about it; outages are waited for.
        run_id: The flow run.

    Raises:
        RunNotFoundError: It has been deleted.
        PrefectServerError: Prefect has not answered for a long time.
    """
    before: tuple[Any, ...] = ()
    answered = time.monotonic()
    while True:
        try:
            record = api.read_run(run_id)
        except PrefectServerError:
            if time.monotonic() - answered > PATIENCE_SECONDS:
                raise
        else:
            answered = time.monotonic()
            now = (record.state_name, record.state_since)
            if now != before:
                before = now
                yield record
            if record.is_final:
                return
        pause(LOOK_SECONDS)


def ending_error(record: RunRecord, url: str) -> RunError | None:
    """Return the error for a run that has ended; None when it completed.

    Args:
        record: The run in its final state.
        url: Where it can be seen.
    """
    if record.state_type not in _ENDINGS:
        return None
    kind, verb = _ENDINGS[record.state_type]
    if record.state_name == "TimedOut":
        kind, verb = RunTimedOut, "ran out of time"
    why = f": {record.message}" if record.message else ""
    return kind(f"run {record.id} {verb}{why}", value=record.id, hint=f"its log is at {url}")
