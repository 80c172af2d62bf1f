"""Sweeps: many inputs of one function, from the process that made them or not."""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prefect_http import PREFECT
from prefect_workers import RunningWorker
from projects import Project, make_project

import kinetic
from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery
from kinetic_flows.core.errors import RunCancelled, RunNotFoundError, UsageError, WaitTimeout

FUNCTIONS = """
    import time
    from pathlib import Path

    import kinetic

    @kinetic.run
    def scale(value, factor=10):
        return value * factor

    @kinetic.run
    def size(data, number):
        return len(data) + number

    @kinetic.run
    def flaky(path, number):
        place = Path(path) / str(number)
        tries = int(place.read_text()) + 1 if place.exists() else 1
        place.write_text(str(tries))
        if number == 1 and tries < 2:
            raise ValueError(f"input {number}, run {tries}")
        if number == 3:
            raise LookupError("never")
        return tries

    @kinetic.run
    def between(seconds):
        begun = time.time()
        time.sleep(seconds)
        return begun, time.time()

    @kinetic.run
    def wait_for(path):
        Path(path).with_suffix(".started").touch()
        while not Path(path).exists():
            time.sleep(0.02)
        return path
"""


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[Project]:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    yield make_project(tmp_path / "project", monkeypatch, {"group_functions.py": FUNCTIONS})
    sys.modules.pop("group_functions", None)


@pytest.fixture
def functions(project: Project) -> ModuleType:
    return project.module("group_functions")


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _post(api_url: str, path: str, body: Any) -> Any:
    return PREFECT.post(f"{api_url}/{path}", json=body).json()


