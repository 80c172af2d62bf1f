"""Plans of calls on a cluster: they say what the call would say, and do nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from projects import Project, make_project

from kinetic_flows.cli import main
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import LaunchError
from loopback.__main__ import CLUSTER, JOBS_BUCKET, PROJECT
from loopback.kubernetes.node_groups import NodeGroup
from loopback.quick_cloud import QuickCloud

FUNCTIONS = """
    import kinetic

    @kinetic.run(capture_env_vars=["DATASET", "WANDB_API_KEY"])
    def planned(value: int = 1):
        return value
"""

T4 = NodeGroup(
    name="t4s",
    labels=parse_accelerator("t4").node_selector,
    capacity={"nvidia.com/gpu": 2},
    nodes=2,
    max_nodes=2,
)


@pytest.fixture
def project(
    quick_cloud: QuickCloud,
    prefect_api_url: str,
    shared_kinetic_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Project:
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.setenv("DATASET", "s3://cats")
    monkeypatch.setenv("WANDB_API_KEY", "not-for-others")
    monkeypatch.delitem(sys.modules, "planned_functions", raising=False)
    return make_project(tmp_path / "project", monkeypatch, {"planned_functions.py": FUNCTIONS})


@pytest.fixture
def planned(project: Project) -> Any:
    return project.module("planned_functions").planned


@pytest.fixture
def t4s(quick_cloud: QuickCloud) -> None:
    """A node pool, which stays for the other tests."""
    quick_cloud.cluster.add_nodes(T4)


def test_a_plan_says_where_from_which_image_with_what_and_how_long_the_last_run_took(
    planned: Any, prefect_api_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_WORK_POOL", "pool-of-nobody")
    plan = planned.plan(3)
    assert plan.where["cluster"] == CLUSTER
    assert plan.where["project"] == PROJECT
    assert plan.where["bucket"] == f"gs://{JOBS_BUCKET}"
    assert (plan.prefect_api, plan.dispatched_by) == (prefect_api_url, "client")
    assert (plan.cached, plan.obstacles, plan.past) == (False, (), None)
    assert [line for line in plan.notices if "there is no work pool 'pool-of-nobody' yet" in line]
    assert {item.path for item in plan.files} == {"planned_functions.py", "requirements.txt"}
    values = {item.name: item.value for item in plan.variables if item.source != "kinetic"}
    assert values == {"DATASET": "s3://cats", "WANDB_API_KEY": None}
    assert "HOME" in {item.name for item in plan.variables if item.source == "kinetic"}
    assert "not-for-others" not in json.dumps(plan.to_json())

    assert planned(3) == 3

    after = planned.plan(3)
    assert after.cached
    assert after.past.count == 1
    assert after.past.last_seconds > 0
    assert {"lock", "build", "upload", "run"} <= after.past.phases.keys()
    assert "took  " in after.explain()
    assert {"HOME", "USER"} <= {item.name for item in after.variables if item.source == "kinetic"}
    other = planned.with_options(accelerator="t4").plan()
    assert other.past is None, "times of another accelerator say nothing"
    assert other.builds.count >= 1


def test_a_plan_does_nothing(
    planned: Any, quick_cloud: QuickCloud, prefect_api_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = quick_cloud.storage.create_bucket("empty-for-a-plan")
    monkeypatch.setenv("KINETIC_JOBS_BUCKET", bucket)
    jobs = len(quick_cloud.cluster.list("jobs"))
    asked = len(quick_cloud.cluster.requests)
    planned.with_options(requirements=["six"]).plan()
    made = [
        line
        for line in quick_cloud.cluster.requests[asked:]
        if line.split()[0] not in ("GET", "WATCH") and "dryRun" not in line
    ]
    assert all("selfsubject" in line for line in made), made
    assert len(quick_cloud.cluster.list("jobs")) == jobs
    with urlopen(f"{quick_cloud.storage.url}/storage/v1/b/{bucket}/o") as answer:
        assert not json.load(answer).get("items")


def test_a_plan_says_that_the_bucket_is_missing_and_how_to_make_it(
    planned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KINETIC_JOBS_BUCKET", "bucket-of-nobody")
    (obstacle,) = planned.plan().obstacles
    assert "the bucket gs://bucket-of-nobody does not exist" in obstacle
    assert "gcloud storage buckets create gs://bucket-of-nobody" in obstacle


@pytest.mark.usefixtures("t4s")
def test_a_plan_refuses_and_warns_of_the_cluster_as_the_call_does(planned: Any) -> None:
    tpu = planned.with_options(accelerator="tpu-v6e-8")
    (warning,) = [line for line in tpu.plan().warnings if "no node yet has tpu-v6e-8" in line]
    assert "t4s (nvidia-tesla-t4" in warning
    unbound = planned.with_options(job_variables={"service_account_name": "trainer"})
    obstacles = unbound.plan().obstacles
    assert "there is no service account 'trainer'" in obstacles[0]
    with pytest.raises(LaunchError) as caught:
        unbound()
    assert obstacles == caught.value.value
    misspelt = planned.with_options(job_variables={"memery": "1Gi"})
    (obstacle,) = misspelt.plan().obstacles
    assert "no variable 'memery'" in obstacle
    with pytest.raises(LaunchError, match="no variable 'memery'"):
        misspelt()


@pytest.mark.usefixtures("t4s")
def test_a_plan_says_what_is_free(planned: Any) -> None:
    plan = planned.with_options(accelerator="t4x2", job_variables={"memory": "8Gi"}).plan()
    assert plan.rooms == ("t4s: 2 nodes, 4 of 4 chips free now",)
    assert plan.asks_for["memory"] == "8Gi"
    assert plan.asks_for["nvidia.com/gpu"] == "2"
    assert "chips  2 GPUs, 16 GB each" in plan.explain()


def test_a_cluster_that_does_not_answer_is_an_obstacle_of_the_plan(
    planned: Any, quick_cloud: QuickCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = quick_cloud.cluster.kubeconfig().read_text()
    dead = tmp_path / "dead"
    dead.write_text(known.replace(quick_cloud.cluster.url, "http://127.0.0.1:9"))
    monkeypatch.setenv("KUBECONFIG", str(dead))
    plan = planned.plan()
    assert plan.dispatched_by is None
    assert plan.obstacles[0].startswith("the cluster cannot be asked: ")


def test_a_prefect_api_that_does_not_answer_is_an_obstacle_of_the_plan(
    planned: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    plan = planned.plan()
    assert plan.prefect_api == "http://127.0.0.1:9/api"
    assert any("http://127.0.0.1:9/api" in line for line in plan.obstacles), plan.obstacles


def test_the_command_takes_arguments_and_every_option(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["plan", "planned_functions.py:planned", "4", "--accelerator", "t4x2", "--json"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--tags", "a", "--tags", "b", "--job-variables", '{"memory": "8Gi"}'])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["accelerator"], told["asks_for"]["memory"]) == ("t4x2", "8Gi")
    assert told["where"]["cluster"] == CLUSTER
