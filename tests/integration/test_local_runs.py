"""The handle of a run on this machine: from the process that made it, and from any other."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from projects import Project, make_project

import kinetic
from kinetic_flows.clients.prefect.api import connect
from kinetic_flows.core.errors import ObjectRefusedError, RunCancelled, UsageError, WaitTimeout

FUNCTIONS = """
    import os, time
    from pathlib import Path

    import kinetic

    @kinetic.run(tags=["mine"])
    def steps(path, count):
        for number in range(count):
            print(f"step {number}", flush=True)
            while not Path(f"{path}.{number}").exists():
                time.sleep(0.02)
        (Path(os.environ["KINETIC_OUTPUT_DIR"]) / "model.txt").write_text("weights")
        return count

    @kinetic.run
    def stamp(path, number):
        with open(path, "a") as file:
            file.write(str(number))
        return time.time()

    @kinetic.run
    def once(path):
        if not Path(path).exists():
            Path(path).write_text("seen")
            raise ValueError("the first time")
        return "the second time"
"""


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[Project]:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    yield make_project(tmp_path / "project", monkeypatch, {"run_functions.py": FUNCTIONS})
    sys.modules.pop("run_functions", None)


@pytest.fixture
def functions(project: Project) -> ModuleType:
    return project.module("run_functions")


def _until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_script_submits_and_exits_and_another_process_follows_and_gets_the_result(
    project: Project, tmp_path: Path
) -> None:
    path = tmp_path / "go"
    submitted = project.python(
        "-c",
        "import run_functions, sys; print(run_functions.steps.submit(sys.argv[1], 2).id)",
        str(path),
    )
    assert submitted.returncode == 0, submitted.stderr
    run_id = submitted.stdout.split()[-1]
    run = kinetic.attach(run_id[:13])
    followed: list[str] = []
    follower = threading.Thread(target=lambda: followed.extend(run.logs(follow=True)))
    follower.start()
    with pytest.raises(WaitTimeout, match="goes on"):
        run.result(timeout_seconds=0.1)
    _until(lambda: followed == ["step 0"])
    _until(lambda: run.state == "Running")
    Path(f"{path}.0").touch()
    _until(lambda: followed == ["step 0", "step 1"])
    Path(f"{path}.1").touch()
    other = project.python(
        "-c", f"import kinetic; print(kinetic.attach('http://x/runs/flow-run/{run_id}/').result())"
    )
    assert other.stdout.split()[-1] == "2", other.stderr
    follower.join(60)
    assert not follower.is_alive()
    assert followed == ["step 0", "step 1"]
    assert run.wait().state == "Completed"
    assert run.logs(tail=1) == ["step 1"]
    assert list(run.logs(follow=True, tail=1)) == ["step 1"]
    assert (Path(run.outputs) / "model.txt").read_text() == "weights"
    assert pickle.loads(pickle.dumps(run)).result() == 2


def test_lines_that_prefect_does_not_have_yet_come_from_the_process(
    functions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kinetic_flows.clients.prefect.api import PrefectApi

    run = functions.steps.submit(str(tmp_path / "go"), 1)
    monkeypatch.setattr(PrefectApi, "logs", lambda *_, **__: [])
    _until(lambda: run.logs() == ["step 0"])
    follower = run.logs(follow=True)
    assert next(follower) == "step 0"
    follower.close()
    run.cancel()
    with pytest.raises(RunCancelled):
        run.result()
    assert run.state == "Cancelled"
    run.cancel()


def test_a_retry_is_a_new_run_of_the_same_call_that_names_the_old_one(
    functions: ModuleType, tmp_path: Path, prefect_api_url: str
) -> None:
    run = functions.once.submit(str(tmp_path / "seen"))
    with pytest.raises(ValueError, match="the first time"):
        run.result()
    again = run.retry()
    assert again.id != run.id
    assert again.result() == "the second time"
    with connect(prefect_api_url) as api:
        record = api.read_run(again.id)
    assert f"retry-of:{run.id}" in record.tags
    assert record.labels["kinetic.retry-of"] == run.id
    assert run.state == "Failed"


def test_a_retry_of_a_job_that_somebody_changed_is_refused(
    functions: ModuleType, tmp_path: Path
) -> None:
    run = functions.once.submit(str(tmp_path / "seen"))
    run.wait()
    stored = Path(os.environ["KINETIC_HOME"]) / "store" / "runs" / run.id / "job.json"
    job = json.loads(stored.read_text())
    stored.chmod(0o600)
    stored.write_text(json.dumps({**job, "name": "evil"}))
    with pytest.raises(ObjectRefusedError, match=r"job\.json is refused"):
        run.retry()


def test_runs_are_listed_by_state_and_an_unknown_state_suggests_one(
    functions: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "seen").touch()
    run = functions.once.submit(str(tmp_path / "seen")).wait()
    assert run.id in {each.id for each in kinetic.list_runs(state="Completed", name="once")}
    assert run.id not in {each.id for each in kinetic.list_runs(state="failed", limit=None)}
    assert kinetic.list_runs(limit=0) == []
    with pytest.raises(UsageError, match="did you mean 'completed'"):
        kinetic.list_runs(state="complete")
    with pytest.raises(UsageError, match="tail is -1"):
        run.logs(tail=-1)


def test_a_repeated_call_with_cache_for_is_answered_by_the_earlier_run(
    project: Project, functions: ModuleType, tmp_path: Path, prefect_api_url: str
) -> None:
    cached = functions.stamp.with_options(cache_for=timedelta(hours=1))
    place = tmp_path / "stamps"
    first = cached.submit(str(place), 1)
    value = first.result(timeout_seconds=60)
    assert cached(str(place), 1) == value
    again = kinetic.attach(cached.submit(str(place), 1).id)
    assert (again.state, again.result(), again.id != first.id) == ("Cached", value, True)
    assert place.read_text() == "1"
    assert cached(str(place), 2) != value, "other arguments are another call"
    group = functions.stamp.with_options(cache_for=True).map([(str(place), n) for n in (1, 2, 3)])
    assert group.results(timeout_seconds=60)[0] == value
    assert group.status_counts() == {"Cached": 2, "Completed": 1}
    stored = Path(os.environ["KINETIC_HOME"]) / "store" / "runs" / first.id / "result.pkl"
    stored.chmod(0o600)
    stored.write_bytes(stored.read_bytes()[:-1] + b"!")
    assert cached(str(place), 1) != value, "a forged result answers nothing"
    assert place.read_text() == "1231"


def test_what_a_handle_knows_is_not_asked_for_again(
    functions: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = functions.stamp.submit(str(tmp_path / "stamp"), 1).wait()
    group = functions.stamp.map([(str(tmp_path / "stamps"), number) for number in range(2)]).wait()
    known = (run.state, run.outputs)
    (listed,) = [each for each in kinetic.list_runs() if each.id == run.id]
    (first, second) = group.runs
    # Nothing listens there: whoever asked would fail.
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    assert known == (run.state, run.outputs) == ("Completed", run.outputs)
    assert listed.state == "Completed"
    assert group.runs == (first, second)
    assert first.url == run.url.replace(run.id, first.id)


def test_threads_and_forked_processes_ask_with_the_same_handle(
    functions: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "go"
    run = functions.steps.submit(str(path), 1)
    _until(lambda: run.state == "Running")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: run.state, range(8))) == ["Running"] * 8
    with multiprocessing.get_context("fork").Pool(1) as children:
        assert children.apply(run.logs) == run.logs()
    Path(f"{path}.0").touch()
    assert run.result() == 1
    assert (run.state, pickle.loads(pickle.dumps(run)).state) == ("Completed", "Completed")
