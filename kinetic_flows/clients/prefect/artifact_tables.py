"""Tables among the artifacts of flow runs, read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.errors import translated


class ArtifactTables:
    """The tables behind one Prefect API.

    Args:
        api: The API.
    """

    def __init__(self, api: PrefectApi) -> None:
        self._api = api
        self.url = api.url

    @translated
    def read(self, run_ids: Sequence[str], key: str) -> list[dict[str, Any]] | None:
        """Return the rows of a table of the first of some flow runs that has one.

        Args:
            run_ids: The flow runs.
            key: What the table is called.

        Returns:
            None where none of them has it.
        """
        wanted = {"key": {"any_": [key]}, "flow_run_id": {"any_": list(run_ids)}}
        found = self._api.client.read_artifacts(
            artifact_filter=sdk.filters.ArtifactFilter.model_validate(wanted),
            sort=sdk.sorting.ArtifactSort.CREATED_DESC,
        )
        by_run = {str(each.flow_run_id): each.data for each in reversed(found)}
        for run_id in run_ids:
            if isinstance(data := by_run.get(run_id), str):
                rows: list[dict[str, Any]] = json.loads(data)
                return rows
        return None
