"""Runs that a Prefect worker starts: their state, output and result.

A client may have no access to the cluster of such a run: state and output come from Prefect, the
result from the store. Where the client sees the cluster, its pods tell what Prefect cannot know:
that a pod was killed, or why it is not scheduled yet.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from kinetic_flows.clients.prefect.api import LogLine, PrefectApi, RunRecord
from kinetic_flows.clients.prefect.labels import CACHED_FROM_LABEL
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation, Phase, Processes
from kinetic_flows.core.object_names import result_object
from kinetic_flows.core.streams import LogEntry
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.prefect_lines import PrefectLines, is_of_run

NO_WORKER = "no_worker"
"""Cause of a run that is Pending because no worker has taken it."""

LOOK_SECONDS = 0.5
"""The Prefect API is asked for a run no more often than this."""

RESULT_SECONDS = 5.0
"""The store is asked no more often than this whether the run has left its result."""

RESULT_LAG_SECONDS = 60.0
"""How long the result of a Prefect flow may follow the state that the engine in its pod sets."""

LOST_SECONDS = 90.0
"""How long a run may be Pending or Running in Prefect while the cluster has no Job of it."""


class WorkerRuns:
    """Processes that the workers of a work pool start.

    Args:
        api: Where the runs' states and logs are.
        store: Where their results are.
        processes: The Jobs or processes that workers start; None where they cannot be seen.
    """

    def __init__(self, api: PrefectApi, store: ArtifactStore, processes: Processes | None) -> None:
        self._api = api
        self._store = store
        self._processes = processes
        self._known: dict[str, tuple[float, Observation]] = {}
        self._logs: dict[str, PrefectLines] = {}
        self._result_asked: dict[str, float] = {}

    def observe(self, run_id: str, position: int | None = 0) -> Observation:
        """Return the run's phase and, as its output, its log lines from a position on.

        Args:
            run_id: The run.
            position: Where to read on; None to read nothing.

        Raises:
            PrefectServerError: Prefect does not tell.
        """
        looked, known = self._known.get(run_id, (0.0, None))
        if known is not None and time.monotonic() - looked < LOOK_SECONDS:
            return replace(known, output=b"", position=position or 0)
        # State before logs: lines are sent before the state that ends the run.
        record = self._api.read_run(run_id)
        seen = self._seen(record)
        if position is not None:
            output = self._output(run_id, position)
            seen = replace(seen, output=output, position=position + len(output))
        self._known[run_id] = (time.monotonic(), seen)
        return seen

    def _output(self, run_id: str, position: int) -> bytes:
        """Return what the run's process has said since the last call; all, at position 0."""
        if position == 0:
            self._logs[run_id] = PrefectLines()
        lines = self._logs.setdefault(run_id, PrefectLines()).read(self._api, run_id)
        return b"".join(_encoded(line) for line in lines if is_of_run(line.logger))

    def stop(self, run_id: str, grace_seconds: float) -> None:
        """Wait for the run to stop itself, as it does when its state is Cancelling; then end it.

        A run whose pod waits in the cluster does not notice, and its worker has done with it
        (Prefect 3.8.8 looks for cancellations of runs that are being submitted, no longer): it
        is ended by a client that sees the pod.
        """
        deadline = time.monotonic() + grace_seconds
        while not self._api.read_run(run_id).is_final and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        if self._processes is not None:
            self._processes.stop(run_id, 0.0)
        self._known.pop(run_id, None)

    def discard(self, run_id: str) -> None:
        """Remove the run's Job or process record, where it can be seen."""
        if self._processes is not None:
            self._processes.discard(run_id)

    def _seen(self, record: RunRecord) -> Observation:
        if record.is_final and self._result_may_follow(record):
            return Observation(phase=Phase.RUNNING, reason="its flow is over, its result is not")
        if record.is_guessed and (told := self._told_by_cluster(record.id)):
            return told
        if record.is_final:
            ended_well = record.state_type == "COMPLETED"
            phase = Phase.SUCCEEDED if ended_well else Phase.FAILED
            return Observation(phase=phase, reason="" if ended_well else record.message)
        if record.state_type == "SCHEDULED":
            return Observation(phase=Phase.PENDING, reason=_waiting(record), cause=NO_WORKER)
        if self._has_result(record.id):
            return Observation(phase=Phase.GONE, reason="it has left its result")
        phase = Phase.PENDING if record.state_type == "PENDING" else Phase.RUNNING
        return self._seen_in_cluster(record, phase)

    def _told_by_cluster(self, run_id: str) -> Observation | None:
        """Return how a run's Job failed; None where it cannot be seen, or did not."""
        if self._processes is None:
            return None
        with suppress(KineticError):
            there = self._processes.observe(run_id, None)
            return replace(there, position=0) if there.phase is Phase.FAILED else None
        return None

    def _seen_in_cluster(self, record: RunRecord, phase: Phase) -> Observation:
        if self._processes is None:
            return Observation(phase=phase, reason=record.message if phase is Phase.PENDING else "")
        there = self._processes.observe(record.id, None)
        if there.phase is not Phase.GONE:
            # Its output is in the logs as well, and those outlive the pod.
            return replace(there, output=b"", position=0)
        # A run that is to end needs no Job; one that its worker makes yet ends by itself.
        is_ending = record.state_type == "CANCELLING"
        if not is_ending and seconds_in_state(record) < LOST_SECONDS:
            return Observation(phase=phase, reason=record.message if phase is Phase.PENDING else "")
        return Observation(
            phase=Phase.GONE, reason=f"it is {record.state_name}, and has no Job in the cluster"
        )

    def _result_may_follow(self, record: RunRecord) -> bool:
        return (
            record.state_type in ("COMPLETED", "FAILED")
            and CACHED_FROM_LABEL not in record.labels
            and seconds_in_state(record) < RESULT_LAG_SECONDS
            and bool(self._store.missing([result_object(record.id)]))
        )

    def _has_result(self, run_id: str) -> bool:
        now = time.monotonic()
        if now - self._result_asked.get(run_id, -RESULT_SECONDS) < RESULT_SECONDS:
            return False
        self._result_asked[run_id] = now
        return not self._store.missing([result_object(run_id)])


