"""What Prefect knows of the images that are used: by runs, deployments and work pools.

Anybody's, and not only those of this library: other flows may run in its images, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from kinetic_flows.clients.prefect import sdk
from kinetic_flows.clients.prefect.api import PAGE_SIZE, PrefectApi
from kinetic_flows.clients.prefect.errors import translated
from kinetic_flows.clients.prefect.records import FINAL_STATES
from kinetic_flows.core.run_ids import short_id

T = TypeVar("T")


class PrefectImageUses:
    """What behind one Prefect API may use images.

    Args:
        api: The API.
    """

    def __init__(self, api: PrefectApi) -> None:
        self._api = api
        self.url = api.url

    @translated
    def since(self, moment: datetime) -> list[tuple[str, Any]]:
        """Return what uses images, for people, each with the values that may name them.

        Args:
            moment: Runs that are over count when they were to begin, or ended, later.
        """
        after = {"after_": moment.isoformat()}
        going_on = {"state": {"type": {"not_any_": sorted(FINAL_STATES)}}}
        return [
            *self._runs({"expected_start_time": after}),
            *self._runs({"end_time": after}),
            *self._runs(going_on),
            *self._deployments(),
            *self._pools(),
        ]

    def _runs(self, wanted: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        chosen = sdk.filters.FlowRunFilter.model_validate(wanted)
        read = self._api.client.read_flow_runs
        for run in _all(lambda **page: read(flow_run_filter=chosen, **page)):
            yield f"run {short_id(str(run.id))}", [run.labels, run.job_variables]

    def _deployments(self) -> Iterator[tuple[str, Any]]:
        # Many have the same name, by which they are sorted otherwise: pages would not add up.
        newest_first = sdk.sorting.DeploymentSort.CREATED_DESC
        for each in _all(partial(self._api.client.read_deployments, sort=newest_first)):
            values = [each.labels, each.job_variables, each.parameters, each.pull_steps]
            yield f"deployment {each.name}", values

    def _pools(self) -> Iterator[tuple[str, Any]]:
        for pool in _all(self._api.client.read_work_pools):
            yield f"work pool {pool.name}", pool.base_job_template


def _all(read: Callable[..., Sequence[T]]) -> Iterator[T]:
    """Yield what a method returns, page by page, some of it twice.

    What goes meanwhile, as a run that ends goes from those that are not over, moves the rest to
    lower offsets: pages that only followed one another would miss as many.
    """
    offset = 0
    while page := read(limit=PAGE_SIZE, offset=offset):
        yield from page
        if len(page) < PAGE_SIZE:
            return
        offset += PAGE_SIZE // 2
