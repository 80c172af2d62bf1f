"""Deployments on this machine: made, run by a stock process worker, changed, deleted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import pytest
from prefect.client.schemas.filters import TaskRunFilter
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import TaskRunSort
from prefect.schedules import Cron, Interval
from prefect_workers import RunningWorker, eventually
from projects import Project, make_project

import kinetic
from corpus.dependencies.simple_index import serve, wheel
from kinetic_flows.api.deployment import Deployment, find_deployment, list_deployments
from kinetic_flows.cli.main import main
from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery, RunRecord
from kinetic_flows.core.errors import DeploymentNotFoundError, UsageError

FUNCTIONS = """
    import time
    from pathlib import Path

    import kinetic

    @kinetic.run
    def train(rate: float, steps: int = 3) -> float:
        '''Train a model.

        Args:
            rate: The learning rate.
        '''
        print(f"training for {steps} steps")
        return rate * steps

    @kinetic.run
    def between() -> tuple[float, float]:
        begun = time.time()
        time.sleep(1)
        return begun, time.time()

    @kinetic.run
    def idle() -> None:
        pass

    @kinetic.run
    def login(api_key: str) -> None:
        pass

    @kinetic.run(name="sleepy")
    def sleep(marker: str) -> None:
        Path(marker).touch()
        time.sleep(600)
"""


FLOWS = """
    import kinetic
    from prefect import flow, task

    @task
    def double(number):
        return 2 * number

    @kinetic.run(requirements=["prefect>=3.8.8,<3.9", "fastapi<0.155"])
    @flow
    def pipeline(number: int = 2) -> int:
        return double(number) + 1
"""

NEWEST = """
    import kinetic

    @kinetic.run(requirements=["kinetic-probe"])
    def newest() -> str:
        import kinetic_probe

        return kinetic_probe.VERSION
"""


@pytest.fixture
def project(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Project:
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.delitem(sys.modules, "deployed", raising=False)
    return make_project(tmp_path / "project", monkeypatch, {"deployed.py": FUNCTIONS})


@pytest.fixture
def functions(project: Project) -> Iterator[ModuleType]:
    yield project.module("deployed")
    for deployment in list_deployments():
        deployment.delete()


def rest(api: PrefectApi, deployment: Deployment[Any]) -> None:
    """Let a deployment's schedules rest, and wait for the end of its runs."""
    api.client.pause_deployment(UUID(deployment.id))
    states = ("PENDING", "RUNNING")
    query = RunQuery(deployment=deployment.id, state_types=states)
    eventually(lambda: not api.find_runs(query))