def processes_of(platform: Platform, api: PrefectApi, run: RunTicket) -> Processes:
    """Return what observes and stops a run: the launcher, or Prefect for a worker's run.

    A client without access to the cluster, or with another namespace, treats every run as one that
    a worker started: that its namespace has no Job of the run says nothing.

    Args:
        platform: Where the run is.
        api: Where its state is kept.
        run: The run.
    """
    if not platform.sees(run.place):
        return WorkerRuns(api, platform.store, None)
    if run.dispatch == "client" and platform.may_see_processes:
        if run.has_candidates:
            from kinetic_flows.runs.candidates.processes import candidate_runs

            return candidate_runs(platform, api, run)
        return platform.launcher
    if run.has_candidates and platform.worker_processes is not None:
        from kinetic_flows.runs.candidates.withdrawn import ListedWorkerRuns

        return ListedWorkerRuns(platform, api)
    return WorkerRuns(api, platform.store, platform.worker_processes)


def _waiting(record: RunRecord) -> str:
    """Return the reason of a run that no worker has taken yet."""
    pool = record.work_pool or "its work pool"
    return (
        f"no worker of work pool {pool} has taken it yet (`kinetic worker start {pool}` starts one)"
    )


def seconds_in_state(record: RunRecord) -> float:
    """Return for how long a run has been in its state, by this machine's clock."""
    if record.state_since is None:
        return 0.0
    return (datetime.now(UTC) - record.state_since).total_seconds()


def _encoded(line: LogLine) -> bytes:
    return LogEntry(text=line.message, level=line.level, logger=line.logger).encoded()
