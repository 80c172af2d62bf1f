"""Handles, sweeps, caching and cleaning up on the loopback cloud, whose pods are processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
from prefect_workers import eventually
from projects import make_project

import kinetic
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core.errors import RunCancelled, WaitTimeout
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.runs.cleanup import find_expired, remove
from kinetic_flows.runs.reconcile import reconcile
from kinetic_flows.runs.session import own_session
from loopback.__main__ import JOBS_BUCKET
from loopback.kubernetes.node_groups import node_group
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import time
    from pathlib import Path

    import kinetic

    @kinetic.run(accelerator="cpu")
    def divide(left, right):
        print(f"dividing {left} by {right}")
        return left / right

    @kinetic.run(accelerator="cpu")
    def size(data, number):
        return len(data) + number

    @kinetic.run(accelerator="cpu")
    def await_file(path):
        print("begun", flush=True)
        while not Path(path).exists():
            time.sleep(0.05)
        return "it was there"

    @kinetic.run(accelerator="cpu")
    def endless():
        print("begun", flush=True)
        time.sleep(600)
"""


@pytest.fixture
def functions(
    quick_cloud: QuickCloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[ModuleType]:
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    project = make_project(tmp_path / "project", monkeypatch, {"pod_functions.py": FUNCTIONS})
    yield project.module("pod_functions")
    sys.modules.pop("pod_functions", None)


def test_a_run_is_followed_repeated_cancelled_and_answered_from_the_cache(
    functions: ModuleType,
) -> None:
    run = functions.divide.submit(9, 2)
    attached = kinetic.attach(run.id)
    assert list(attached.logs(follow=True)) == ["dividing 9 by 2"]
    assert attached.result(timeout_seconds=120) == 4.5
    assert attached.state == "Completed"
    assert attached.outputs == f"gs://{JOBS_BUCKET}/outputs/{run.id}"
    assert run.retry().result(timeout_seconds=120) == 4.5
    cached = functions.divide.with_options(cache_for=True)
    assert cached(8, 2) == cached(8, 2) == 4.0
    assert kinetic.list_runs(state="cached", limit=1)[0].result() == 4.0
    endless = functions.endless.submit()
    assert next(iter(endless.logs(follow=True))) == "begun"
    endless.cancel()
    with pytest.raises(RunCancelled):
        endless.result(timeout_seconds=60)
    assert endless.state == "Cancelled"


def test_a_result_does_not_wait_for_an_api_server_that_is_being_stopped(
    functions: ModuleType, quick_cloud: QuickCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetic_flows.platforms.gke.watcher.SILENCE_SECONDS", 0.5)
    run = functions.await_file.submit(str(tmp_path / "go"))
    assert next(iter(run.logs(follow=True))) == "begun"
    quick_cloud.cluster.stop_api()
    try:
        (tmp_path / "go").touch()
        assert run.result(timeout_seconds=60) == "it was there"
        assert run.state == "Completed"
    finally:
        quick_cloud.cluster.start_api()
    assert functions.divide(9, 2) == 4.5


def test_what_is_not_known_of_the_use_of_a_gpu_is_said_in_the_runs_log(
    functions: ModuleType, quick_cloud: QuickCloud, tmp_path: Path
) -> None:
    # No driver of NVIDIA's is here to be asked.
    quick_cloud.cluster.add_nodes(node_group("l4", "l4-here", nodes=1))
    watched = functions.await_file.with_options(
        accelerator="l4", framework="none", idle_timeout_seconds=0.5
    )
    run = watched.submit(str(tmp_path / "go"))
    words = "whether its chips do anything cannot be told (libnvidia-ml.so.1"
    assert any(words in line for line in run.logs(follow=True))
    (tmp_path / "go").touch()
    assert run.result(timeout_seconds=120) == "it was there"


def test_nobody_judges_a_run_whose_place_he_cannot_see(
    functions: ModuleType, quick_cloud: QuickCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = functions.endless.submit()
    assert next(iter(run.logs(follow=True))) == "begun"
    quick_cloud.cluster.add_namespace("elsewhere")
    monkeypatch.setenv("KINETIC_NAMESPACE", "elsewhere")
    with own_session(NullProgress()) as session:
        found = reconcile(session.platform, session.api, cancel_patience_seconds=0)
        assert run.id in found.looked_at
        assert run.id not in found.ended
    attached = kinetic.attach(run.id)
    eventually(lambda: attached.state == "Running")
    assert attached.logs() == ["begun"]
    with pytest.raises(WaitTimeout):
        attached.result(timeout_seconds=1)
    attached.cancel()
    with pytest.raises(RunCancelled):
        attached.result(timeout_seconds=60)
    monkeypatch.delenv("KINETIC_NAMESPACE")
    assert kinetic.attach(run.id).state == "Cancelled"


def test_a_sweep_shares_its_upload_and_old_runs_are_removed(functions: ModuleType) -> None:
    data = bytes(range(256)) * 1000
    group = functions.size.map([(data, number) for number in range(4)], max_concurrent=2)
    assert group.results(timeout_seconds=240) == [256_000 + number for number in range(4)]
    assert kinetic.attach_group(group.id).status_counts() == {"Completed": 4}
    failing = functions.divide.map([(1, 1), (1, 0)], return_exceptions=True)
    assert [type(each) for each in failing.results(timeout_seconds=240)] == [
        float,
        ZeroDivisionError,
    ]
    with closing(GoogleStore(JOBS_BUCKET, endpoint=os.environ["STORAGE_EMULATOR_HOST"])) as store:
        pieces = [info.size_bytes for info in store.list(f"runs/{group.id}/pieces/")]
        assert pieces == [256_000]
        with own_session(NullProgress()) as session:
            gone = remove(find_expired(session, older_than=timedelta(0)), session)
            assert {run.id for run in group.runs} <= {each.run_id for each in gone}
        assert list(store.list("runs/")) == []
        assert list(store.list("packs/"))