def prefect(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Prefect's own command."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def objects_of_deployments(home: Path) -> set[str]:
    return {path.parent.name for path in (home / "store" / "deployments").glob("*/*/job.json")}


def test_a_deployment_runs_with_parameters_that_are_checked_and_gives_its_result(
    functions: ModuleType, worker: RunningWorker
) -> None:
    deployment = functions.train.deploy("nightly", parameters={"rate": 0.5})
    assert (deployment.name, deployment.change) == ("train/nightly", "created")
    run = deployment.run(steps=4)
    assert run.result(timeout_seconds=120) == 2.0
    assert run.name == "train(rate=0.5, steps=4)"
    assert run.logs()[-1] == "training for 4 steps"
    assert run.state == "Completed"
    assert kinetic.attach(run.id).result() == 2.0
    assert run.id in {each.id for each in kinetic.list_runs()}
    assert run.id in {each.id for each in kinetic.list_runs(name="train", state="completed")}
    assert run.id in {each.id for each in kinetic.list_runs(name=run.name)}
    assert run.id not in {each.id for each in kinetic.list_runs(name="sleepy")}
    with pytest.raises(UsageError, match="do not fit train/nightly"):
        deployment.run(steps="many")
    with pytest.raises(UsageError, match="do not fit train/nightly"):
        deployment.run(stepz=4)


def test_a_deployments_run_finds_the_outputs_of_a_call_with_the_same_arguments(
    functions: ModuleType, worker: RunningWorker
) -> None:
    train = functions.train.with_options(output_dir="{function}/{rate}-{arguments_hash}")
    with pytest.raises(UsageError, match="api_key seems to be a secret"):
        functions.login.with_options(output_dir="{api_key}").deploy("kept")
    called = train.submit(0.25, steps=4)
    deployment = train.deploy("kept", parameters={"rate": 0.25})
    run = deployment.run(steps=4)
    assert run.result(timeout_seconds=120) == called.result(timeout_seconds=60) == 1.0
    assert run.outputs == called.outputs
    again = run.retry()
    assert again.result(timeout_seconds=120) == 1.0
    assert again.outputs == called.outputs
    other = deployment.run()
    assert other.result(timeout_seconds=120) == 0.75
    assert other.outputs != called.outputs


def test_prefects_own_command_runs_a_deployment_and_refuses_what_does_not_fit(
    functions: ModuleType, worker: RunningWorker, api: PrefectApi
) -> None:
    functions.train.deploy("by-command", parameters={"rate": 0.5})
    done = prefect("deployment", "run", "train/by-command", "-p", "steps=6", "--watch")
    assert done.returncode == 0, done.stdout + done.stderr
    (run, *_) = kinetic.list_runs(state="completed", limit=1)
    assert run.result() == 3.0
    assert run.name == "train(rate=0.5, steps=6)", "its runner has named it"
    refused = prefect("deployment", "run", "train/by-command", "-p", 'steps="many"')
    assert refused.returncode != 0
    assert "many" in refused.stdout + refused.stderr


def test_the_command_runs_a_deployment_with_parameters_of_its_schema(
    functions: ModuleType, worker: RunningWorker, capsys: pytest.CaptureFixture[str]
) -> None:
    functions.train.deploy("typed", parameters={"rate": 0.5})

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["deployments", "run", "train/typed", *arguments])
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    code, out, err = run("-p", "steps=6")
    assert (code, out) == (0, "training for 6 steps\n3.0\n")
    last = err.splitlines()[-1]
    assert "✓ train(rate=0.5, steps=6)" in last
    assert "pending" not in last, "the run is over"
    code, out, err = run("-p", "steps=4", "--json")
    told = json.loads(out)
    assert (code, told["result"]) == (0, 2.0)
    assert "training for 4 steps" in err
    code, out, _ = run("-p", "steps=2", "--detach")
    run_id, url = out.split()
    assert url.endswith(run_id)
    assert kinetic.attach(run_id).result(timeout_seconds=120) == 1.0
    before = len(kinetic.list_runs(limit=None))
    code, out, err = run("-p", "steps=many", "--json")
    assert (code, json.loads(out)["error"]["value"]) == (2, "many")
    assert "takes integer, not 'many'" in err
    assert len(kinetic.list_runs(limit=None)) == before


def test_deploying_again_changes_what_changed_and_keeps_what_runs_still_need(
    functions: ModuleType,
    project: Project,
    worker: RunningWorker,
    shared_kinetic_home: Path,
    tmp_path: Path,
) -> None:
    first = functions.train.deploy("again", parameters={"rate": 1.0}, cron="0 2 * * *")
    known = objects_of_deployments(shared_kinetic_home)
    same = functions.train.deploy("again", parameters={"rate": 1.0}, cron="0 2 * * *")
    assert (same.change, same.id) == ("unchanged", first.id)
    assert objects_of_deployments(shared_kinetic_home) == known

    earlier = first.run()
    assert earlier.result(timeout_seconds=120) == 3.0
    (project.root / "deployed.py").write_text(
        (project.root / "deployed.py").read_text().replace("rate * steps", "rate * steps + 1")
    )
    changed = functions.train.deploy(
        "again", parameters={"rate": 1.0}, timezone="Europe/Berlin", cron="0 3 * * *"
    )
    assert (changed.change, changed.id) == ("updated", first.id)
    assert changed.schedules == ("0 3 * * * (Europe/Berlin)",)
    assert len(objects_of_deployments(shared_kinetic_home)) == len(known)
    assert objects_of_deployments(shared_kinetic_home) != known
    assert changed.run().result(timeout_seconds=120) == 4.0
    assert earlier.result() == 3.0, "the key stays, so earlier results can be read"


