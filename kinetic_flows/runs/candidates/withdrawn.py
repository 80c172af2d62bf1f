"""Removing what Prefect workers have waiting in the cluster of runs that go on elsewhere.

Each launch of such a run is a flow run of its own, and who drives the run cancels those that are
not to begin any more. A worker has done with a Job that it has created, so one whose pods wait is
removed by a client that sees the cluster; in any case its process ends when it starts.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery, RunRecord
from kinetic_flows.clients.prefect.flow_names import LAUNCH_FLOW
from kinetic_flows.clients.prefect.labels import STORE_LABEL
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.launcher import STARTING, Observation, Phase
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.settle import store_label
from kinetic_flows.runs.worker_runs import WorkerRuns

LOOK_SECONDS = 10.0
"""How often it is looked for launches that are not to begin any more, while a run is waited for."""

_ENDING = ("CANCELLING",)
_NOT_BEGUN = ("SCHEDULED", "PENDING", "CANCELLING")


class ListedWorkerRuns(WorkerRuns):
    """A run that may go on one of several accelerators, as workers start its processes.

    Args:
        platform: Where they are started, which sees them.
        api: Where the run's state and logs are.
    """

    def __init__(self, platform: Platform, api: PrefectApi) -> None:
        super().__init__(api, platform.store, platform.worker_processes)
        self._platform = platform
        self._next_look = 0.0

    def observe(self, run_id: str, position: int | None = 0) -> Observation:
        """Return where the run is, as `WorkerRuns` does; what is withdrawn is removed meanwhile."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            self._remove(run_id, _ENDING)
        return super().observe(run_id, position)

    def stop(self, run_id: str, grace_seconds: float) -> None:
        """Wait for the run to stop itself; then end it, and remove what waits, or has not ended."""
        super().stop(run_id, grace_seconds)
        self._remove(run_id, (*_NOT_BEGUN, "RUNNING"))

    def discard(self, run_id: str) -> None:
        """Remove the Jobs of the run, which has ended."""
        super().discard(run_id)
        self._remove(run_id, _NOT_BEGUN)

    def _seen_in_cluster(self, record: RunRecord, phase: Phase) -> Observation:
        seen = super()._seen_in_cluster(record, phase)
        if phase is not Phase.PENDING or seen.phase is not Phase.RUNNING:
            return seen
        # What runs is the process that drives the run: its function has not been called.
        reason = "it waits for one of its accelerators; its log says for which"
        return replace(seen, phase=Phase.PENDING, reason=reason, cause=STARTING)

    def _remove(self, run_id: str, state_types: tuple[str, ...]) -> None:
        # What cannot be removed now stands down by itself, or is removed later.
        with suppress(KineticError):
            remove_withdrawn(self._platform, self._api, run_id, state_types=state_types)


def remove_withdrawn(
    platform: Platform,
    api: PrefectApi,
    run_id: str | None = None,
    *,
    state_types: tuple[str, ...] = _ENDING,
) -> tuple[str, ...]:
    """Remove the Jobs of launches that are not to begin any more; return their flow runs' ids.

    Args:
        platform: Only launches whose objects are in its store, and whose Jobs it sees, are touched.
        api: Where the launches are.
        run_id: Only those of this run; None for those of all.
        state_types: The state types of those that are not to begin.
    """
    processes = platform.worker_processes
    if processes is None:
        return ()
    label = store_label(platform)
    found = api.find_runs(RunQuery(flow=LAUNCH_FLOW, state_types=state_types, parent=run_id))
    ours = [each for each in found if each.labels.get(STORE_LABEL) == label]
    seen = [each for each in ours if platform.sees(_namespace(each))]
    for each in seen:
        processes.stop(each.id, 0.0)
        api.set_state(each.id, "CANCELLED", message="withdrawn: the run goes on elsewhere")
    return tuple(each.id for each in seen)


def _namespace(launch: RunRecord) -> str:
    return str(launch.job_variables.get("namespace") or "")
