"""Asking a Prefect deployment for a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinetic_flows.clients.prefect_api import connect
from kinetic_flows.errors import PrefectServerError, UsageError


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
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

    with connect(api_url) as api, get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(name)
            run = client.create_flow_run_from_deployment(deployment.id, parameters=dict(parameters))
        except ObjectNotFound as error:
            raise UsageError(
                f"there is no deployment {name!r}",
                value=name,
                hint="see `prefect deployment ls`; deployments/prefect.yaml has one",
            ) from error
        except PrefectHTTPStatusError as error:
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
