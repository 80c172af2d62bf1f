"""Adding labels to a flow run that is there already."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.errors import translated


@translated
def add_labels(api: PrefectApi, run_id: str, labels: Mapping[str, str | float]) -> None:
    """Add labels to a flow run's; those of the same names are replaced.

    Args:
        api: The API.
        run_id: The flow run.
        labels: The labels.
    """
    api.client.update_flow_run_labels(UUID(run_id), dict(labels))
