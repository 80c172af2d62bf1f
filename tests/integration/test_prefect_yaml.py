"""The shipped prefect.yaml, deployed by Prefect's own command and run by a stock worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prefect_workers import a_worker

import kinetic
from kinetic_flows.clients.prefect_api import connect
from kinetic_flows.clients.prefect_records import RunQuery

ROOT = Path(__file__).parents[2]
POOL = "kinetic-controller"


def prefect(*arguments: str) -> str:
    """Run Prefect's own command in a clone of the repository."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_ships_is_deployed_by_prefects_own_command_and_runs(
    prefect_api_url: str,
    shared_kinetic_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    prefect("work-pool", "create", POOL, "--type", "process")
    deployed = prefect("deploy", "--prefect-file", "deployments/prefect.yaml", "--all")
    assert "kinetic-reconcile/every-five-minutes" in deployed
    assert "report/weekly-report" in deployed

    settings = {"KINETIC_HOME": str(shared_kinetic_home), "KINETIC_PLATFORM": "local"}
    with a_worker(POOL, "process", prefect_api_url, tmp_path / "worker", **settings) as worker:
        told = prefect(
            *("deployment", "run", "report/weekly-report", "-p", "count=2000000", "--watch")
        )
        assert "Completed" in told, worker.log
        reconciled = prefect("deployment", "run", "kinetic-reconcile/every-five-minutes", "--watch")
        assert "Completed" in reconciled, worker.log
    with connect(prefect_api_url) as api:
        (record, *_) = api.find_runs(RunQuery(name="report", state_types=("COMPLETED",)))
        assert record.parent_task_run_id, "the function's run is below the deployment's"
    assert kinetic.attach(record.id).result() == "2.0 million"
