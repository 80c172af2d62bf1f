"""Functions with `rehearse=True` on a cluster: refused, left out, and let through."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prefect_http import PREFECT
from projects import make_project

import kinetic
from kinetic_flows.api.drafts import decided
from kinetic_flows.api.front import open_call
from kinetic_flows.clients.prefect import flow_names
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.records import RunQuery
from kinetic_flows.core.rehearsals import RehearsalRecord, StepMemory, StepReport, TargetReport
from kinetic_flows.plans.candidates import drafts_of
from kinetic_flows.plans.draft import lock_draft
from kinetic_flows.plans.rehearsal import code_digest, function_id
from kinetic_flows.plans.rehearsal_look import records_of
from kinetic_flows.plans.rehearsed import packages_of
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import kinetic

    @kinetic.run(accelerator=["tpu-v6e-8", "cpu"], rehearse=True)
    def reluctant(value):
        return value

    @reluctant.rehearsal
    def _(devices):
        raise AssertionError("a rehearsal is there already")
"""
CHIPS = "tpu-v6e-8"


@pytest.fixture
def train(
    quick_cloud: QuickCloud,
    shared_kinetic_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """A function that does not fit the accelerator, as its rehearsal says."""
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.delitem(sys.modules, "asking_functions", raising=False)
    files = {"asking_functions.py": FUNCTIONS, "requirements.txt": ""}
    project = make_project(tmp_path / "project", monkeypatch, files)
    function = project.module("asking_functions").reluctant
    drafted = decided(open_call(), function, (), {}, may_lack_arguments=True)
    on_chips = drafts_of(drafted.draft)[0]
    lock = lock_draft(on_chips, drafted.environ, write=False)
    memory = StepMemory(available_bytes=31 << 30, needed_bytes=48 << 30)
    records_of(on_chips).keep(
        RehearsalRecord(
            function=function_id(function.fn, on_chips.root.path),
            code_sha256=code_digest(on_chips),
            environments={CHIPS: packages_of(on_chips.image, lock) or ""},
            made_at=time.time(),
            reports=(
                TargetReport(
                    accelerator=CHIPS,
                    devices=8,
                    steps=(StepReport(name="reluctant", verdict="exceeds", memory=memory),),
                ),
            ),
        )
    )
    return function


def test_what_does_not_fit_is_refused_before_anything_is_sent_and_left_out_of_a_list(
    train: Any,
    quick_cloud: QuickCloud,
    api: PrefectApi,
    prefect_api_url: str,
) -> None:
    on_chips = train.with_options(accelerator=CHIPS)
    jobs = quick_cloud.cluster.list("jobs")
    for launch in (
        lambda: on_chips(1),
        lambda: on_chips.submit(1),
        lambda: on_chips.map([1, 2]),
        lambda: on_chips.deploy("nightly"),
    ):
        with pytest.raises(kinetic.RehearsalError, match=r"needs 48\.00 of 31\.00 GiB a device"):
            launch()
    assert not api.find_runs(RunQuery(of_function="reluctant"))
    assert quick_cloud.cluster.list("jobs") == jobs

    plan = on_chips.plan(1)
    needs = "it needs 48.00 of 31.00 GiB a device"
    assert f"it does not fit, as its rehearsal says: {needs}" in plan.obstacles
    assert plan.to_json()["rehearsed"]["of"] == "this"

    assert train(3) == 3
    (run,) = api.find_runs(RunQuery(of_function="reluctant"))
    wanted = {"artifacts": {"flow_run_id": {"any_": [run.id]}}}
    shown = PREFECT.post(f"{prefect_api_url}/artifacts/filter", json=wanted).json()
    page = next(each["data"] for each in shown if each["key"] == flow_names.RUN_ARTIFACT)
    assert f"| left out | {CHIPS} is left out: reluctant does not fit" in page
