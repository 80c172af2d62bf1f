"""Cleaning up after runs: what is over and old goes, what is shared, kept or in use stays."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest
from projects import make_project

import kinetic
from kinetic_flows.cli.main import main
from kinetic_flows.core.errors import RunNotFoundError
from kinetic_flows.core.object_names import job_owner
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.runs.cleanup import find_expired, remove
from kinetic_flows.runs.session import own_session

FUNCTIONS = """
    import os, time
    from pathlib import Path

    import kinetic

    @kinetic.run
    def keep(text):
        (Path(os.environ["KINETIC_OUTPUT_DIR"]) / "kept.txt").write_text(text)
        return text

    @kinetic.run
    def wait_for(data, path):
        while not Path(path).exists():
            time.sleep(0.02)
        return len(data)
"""


@pytest.fixture
def functions(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
) -> Iterator[ModuleType]:
    monkeypatch.setenv("KINETIC_HOME", str(tmp_path / "home"))
    project = make_project(tmp_path / "project", monkeypatch, {"old_functions.py": FUNCTIONS})
    yield project.module("old_functions")
    sys.modules.pop("old_functions", None)


def _age(*folders: Path) -> None:
    """Make everything in some folders forty days old."""
    then = time.time() - 40 * 24 * 3600
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            os.utime(path, (then, then))


def _cleanup(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["runs", "cleanup", "--json", *arguments])
    assert ended.value.code == 0
    told: dict[str, object] = json.loads(capsys.readouterr().out)
    return told


def test_what_is_over_and_old_goes_and_all_else_stays(
    functions: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home, go = tmp_path / "home", tmp_path / "go"
    old = functions.keep.submit("old").wait()
    group = functions.wait_for.map([(b"x" * 100_000, str(go))])
    while not group.runs:
        time.sleep(0.05)
    waiting = group.runs[0]
    copy = home / "data" / "key"
    copy.mkdir(parents=True)
    (copy / "lock").touch()
    (copy / "whole").write_text('{"source": "gs://bucket/set"}')
    _age(home / "store", home / "runs", home / "data")
    young = functions.keep.submit("young").wait()
    assert _cleanup(capsys, "--dry-run")["runs"] == [old.id]
    assert (home / "store" / "runs" / old.id).exists()
    told = _cleanup(capsys)
    assert (told["runs"], told["data"], told["removed"]) == ([old.id], ["gs://bucket/set"], True)
    assert not copy.exists()
    assert list((home / "store" / "runs" / old.id).rglob("*.pkl")) == []
    assert not (home / "runs" / old.id).exists()
    assert (Path(old.outputs) / "kept.txt").read_text() == "old"
    assert list((home / "store" / "packs").iterdir())
    assert list((home / "store" / "runners").iterdir())
    assert list((home / "store" / "runs" / group.id / "pieces").iterdir())
    with pytest.raises(RunNotFoundError, match="its objects are gone"):
        old.retry()
    go.touch()
    assert group.results(timeout_seconds=60) == [100_000]
    assert waiting.result() == 100_000
    assert young.result() == "young"
    assert functions.keep("again") == "again"
    assert _cleanup(capsys, "--older-than-days", "1000")["runs"] == []


def test_what_was_written_for_a_worker_goes_when_its_run_is_over(
    functions: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    group = functions.keep.map(["no worker takes it"], work_queue="tidy")
    while not group.runs:
        time.sleep(0.05)
    (job,) = (home / "store" / "runs").glob("*/job.json")
    _age(home / "store")
    assert _cleanup(capsys)["runs"] == [], "its run waits for a worker"
    group.cancel()
    assert group.status_counts() == {"Cancelled": 1}
    _age(home / "store")
    assert job.parent.name not in _cleanup(capsys)["runs"]  # type: ignore[operator]
    again = group.runs[0].retry()
    again.cancel()
    at_once = _cleanup(capsys, "--older-than-days", "0")
    assert job.parent.name in at_once["runs"]  # type: ignore[operator]
    assert not job.exists()


@pytest.mark.parametrize("owner", [str(uuid4()), job_owner("new")], ids=["run", "job"])
def test_a_job_of_a_run_that_prefect_does_not_know_yet_stays(
    owner: str, functions: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    functions.keep("anything")
    store = tmp_path / "home" / "store"
    (written,) = (store / "runs").glob("*/job.json")
    just_written = store / "runs" / owner
    shutil.copytree(written.parent, just_written)
    at_once = ("--older-than-days", "0")
    assert just_written.name not in _cleanup(capsys, *at_once)["runs"]  # type: ignore[operator]
    _age(just_written)
    assert _cleanup(capsys)["runs"] == [just_written.name]


def test_runs_may_start_while_everything_that_is_over_is_removed(functions: ModuleType) -> None:
    is_over = threading.Event()
    failures: list[BaseException] = []

    def clean() -> None:
        try:
            with own_session(NullProgress()) as session:
                while not is_over.wait(0.1):
                    list(remove(find_expired(session, older_than=timedelta(0)), session))
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        runs = [functions.keep.submit(f"run {number}") for number in range(3)]
        group = functions.keep.map([f"input {number}" for number in range(3)]).wait(120)
        states = {kinetic.attach(run.id).wait(60).state for run in (*runs, *group.runs)}
    finally:
        is_over.set()
        cleaner.join()
    assert failures == []
    assert states == {"Completed"}
