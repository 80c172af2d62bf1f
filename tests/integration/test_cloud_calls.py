"""Whole calls on the loopback cloud: built by Cloud Build, pushed, run as pods of GKE."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from newest_runs import newest_run
from projects import make_project

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.errors import AcceleratorError
from loopback.__main__ import BUILDS_BUCKET, CLUSTER, JOBS_BUCKET, PROJECT, environment_of
from loopback.cloud import LoopbackCloud
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup
from loopback.kubernetes.podman import PodmanRuntime
from runner_jobs import wait_until
from terminals import Terminal

pytest_plugins = ["loopback.fixtures"]

FUNCTIONS = """
    import kinetic

    @kinetic.run(accelerator="tpu-v6e-8", capture_env_vars=["CAPTURED"])
    def train(rate):
        return rate

    @kinetic.run(accelerator="cpu")
    def describe(count):
        import humanize

        print(f"describing {count}")
        return humanize.intword(count)

    @kinetic.run(accelerator="cpu")
    def fail():
        raise LookupError("nothing here")

    @kinetic.run(accelerator="cpu", stuck_after_seconds=1)
    def hang():
        # It keeps Python's lock for ever: nothing of Python runs in that process any more.
        __import__("ctypes").PyDLL(None).pause()
"""

TPUS = NodeGroup(
    name="v6e",
    labels=parse_accelerator("tpu-v6e-8").node_selector,
    capacity={"google.com/tpu": 8},
    taints=({"key": "google.com/tpu", "value": "present", "effect": "NoSchedule"},),
)


@pytest.fixture(scope="module")
def cluster(
    loopback_cloud: LoopbackCloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoopbackCluster]:
    """A cluster with a TPU node pool, whose pods are containers."""
    directory = tmp_path_factory.mktemp("cluster")
    runtime = PodmanRuntime(containers=loopback_cloud.containers)
    with LoopbackCluster(directory, runtime=runtime) as cluster:
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        cluster.add_nodes(TPUS)
        yield cluster


@pytest.fixture
def functions(
    loopback_cloud: LoopbackCloud,
    cluster: LoopbackCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> ModuleType:
    """A project whose functions run on the loopback cloud."""
    loopback_cloud.create_repository(PROJECT, f"kn-{CLUSTER}")
    for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
        loopback_cloud.storage.create_bucket(bucket)
    for name, value in environment_of(loopback_cloud).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    project = make_project(
        tmp_path / "project",
        monkeypatch,
        {"cloud_functions.py": FUNCTIONS, "requirements.txt": "humanize==4.11.0\n"},
    )
    monkeypatch.delitem(__import__("sys").modules, "cloud_functions", raising=False)
    return project.module("cloud_functions")


def test_a_call_is_built_pushed_and_run_by_digest_and_built_only_once(
    functions: ModuleType,
    loopback_cloud: LoopbackCloud,
    cluster: LoopbackCluster,
    api: PrefectApi,
    capfd: pytest.CaptureFixture[str],
) -> None:
    plan = functions.describe.plan(1)
    assert (plan.platform, plan.mode, plan.cached) == ("gke", "bundled", False)
    assert functions.describe(1_000_000) == "1.0 million"
    shown = capfd.readouterr()
    assert "describing 1000000" in shown.out
    builds = len(loopback_cloud.builds.builds)
    assert functions.describe(2_000_000) == "2.0 million"
    assert len(loopback_cloud.builds.builds) == builds, "the second call builds nothing"
    record = newest_run(api)
    assert record.state_type == "COMPLETED"
    job = next(job for job in cluster.list("jobs") if record.id in job["metadata"]["name"])
    image = job["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith(f"us-docker.pkg.dev/{PROJECT}/kn-{CLUSTER}/app@sha256:")
    assert functions.describe.plan(1).cached


def test_an_exception_in_a_pod_is_raised_here(functions: ModuleType, api: PrefectApi) -> None:
    with pytest.raises(LookupError, match="nothing here"):
        functions.fail()
    assert newest_run(api).state_type == "FAILED"


def test_a_container_that_hangs_in_native_code_tells_where(functions: ModuleType) -> None:
    run = functions.hang.submit()
    try:
        wait_until(lambda: any("may be stuck" in line for line in run.logs()), seconds=60)
        seen = run.stacks()
        log = "\n".join(run.logs())
        a_terminal_leads_into(run.id)
    finally:
        run.cancel()
    assert "it is in hang (cloud_functions.py:21)" in str(seen), seen
    assert "keeps Python's lock (GIL)" in str(seen)
    assert 'cloud_functions.py", line 21, in hang\n' in log
    assert run.wait().state == "Cancelled"


def a_terminal_leads_into(run_id: str) -> None:
    """A command gets a terminal of this one's size in the container, also while that hangs."""
    asks = "import os; print(os.get_terminal_size(0), os.environ['KINETIC_RUN_ID'], os.isatty(2))"
    program = [sys.executable, "-c", "from kinetic_flows.cli.main import main; main()"]
    terminal = Terminal(
        [*program, "runs", "exec", run_id, "--", "python", "-c", f"{asks}; exit(7)"],
        os.environ,
        columns=160,
    )
    try:
        terminal.until(rf"columns=160, lines=24\) {run_id} True")
        terminal.end(7)
    finally:
        terminal.close()
    assert "its secrets, are not here" in terminal.transcript


def test_no_setting_of_the_client_and_no_key_stand_in_a_job(
    functions: ModuleType, cluster: LoopbackCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_secret")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql://secret")
    run = functions.describe.submit(1)
    run.result(timeout_seconds=60)
    job = next(job for job in cluster.list("jobs") if run.id in job["metadata"]["name"])
    text = json.dumps(job)
    assert "secret" not in text.replace("secretRef", "")
    assert run.ticket.run_key not in text


def test_nodes_that_no_image_is_built_for_are_refused_before_anything_is_built(
    functions: ModuleType, loopback_cloud: LoopbackCloud
) -> None:
    builds = len(loopback_cloud.builds.builds)
    with pytest.raises(AcceleratorError, match="arm64"):
        functions.describe.with_options(accelerator="gb200")(1)
    assert len(loopback_cloud.builds.builds) == builds


def test_the_tpu_of_the_specification_is_planned_with_its_selectors_and_resources(
    functions: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CAPTURED", "value")
    plan = functions.train.plan(0.5)
    assert plan.accelerator == "tpu-v6e-8"
    assert plan.image.rpartition(":")[2].startswith("tpu-")
    assert plan.environment is not None
    assert {"humanize", "jax", "libtpu"} <= {item.name for item in plan.environment.packages}