def test_a_deployment_with_running_runs_keeps_their_objects_and_is_not_deleted(
    functions: ModuleType, worker: RunningWorker, shared_kinetic_home: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "begun"
    deployment = functions.sleep.deploy("busy", parameters={"marker": str(marker)})
    run = deployment.run()
    eventually(marker.exists)
    before = objects_of_deployments(shared_kinetic_home)
    functions.sleep.with_options(retries=1).deploy("busy", parameters={"marker": str(marker)})
    assert before < objects_of_deployments(shared_kinetic_home)
    with pytest.raises(UsageError, match="1 runs of sleepy/busy are not over"):
        deployment.delete()
    run.cancel()
    assert run.state == "Cancelled"
    deployment.delete()
    assert not before & objects_of_deployments(shared_kinetic_home)
    with pytest.raises(DeploymentNotFoundError, match="there is no deployment 'busy'"):
        find_deployment("busy")


def test_a_schedule_fires_with_its_author_gone(
    project: Project, worker: RunningWorker, api: PrefectApi
) -> None:
    """The author is a process of its own, which has ended before the first run begins."""
    project.write(
        {
            "deploy.py": """
                from deployed import train

                train.deploy("often", interval=5, parameters={"rate": 2.0})
            """
        }
    )
    done = project.python("deploy.py", KINETIC_QUIET="1")
    assert done.returncode == 0, done.stderr
    try:
        deployment = find_deployment("often")

        def ended() -> list[kinetic.Run[float]]:
            runs = kinetic.list_runs(state="completed")
            return [run for run in runs if api.read_run(run.id).deployment_id == deployment.id]

        run, *_ = eventually(ended, seconds=180)
        assert run.result() == 6.0
        assert kinetic.list_runs(state="scheduled"), "Prefect makes runs ahead of their time"
        assert run.id in {each.id for each in kinetic.list_runs(limit=20)}, "and they hide none"
    finally:
        rest(api, deployment)
        deployment.delete()


def test_a_deployment_rests_until_it_is_resumed_and_keeps_all_its_schedules(
    functions: ModuleType, worker: RunningWorker, api: PrefectApi
) -> None:
    schedules = [Cron("0 2 1 1 *", timezone="Europe/Berlin"), Interval(5)]
    deployed = functions.train.deploy(
        "timed", parameters={"rate": 1.0}, schedules=schedules, paused=True, tags=["mine"]
    )
    assert (deployed.paused, deployed.tags) == (True, ("kinetic", "mine"))
    saved = api.client.read_deployment(UUID(deployed.id)).schedules
    crons = [each.schedule for each in saved if isinstance(each.schedule, CronSchedule)]
    assert [(cron.cron, cron.timezone) for cron in crons] == [("0 2 1 1 *", "Europe/Berlin")]
    assert len(saved) == 2

    def runs_of(deployment: Deployment[float]) -> list[RunRecord]:
        return api.find_runs(RunQuery(deployment=deployment.id))

    other = functions.train.deploy("awake", parameters={"rate": 1.0}, interval=5)
    eventually(lambda: [run for run in runs_of(other) if run.is_final], seconds=120)
    rest(api, other)
    assert not runs_of(deployed), "nothing is even planned"

    resumed = functions.train.deploy(
        "timed", parameters={"rate": 1.0}, schedules=schedules, paused=False, tags=["mine"]
    )
    assert (resumed.change, resumed.paused) == ("updated", False)
    eventually(lambda: [run for run in runs_of(resumed) if run.is_final], seconds=120)
    rest(api, resumed)


def test_planned_runs_are_found_by_their_function_the_latest_first(
    functions: ModuleType, api: PrefectApi
) -> None:
    """Those that are planned first are the later ones, and have other names than their function."""
    planned: list[RunRecord] = []
    for name, cron in (("monthly", "0 2 1 * *"), ("daily", "0 2 * * *")):
        query = RunQuery(deployment=functions.idle.deploy(name, cron=cron).id)
        planned += eventually(lambda query=query: api.find_runs(query))
    found = kinetic.list_runs(name="idl", state="scheduled", limit=len(planned))
    begins = [api.read_run(run.id).expected for run in found]
    assert {run.id for run in found} >= {planned[0].id}
    assert begins == sorted(begins, reverse=True)
    find_deployment("idle/monthly").delete()
    find_deployment("idle/daily").delete()


def test_only_so_many_runs_of_a_deployment_go_on_at_once(
    functions: ModuleType, worker: RunningWorker
) -> None:
    deployment = functions.between.deploy("narrow", concurrency_limit=1)
    assert deployment.concurrency_limit == 1
    (begun, ended), (begun_too, ended_too) = (
        run.result(timeout_seconds=240) for run in [deployment.run(), deployment.run()]
    )
    assert ended <= begun_too or ended_too <= begun


def test_a_flow_is_deployed_and_its_tasks_show(
    project: Project, worker: RunningWorker, api: PrefectApi
) -> None:
    project.write({"deployed_flows.py": FLOWS})
    deployment = project.module("deployed_flows").pipeline.deploy("tasks")
    try:
        run = deployment.run(number=5)
        assert run.result(timeout_seconds=300) == 11
        assert run.state == "Completed"
        wanted = TaskRunFilter.model_validate({"flow_run_id": {"any_": [run.id]}})

        def finished() -> bool:
            tasks = api.client.read_task_runs(
                task_run_filter=wanted, sort=TaskRunSort.NAME_ASC, limit=50
            )
            return [(task.name[:6], task.state_name) for task in tasks] == [("double", "Completed")]

        eventually(finished, seconds=60)
        with pytest.raises(UsageError, match="do not fit pipeline/tasks"):
            deployment.run(number="many")
    finally:
        deployment.delete()
        sys.modules.pop("deployed_flows", None)


def test_a_deployment_gets_newer_releases_when_it_is_asked_to_and_not_before(
    project: Project, worker: RunningWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write({"newest.py": NEWEST})
    with serve([wheel("kinetic-probe", "1.0")]) as index:
        monkeypatch.setenv("UV_INDEX", index.url)
        newest = project.module("newest").newest
        deployment = newest.deploy("fresh")
        assert deployment.run().result(timeout_seconds=240) == "1.0"
        name, content = wheel("kinetic-probe", "2.0")
        index.files["kinetic-probe"][name] = content
        assert newest.deploy("fresh").change == "unchanged"
        refreshed = newest.deploy("fresh", image_refresh=True)
        assert refreshed.change == "updated"
        assert refreshed.run().result(timeout_seconds=240) == "2.0"
        refreshed.delete()
    sys.modules.pop("newest", None)


def test_the_command_lists_shows_and_deletes_deployments(
    functions: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    functions.train.deploy("cli", cron="0 2 * * *", parameters={"rate": 1.0}, tags=["mine"])

    def kinetic_command(*arguments: str) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["deployments", *arguments])
        shown = capsys.readouterr()
        assert ended.value.code == 0, shown.err
        return shown.out

    (listed,) = json.loads(kinetic_command("ls", "--json"))
    assert listed["name"] == "train/cli"
    assert listed["schedules"] == ["0 2 * * *"]
    assert "train/cli" in kinetic_command("ls")
    shown = json.loads(kinetic_command("show", "cli", "--json"))
    assert shown["parameter_schema"]["properties"]["rate"]["description"] == "The learning rate."
    assert shown["tags"] == ["kinetic", "mine"]
    assert "kinetic worker start kinetic-local" in kinetic_command("show", "train/cli")
    assert "deleted" in kinetic_command("delete", "train/cli", "--yes")
    assert json.loads(kinetic_command("ls", "--json")) == []


def test_what_cannot_be_deployed_is_refused_before_anything_is_packaged(
    project: Project, shared_kinetic_home: Path
) -> None:
    before = set((shared_kinetic_home / "store").rglob("*"))
    with pytest.raises(UsageError, match="do not fit train"):
        project.module("deployed").train.deploy("bad", parameters={"rate": "fast"})
    assert set((shared_kinetic_home / "store").rglob("*")) == before
    assert not list_deployments()
