"""Calls with a list of accelerators: what is prepared for each, and what is left out."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from newest_runs import newest_run
from prefect_http import PREFECT
from projects import make_project

from kinetic_flows.clients.prefect import flow_names, labels
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.core.errors import BuildError, LaunchError
from loopback.cloud_build import Status
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import kinetic

    @kinetic.run(accelerator=["p4", "cpu"], strategy="race", cache_for=True)
    def listed(value):
        print("called with", value)
        return value
"""
FEW_CHIPS = {"requests.google.com/tpu": "4", "requests.nvidia.com/gpu": "0"}


@pytest.fixture
def listed(
    quick_cloud: QuickCloud,
    prefect_api_url: str,
    shared_kinetic_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.delitem(sys.modules, "tried_functions", raising=False)
    files = {"tried_functions.py": FUNCTIONS, "requirements.txt": ""}
    return make_project(tmp_path / "project", monkeypatch, files).module("tried_functions").listed


@pytest.fixture
def few_chips(quick_cloud: QuickCloud) -> Iterator[None]:
    """A namespace that may have four TPU chips, and no GPU."""
    quick_cloud.cluster.add_quota("few-chips", FEW_CHIPS, dict.fromkeys(FEW_CHIPS, "0"))
    yield
    quick_cloud.cluster.remove("resourcequotas", "few-chips")


def of_run(what: str, run_id: str, api_url: str) -> list[dict[str, Any]]:
    wanted = {what: {"flow_run_id": {"any_": [run_id]}}}
    found: list[dict[str, Any]] = PREFECT.post(f"{api_url}/{what}/filter", json=wanted).json()
    return found


@pytest.fixture
def builds_that_wait_for_each_other(quick_cloud: QuickCloud) -> Iterator[None]:
    """Two builds, of which none ends before both have begun."""
    quick_cloud.worker.together = threading.Barrier(2, timeout=60)
    yield
    quick_cloud.worker.together = None


@pytest.mark.usefixtures("builds_that_wait_for_each_other")
def test_each_image_of_a_list_is_made_once_and_code_is_sent_once_for_all(
    listed: Any, api: PrefectApi, prefect_api_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert listed(1) == 1
    shown = capfd.readouterr().err
    assert "build-image for gpu: " in shown
    assert "build-image for cpu: " in shown
    assert "listed(value=1) on p4 or cpu · on cpu · " in shown
    run = newest_run(api)
    tasks = of_run("task_runs", run.id, prefect_api_url)
    names = Counter(task["name"] for task in tasks)
    assert names[flow_names.TASK_PREFLIGHT] == names[flow_names.TASK_UPLOAD_CODE] == 1
    assert names[flow_names.TASK_BUILD_IMAGE] == 2
    assert {"prepare-image for gpu", "prepare-image for cpu"} <= names.keys()
    began, ended = zip(
        *(
            (task["start_time"], task["end_time"])
            for task in tasks
            if task["name"] == flow_names.TASK_BUILD_IMAGE
        ),
        strict=True,
    )
    assert max(began) < min(ended), "they are made side by side"
    assert {"p4", "cpu"} <= set(run.tags)
    assert run.labels[labels.ACCELERATOR_LABEL] == "cpu"
    assert 0 < run.labels["kinetic.seconds.build"] < 60
    page = next(
        each["data"]
        for each in of_run("artifacts", run.id, prefect_api_url)
        if each["key"] == flow_names.RUN_ARTIFACT
    )
    assert "| runs on | `p4`: 1 GPU on 1 host of n1-standard-8 |" in page
    assert "| or | `cpu`: CPU only |" in page
    assert "| tried | all at once: the first whose pods start wins" in page
    assert page.count("| image | ") == 2

    assert listed(1) == 1
    again = newest_run(api)
    assert again.labels[labels.CACHED_FROM_LABEL] == run.id
    plan = listed.plan(1)
    assert plan.accelerator == "p4 or cpu"
    assert [each.accelerator for each in plan.choice.candidates] == ["p4", "cpu"]
    assert [each.cached for each in plan.choice.candidates] == [True, True]
    assert plan.choice.candidates[0].past is None, "it did not run there"
    assert plan.choice.candidates[1].past.count == 1
    assert plan.to_json()["choice"]["strategy"] == "race"
    told = plan.explain()
    assert "tried  all at once: the first whose pods start wins, the others are withdrawn\n" in told
    assert "2.  cpu\n" in told


def test_an_image_that_cannot_be_made_fails_the_call_and_a_later_one_makes_the_rest(
    listed: Any, quick_cloud: QuickCloud, api: PrefectApi, capfd: pytest.CaptureFixture[str]
) -> None:
    new = listed.with_options(requirements=["six==1.17.0"], cache_for=None)
    quick_cloud.worker.endings.append(Status.FAILURE)
    jobs = len(quick_cloud.cluster.list("jobs"))
    with pytest.raises(BuildError):
        new(4)
    assert "✗ build-image for " in capfd.readouterr().err
    assert len(quick_cloud.cluster.list("jobs")) == jobs
    run = newest_run(api)
    assert run.state_name == "Failed"
    assert new(4) == 4


@pytest.mark.usefixtures("few_chips")
def test_what_the_cluster_cannot_give_is_left_out_with_its_reason(
    listed: Any, api: PrefectApi, capfd: pytest.CaptureFixture[str]
) -> None:
    some = listed.with_options(accelerator=["tpu-v6e-8", "cpu", "v100"], cache_for=None)
    plan = some.plan(2)
    assert plan.obstacles == ()
    tpu, cpu, gpu = plan.choice.candidates
    assert (cpu.left_out, plan.image) == ((), cpu.image)
    assert "quota 'few-chips' of the namespace allows 4 requests.google.com/tpu" in tpu.left_out[0]
    assert "left out  " in plan.explain()

    assert some(2) == 2
    shown = capfd.readouterr().err
    assert f"tpu-v6e-8 is left out: {tpu.left_out[0]}" in shown
    assert f"v100 is left out: {gpu.left_out[0]}" in shown
    assert "build-image for" not in shown
    run = newest_run(api)
    assert run.labels[labels.ACCELERATOR_LABEL] == "cpu"


@pytest.mark.usefixtures("few_chips")
def test_a_list_of_which_nothing_can_be_had_is_refused_with_every_reason(
    listed: Any, quick_cloud: QuickCloud
) -> None:
    none = listed.with_options(accelerator=["tpu-v6e-8", "v100"])
    plan = none.plan(3)
    assert [line.partition(": ")[0] for line in plan.obstacles] == ["tpu-v6e-8", "v100"]
    jobs = len(quick_cloud.cluster.list("jobs"))
    with pytest.raises(LaunchError) as refused:
        none(3)
    assert "none of the run's accelerators can be had:\n  - tpu-v6e-8: " in refused.value.message
    assert all(f"\n  - {line}" in refused.value.message for line in plan.obstacles)
    assert "docs/capacity.md" in str(refused.value.hint)
    unbound = listed.with_options(job_variables={"service_account_name": "trainer"})
    with pytest.raises(LaunchError, match="is not ready for this run: 2 problems") as refused:
        unbound(3)
    assert "\n  - there is no service account 'trainer'" in refused.value.message
    assert "\n  - p4: resource quota 'few-chips'" in refused.value.message
    (obstacle,) = unbound.plan(3).obstacles
    assert obstacle.startswith("there is no service account 'trainer'")
    assert len(quick_cloud.cluster.list("jobs")) == jobs
    assert "few-chips" in json.dumps(plan.to_json()["choice"])


def test_what_a_worker_cannot_start_is_left_out_as_well(
    listed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_DISPATCH", "worker")
    large = listed.with_options(accelerator=["l4", "cpu"], cpu=150, cache_for=None)
    plan = large.plan(5)
    assert plan.obstacles == ()
    assert [len(each.left_out) for each in plan.choice.candidates] == [1, 0]
    with pytest.raises(LaunchError, match="none of the run's accelerators can be had"):
        large.with_options(accelerator=["l4", "l4x2"])(5)
