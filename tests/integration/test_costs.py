"""What runs cost, and limits on that: of a run and of a sweep, on this machine and in pods."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from projects import Project, make_project

from kinetic_flows.cli.main import main
from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery
from kinetic_flows.core.errors import RunCancelled, RunTimedOut, UsageError
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import time

    import kinetic

    @kinetic.run
    def costly(number=0):
        print("begun", flush=True)
        time.sleep(600)

    @kinetic.run(max_cost=1)
    def unpriced():
        return 1
"""

A_DOLLAR_A_SECOND = json.dumps({"cpu": 3600, "local": 3600})

Command = Callable[..., tuple[str, str]]


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[Project]:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    yield make_project(tmp_path / "project", monkeypatch, {"cost_functions.py": FUNCTIONS})
    sys.modules.pop("cost_functions", None)


@pytest.fixture
def functions(project: Project) -> ModuleType:
    return project.module("cost_functions")


@pytest.fixture
def command(project: Project, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        assert not ended.value.code
        shown = capsys.readouterr()
        return shown.out, shown.err

    return call


def _use(cloud: QuickCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)


def test_a_run_ends_when_it_has_cost_enough_and_is_added_up(
    functions: ModuleType,
    command: Command,
    quick_cloud: QuickCloud,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _use(quick_cloud, monkeypatch)
    monkeypatch.setenv("KINETIC_PRICES", A_DOLLAR_A_SECOND)
    run = functions.costly.with_options(max_cost=1.5).submit()
    told = r"it has cost about \$\d+\.\d\d by the prices that are known, and max_cost is \$1.50"
    with pytest.raises(RunTimedOut, match=told) as ended:
        run.result()
    assert "raise max_cost" in str(ended.value.hint)
    shown = json.loads(command("runs", "show", run.id, "--json")[0])
    used = shown["usage"]
    assert (used["chips"], used["hosts"]) == (0, 1)
    assert used["cost_usd"] == pytest.approx(used["running_seconds"], rel=1e-3)
    assert used["cost_usd"] > 1
    assert "cost  about $" in command("runs", "show", run.id)[0]
    costs = json.loads(command("runs", "cost", "--function", "costly", "--json")[0])
    (row,) = costs["rows"]
    assert row["name"] == "costly"
    assert row["cost_usd"] == costs["total"]["cost_usd"] >= used["cost_usd"]
    assert costs["prices"] == ["your own prices"]
    table = command("runs", "cost", "--function", "costly", "--by", "user")[0].splitlines()
    assert table[0].split()[:4] == ["USER", "RUNS", "HOURS", "CHIP-HOURS"]
    assert table[-1] == "COST is an estimate by your own prices."


def test_a_sweep_that_has_cost_enough_is_cancelled_and_launches_nothing_more(
    functions: ModuleType,
    api: PrefectApi,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("KINETIC_PRICES", A_DOLLAR_A_SECOND)
    group = functions.costly.map(range(4), max_concurrent=2, max_cost=2)
    with pytest.raises(RunCancelled):
        group.results()
    assert [run.state for run in group.runs] == ["Cancelled"] * 2
    told = "the sweep has cost about $"
    parent = api.read_run(group.id)
    assert (parent.state_type, parent.message.startswith(told)) == ("CANCELLED", True)
    assert "and max_cost is $2.00; 2 inputs: 2 Cancelled" in parent.message
    assert "what runs is cancelled, and nothing more is launched" in capfd.readouterr().err


def test_a_limit_that_cannot_be_counted_is_refused_before_anything_is_done(
    functions: ModuleType,
    quick_cloud: QuickCloud,
    api: PrefectApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _use(quick_cloud, monkeypatch)
    refused: list[Callable[[], Any]] = [
        functions.unpriced,
        functions.unpriced.submit,
        functions.unpriced.plan,
        lambda: functions.unpriced.with_options(max_cost=None).map([], max_cost=1),
        lambda: functions.unpriced.deploy("nightly"),
    ]
    for call in refused:
        with pytest.raises(UsageError, match="max_cost is 1, and what an hour of cpu costs is not"):
            call()
    assert not api.find_runs(RunQuery(of_function="unpriced"))
    monkeypatch.setenv("KINETIC_PRICES", '{"cpu": 0.5}')
    cost = functions.unpriced.plan().cost
    assert (cost.hourly, cost.limit) == (0.5, 1.0)
