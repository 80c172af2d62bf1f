"""The prefect.yaml files that ship, deployed by Prefect's own command, and their runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prefect_http import PREFECT
from prefect_workers import install_work_pool

import kinetic
from kinetic_flows.clients.prefect.api import connect
from kinetic_flows.clients.prefect.records import RunQuery
from kinetic_flows.core.settings.cloud_names import WORK_POOL

ROOT = Path(__file__).parents[2]


def prefect(directory: Path, *arguments: str, **variables: str) -> str:
    """Run Prefect's own command in a directory."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        cwd=directory,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_of(directory: Path, deployment: str, api_url: str, **parameters: object) -> str:
    """Make a run of a deployment, execute it as a worker's process does, and return its id."""
    found = PREFECT.get(f"{api_url}/deployments/name/{deployment}").json()
    asked = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    made = PREFECT.post(f"{api_url}/deployments/{found['id']}/create_flow_run", json=asked).json()
    prefect(directory, "flow-run", "execute", made["id"])
    return str(made["id"])


def test_the_flow_that_looks_after_runs_is_deployed_and_settles_what_it_finds(
    prefect_api_url: str,
    shared_kinetic_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.setenv("KINETIC_PLATFORM", "local")
    install_work_pool(prefect_api_url, WORK_POOL)
    deploy = ("deploy", "--prefect-file", str(ROOT / "deployments" / "prefect.yaml"))
    image = {"KINETIC_CONTROLLER_IMAGE": "any/image:1"}
    prefect(tmp_path, *deploy, "--name", "every-five-minutes", **image)
    run_id = run_of(tmp_path, "kinetic-reconcile/every-five-minutes", prefect_api_url)
    state = PREFECT.get(f"{prefect_api_url}/flow_runs/{run_id}").json()["state"]
    assert state["type"] == "COMPLETED"
    assert "unfinished runs looked at" in state["message"]


def test_a_function_as_a_flow_is_deployed_and_launches_its_function(
    prefect_api_url: str,
    shared_kinetic_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    prefect(tmp_path, "work-pool", "create", "kinetic-controller", "--type", "process")
    prefect(tmp_path, "deploy", "--prefect-file", "examples/prefect.yaml", "--all")
    run_of(tmp_path, "report/weekly-report", prefect_api_url, count=2_000_000)
    with connect(prefect_api_url) as api:
        (record, *_) = api.find_runs(RunQuery(name="report", state_types=("COMPLETED",)))
    assert record.parent_task_run_id, "the function's run is below the deployment's"
    assert kinetic.attach(record.id).result() == "2.0 million"
