"""The runner against a real Prefect server: its states, its logs and its cancellation."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinetic_flows.clients.prefect.api import NewRun, PrefectApi
from kinetic_flows.clients.prefect.artifacts import RunArtifacts
from kinetic_flows.clients.prefect.flow_names import RUN_ARTIFACT
from runner_jobs import RUN_ID, Job, wait, wait_until


@pytest.fixture
def flow_run(api: PrefectApi) -> str:
    """A Pending flow run."""
    return api.create_run(
        NewRun(
            flow="main",
            name=None,
            parent_flow_run_id=None,
            parameters={},
            tags=(),
            labels={},
            job_variables={},
        )
    )


def _job(tmp_path: Path, api: PrefectApi, flow_run: str, source: str, *args: str) -> Job:
    job = Job(tmp_path / "store", source=source, args=args)
    prefect = {"api_url": api.url, "flow_run_id": flow_run, "parameters": False, "engine": False}
    job.changes = {"prefect": prefect}
    return job


def test_states_and_lines_arrive(tmp_path: Path, api: PrefectApi, flow_run: str) -> None:
    source = "def main():\n for n in range(500): print('line', n)"
    assert _job(tmp_path, api, flow_run, source).run().exit_code == 0
    record = api.read_run(flow_run)
    assert (record.state_type, record.state_name) == ("COMPLETED", "Completed")
    assert record.started is not None
    lines = [line.message for line in api.logs(flow_run)]
    assert lines == [*(f"line {n}" for n in range(500)), "returned None"]
    assert RunArtifacts(api).read_markdown(flow_run, RUN_ARTIFACT) is None, "short, and told of"


def test_a_retried_function_goes_through_retrying(
    tmp_path: Path, api: PrefectApi, flow_run: str
) -> None:
    source = "def main():\n raise ValueError('no')"
    job = _job(tmp_path, api, flow_run, source)
    job.changes = {**job.changes, "retries": 1, "retry_delay_seconds": 600.0}
    process = job.start()
    wait_until(lambda: api.read_run(flow_run).state_name == "Retrying")
    assert api.read_run(flow_run).state_type == "RUNNING"
    process.terminate()
    assert wait(process).exit_code == 143
    assert api.read_run(flow_run).state_name == "Retrying"


def test_a_cancellation_is_noticed_within_ten_seconds(
    tmp_path: Path, api: PrefectApi, flow_run: str
) -> None:
    api.publish_markdown(flow_run, RUN_ARTIFACT, "## What ran\n\nmain\n\n## Details\n\nnone")
    source = "import time\ndef main(path):\n open(path, 'w').close()\n time.sleep(600)"
    marker = tmp_path / "begun"
    process = _job(tmp_path, api, flow_run, source, str(marker)).start()
    wait_until(marker.exists)
    api.set_state(flow_run, "CANCELLING")
    ended = wait(process)
    assert (ended.exit_code, ended.seconds < 10) == (130, True)
    assert api.read_run(flow_run).state_type == "CANCELLED"
    page = RunArtifacts(api).read_markdown(flow_run, RUN_ARTIFACT)
    assert page is not None
    assert page.text.startswith("## What ran\n\nmain\n\n## How it went\n\n")
    assert page.text.endswith("\n\n## Details\n\nnone")
    assert "| ended | **Cancelled**: cancelled while the function ran |" in page.text


def test_a_run_that_was_lost_and_starts_again_is_running_again(
    tmp_path: Path, api: PrefectApi, flow_run: str
) -> None:
    source = "def main():\n return 1"
    job = _job(tmp_path, api, flow_run, source)
    api.set_state(flow_run, "RUNNING")
    api.set_state(flow_run, "CRASHED", message="the pod was evicted")
    ended = job.run()
    assert ended.exit_code == 0, ended.output
    assert api.read_run(flow_run).state_type == "COMPLETED"


def test_a_flow_run_that_does_not_exist_is_one_warning(tmp_path: Path, api: PrefectApi) -> None:
    ended = _job(tmp_path, api, RUN_ID, "def main():\n print('x')").run()
    assert ended.exit_code == 0
    assert ended.output.count("the Prefect API cannot be used") == 1
