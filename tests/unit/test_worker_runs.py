"""Runs that workers start, seen through Prefect, the store and, where it can be, the cluster."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kinetic_flows.clients.prefect.labels import CACHED_FROM_LABEL, CLIENT_LOGGER
from kinetic_flows.clients.prefect.records import LogLine, RunRecord
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.core.object_names import result_object
from kinetic_flows.core.streams import STDOUT_LOGGER
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.worker_runs import (
    LOST_SECONDS,
    RESULT_LAG_SECONDS,
    WorkerRuns,
    processes_of,
)

NOW = datetime.now(UTC)


@dataclass
class Prefect:
    """The API, as far as runs of workers ask it."""

    record: RunRecord
    lines: list[LogLine] = field(default_factory=list)

    def read_run(self, _run_id: str) -> RunRecord:
        return self.record

    def logs(self, _run_id: str, offset: int = 0) -> list[LogLine]:
        return self.lines[offset:]


@dataclass
class Cluster:
    """What sees pods."""

    seen: Observation
    stopped: list[str] = field(default_factory=list)

    def observe(self, _run_id: str, position: int | None = 0) -> Observation:
        assert position is None, "output comes from Prefect"
        return self.seen

    def stop(self, run_id: str, _grace_seconds: float) -> None:
        self.stopped.append(run_id)


def record(state: str, *, since: datetime | None = None, message: str = "") -> RunRecord:
    return RunRecord(
        id="run-1",
        name="train",
        state_type=state,
        state_name=state.title(),
        message=message,
        created=NOW,
        work_pool="pool",
        state_since=since or datetime.now(UTC),
    )


def look(tmp_path: Path, of: RunRecord, seen: Observation | None = None) -> Observation:
    cluster: Any = Cluster(seen) if seen else None
    api: Any = Prefect(of)
    return WorkerRuns(api, LocalStore(tmp_path), cluster).observe("run-1")


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("SCHEDULED", Phase.PENDING),
        ("PENDING", Phase.PENDING),
        ("RUNNING", Phase.RUNNING),
        ("CANCELLING", Phase.RUNNING),
        ("CRASHED", Phase.FAILED),
        ("CANCELLED", Phase.FAILED),
    ],
)
def test_a_state_in_prefect_is_a_phase(tmp_path: Path, state: str, phase: Phase) -> None:
    assert look(tmp_path, record(state)).phase is phase


@pytest.mark.parametrize(
    ("state", "phase"), [("COMPLETED", Phase.SUCCEEDED), ("FAILED", Phase.FAILED)]
)
def test_a_flow_is_over_with_its_result_which_follows_the_state_of_its_engine(
    tmp_path: Path, state: str, phase: Phase
) -> None:
    long_ago = datetime.now(UTC) - timedelta(seconds=RESULT_LAG_SECONDS + 1)
    cached = replace(record(state), labels={CACHED_FROM_LABEL: "run-0"})
    assert look(tmp_path, record(state)).phase is Phase.RUNNING
    assert look(tmp_path, record(state, since=long_ago)).phase is phase, "it does not come"
    assert look(tmp_path, cached).phase is phase, "it is the earlier run's"
    LocalStore(tmp_path).put_if_absent(result_object("run-1"), b"...")
    assert look(tmp_path, record(state)).phase is phase


def test_a_run_that_no_worker_has_taken_says_what_would(tmp_path: Path) -> None:
    reason = look(tmp_path, record("SCHEDULED")).reason
    assert reason.startswith("no worker of work pool pool has taken it yet")
    assert "kinetic worker start pool" in reason


def test_why_a_run_crashed_is_what_its_state_says(tmp_path: Path) -> None:
    assert look(tmp_path, record("CRASHED", message="Submission failed")).reason == (
        "Submission failed"
    )


def test_a_result_in_the_store_ends_a_run_that_could_not_report(tmp_path: Path) -> None:
    LocalStore(tmp_path).put_if_absent(result_object("run-1"), b"...")
    assert look(tmp_path, record("RUNNING")).phase is Phase.GONE


def test_the_cluster_tells_what_prefect_cannot_know(tmp_path: Path) -> None:
    died = Observation(phase=Phase.FAILED, exit_code=137, reason="out of memory", output=b"x")
    seen = look(tmp_path, record("RUNNING"), died)
    assert (seen.phase, seen.exit_code, seen.reason) == (Phase.FAILED, 137, "out of memory")
    assert seen.output == b""
    waits = Observation(phase=Phase.PENDING, reason="no node fits yet")
    assert look(tmp_path, record("PENDING"), waits).reason == "no node fits yet"


GUESS = "No active or succeeded pods found for any job"


def test_what_the_cluster_knows_of_an_end_is_told_in_place_of_a_workers_guess(
    tmp_path: Path,
) -> None:
    died = Observation(phase=Phase.FAILED, exit_code=137, reason="out of memory")
    assert look(tmp_path, record("CRASHED", message=GUESS), died).reason == "out of memory"
    assert look(tmp_path, record("CRASHED", message=GUESS)).reason == GUESS
    gone = Observation(phase=Phase.GONE)
    assert look(tmp_path, record("CRASHED", message=GUESS), gone).reason == GUESS
    assert look(tmp_path, record("CRASHED", message="Submission failed"), died).reason == (
        "Submission failed"
    )


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_run_without_a_job_is_lost_only_after_a_while(tmp_path: Path, state: str) -> None:
    gone = Observation(phase=Phase.GONE)
    assert not look(tmp_path, record(state), gone).phase.is_final
    long_ago = datetime.now(UTC) - timedelta(seconds=LOST_SECONDS + 1)
    seen = look(tmp_path, record(state, since=long_ago), gone)
    assert seen.phase is Phase.GONE
    assert "has no Job in the cluster" in seen.reason


def test_a_run_that_is_to_end_and_has_no_job_is_over(tmp_path: Path) -> None:
    seen = look(tmp_path, record("CANCELLING"), Observation(phase=Phase.GONE))
    assert seen.phase is Phase.GONE


def test_its_output_is_what_the_run_itself_has_logged_each_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetic_flows.runs.worker_runs.LOOK_SECONDS", 0.0)

    def line(number: int, text: str, logger: str = STDOUT_LOGGER) -> LogLine:
        return LogLine(id=str(number), logger=logger, timestamp=NOW, level=20, message=text)

    api = Prefect(
        record("RUNNING"), lines=[line(1, "one"), line(2, "taken", "prefect.flow_runs.worker")]
    )
    runs = WorkerRuns(api, LocalStore(tmp_path), None)  # type: ignore[arg-type]
    first = runs.observe("run-1")
    assert first.output == b"one\n"
    # A line that was printed earlier may arrive later, and takes its place by time.
    api.lines = [
        line(1, "one"),
        line(3, "late"),
        line(2, "taken", "prefect.flow_runs.worker"),
        line(4, "two"),
    ]
    api.lines.append(line(5, "waiting", CLIENT_LOGGER))
    second = runs.observe("run-1", first.position)
    assert second.output == b"late\ntwo\n"
    assert runs.observe("run-1", second.position).output == b""


def test_stopping_waits_for_it(
    tmp_path: Path,
) -> None:
    api = Prefect(record("CANCELLED"))
    cluster = Cluster(Observation(phase=Phase.GONE))
    runs = WorkerRuns(api, LocalStore(tmp_path), cluster)  # type: ignore[arg-type]
    api.record = replace(api.record, state_type="CANCELLED")
    runs.stop("run-1", 60.0)
    assert cluster.stopped == ["run-1"]


@dataclass
class Platform:
    """Somewhere that runs can be, seen or not."""

    here: str
    store: Any
    launcher: Any = None
    may_see_processes: bool = True
    worker_processes: Any = None

    def sees(self, place: str) -> bool:
        return place in ("", self.here)


@pytest.mark.parametrize("dispatch", ["client", "worker"])
@pytest.mark.parametrize("place", ["team-b", "default/another-cluster"])
def test_a_run_without_a_process_here_is_not_gone_when_it_is_elsewhere(tmp_path, dispatch, place):
    """A live run of another namespace, or of another cluster, looks like one that is gone."""
    cluster: Any = Cluster(Observation(phase=Phase.GONE, reason="no Job here"))
    platform: Any = Platform(
        "default/this-cluster", LocalStore(tmp_path), cluster, worker_processes=cluster
    )
    long_ago = datetime.now(UTC) - timedelta(seconds=10 * LOST_SECONDS)
    api: Any = Prefect(record("RUNNING", since=long_ago))

    def seen(where: str) -> Phase:
        ticket = RunTicket(run_id="run-1", name="train", run_key="5e", place=where)
        processes = processes_of(platform, api, replace(ticket, dispatch=dispatch))
        return processes.observe("run-1", None).phase

    assert seen(place) is Phase.RUNNING
    assert seen("default/this-cluster") is Phase.GONE