@pytest.mark.usefixtures("place")
def test_every_input_is_a_flow_run_under_one_and_values_come_in_order(
    functions: ModuleType,
    api: PrefectApi,
    prefect_api_url: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KINETIC_PROGRESS", "verbose")
    inputs = (each for each in [1, (2, 3), {"value": 4, "factor": 5}, 6])
    group = functions.scale.map(inputs, max_concurrent=3)
    completed = {run.id for run in group.as_completed(timeout_seconds=120)}
    assert group.results() == [10, 6, 20, 60]
    assert group.status_counts() == {"Completed": 4}
    assert [run.result() for run in group.runs] == [10, 6, 20, 60]
    assert completed == {run.id for run in group.runs}
    records = api.find_runs(RunQuery(parent=group.id))
    assert sorted(record.name for record in records) == [
        "scale(value=1)",
        "scale(value=2, factor=3)",
        "scale(value=4, factor=5)",
        "scale(value=6)",
    ]
    assert {run.id for run in kinetic.list_runs(group=group.id[:8])} == completed
    parent = api.read_run(group.id)
    assert (parent.state_type, parent.message) == ("COMPLETED", "4 inputs: 4 Completed")
    shown = capfd.readouterr().err
    assert shown.count("✓ upload-code") == shown.count("✓ build-image") == 1
    assert "run-inputs: 4 inputs ended" in shown
    artifacts = _post(
        prefect_api_url,
        "artifacts/filter",
        {"artifacts": {"flow_run_id": {"any_": [group.id]}, "key": {"any_": ["inputs"]}}},
    )
    rows = json.loads(artifacts[0]["data"])
    assert [(row["input"], row["state"]) for row in rows] == [
        (index, "Completed") for index in range(4)
    ]
    assert "value=4" in rows[2]["arguments"]


def test_large_arguments_that_inputs_have_in_common_are_uploaded_once(
    functions: ModuleType, shared_kinetic_home: Path
) -> None:
    data = bytes(range(256)) * 2000
    group = functions.size.map([(data, number) for number in range(3)])
    assert group.results(timeout_seconds=120) == [512_000, 512_001, 512_002]
    store = shared_kinetic_home / "store" / "runs"
    pieces = [path.stat().st_size for path in (store / group.id / "pieces").iterdir()]
    assert pieces == [512_000]
    for run in group.runs:
        assert sum(path.stat().st_size for path in (store / run.id).glob("*.*")) < 10_000
    assert group.runs[1].retry().result(timeout_seconds=60) == 512_001


@pytest.mark.usefixtures("place")
def test_failures_are_retried_as_new_runs_and_then_raised_or_returned(
    functions: ModuleType, tmp_path: Path, api: PrefectApi
) -> None:
    inputs = [{"path": str(tmp_path), "number": number} for number in range(4)]
    group = functions.flaky.map(inputs, retries=1, return_exceptions=True)
    results = group.results(timeout_seconds=120)
    assert results[:3] == [1, 2, 1]
    assert isinstance(results[3], LookupError)
    assert "raised by input 3" in "".join(results[3].__notes__)
    assert (tmp_path / "3").read_text() == "2"
    assert api.read_run(group.id).state_type == "FAILED"
    assert len(api.find_runs(RunQuery(parent=group.id))) == 6
    for part in (group.id, group.id[:13]):
        with pytest.raises(RunNotFoundError, match="is a group of runs, not a run"):
            kinetic.attach(part)
    attached = kinetic.attach_group(group.id[:13])
    assert attached.status_counts() == {"Completed": 3, "Failed": 1}
    with pytest.raises(LookupError, match="never"):
        attached.results()


def test_the_first_failure_ends_the_others_when_asked_to(
    functions: ModuleType, tmp_path: Path, api: PrefectApi
) -> None:
    waiting = functions.wait_for.map([3, *(str(tmp_path / "a") for _ in range(2))], fail_fast=True)
    with pytest.raises(TypeError, match="PathLike"):
        waiting.results(timeout_seconds=120)
    states = {run.state for run in waiting.runs[1:]}
    assert states <= {"Cancelled"}
    assert api.read_run(waiting.id).state_type == "FAILED"


def test_only_so_many_run_at_a_time_and_cancelling_launches_no_more(
    functions: ModuleType, tmp_path: Path
) -> None:
    paths = [tmp_path / str(number) for number in range(5)]
    taken: list[int] = []

    def inputs() -> Iterator[str]:
        for number, path in enumerate(paths):
            taken.append(number)
            yield str(path)

    group = functions.wait_for.map(inputs(), max_concurrent=2)
    _until(lambda: all(path.with_suffix(".started").exists() for path in paths[:2]))
    assert taken == [0, 1], "inputs are taken as runs become possible"
    with pytest.raises(WaitTimeout, match="0 have ended"):
        group.results(timeout_seconds=0.1)
    paths[0].touch()
    _until(lambda: paths[2].with_suffix(".started").exists())
    attached = pickle.loads(pickle.dumps(group))
    assert attached.status_counts()["Completed"] == 1
    assert next(attached.as_completed()).result() == str(paths[0])
    attached.cancel()
    with pytest.raises(RunCancelled):
        group.results(timeout_seconds=60)
    assert not paths[3].with_suffix(".started").exists()
    assert set(group.status_counts()) == {"Completed", "Cancelled"}


def test_a_program_that_ends_stays_until_every_input_is_launched(
    project: Project, tmp_path: Path
) -> None:
    code = (
        "import group_functions, sys\n"
        "print(group_functions.scale.map(range(5), max_concurrent=2).id)"
    )
    ended = project.python("-c", code)
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    group = kinetic.attach_group(ended.stdout.split()[-1])
    assert group.results(timeout_seconds=60) == [0, 10, 20, 30, 40]


def test_a_work_queue_keeps_its_limit_when_the_program_has_ended(
    project: Project, worker: RunningWorker
) -> None:
    code = (
        "from group_functions import between;"
        "print(between.map([3.0] * 5, max_concurrent=2, work_queue='narrow').id)"
    )
    ended = project.python("-c", code)
    assert "work queue narrow, 2 at a time" in ended.stderr
    group: kinetic.RunGroup[Any] = kinetic.attach_group(ended.stdout.split()[-1])
    spans = group.results(timeout_seconds=300)
    assert len(spans) == 5, worker.log
    most = max(sum(begun <= moment < end for begun, end in spans) for moment, _ in spans)
    assert most <= 2


def test_bad_inputs_are_refused_before_anything_happens(
    functions: ModuleType, api: PrefectApi
) -> None:
    before = len(api.find_runs())
    with pytest.raises(UsageError, match="input 1 does not fit scale"):
        functions.scale.map([1, {"number": 2}])
    with pytest.raises(UsageError, match="the inputs are 'abc'"):
        functions.scale.map("abc")
    with pytest.raises(UsageError, match="did you mean 'max_concurrent'"):
        functions.scale.map([1], max_concurent=3)
    with pytest.raises(UsageError, match="work_queue is 'a/b'"):
        functions.scale.map([1], work_queue="a/b")
    assert len(api.find_runs()) == before
    assert functions.scale.map([]).results(timeout_seconds=60) == []
    run = functions.scale.submit(1)
    with pytest.raises(RunNotFoundError, match="is no group"):
        kinetic.attach_group(run.id)


def test_a_generator_that_raises_ends_the_sweep_with_what_it_raised(
    functions: ModuleType,
) -> None:
    def inputs() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    group = functions.scale.map(inputs())
    with pytest.raises(OSError, match="no more"):
        group.results(timeout_seconds=60)
    assert group.runs[0].result(timeout_seconds=60) == 10
