"""Whole calls on accelerators of the loopback cloud: launched, watched, disturbed, cancelled.

Images are assembled on small base images of the user's own; pods are containers of them, pulled by
digest.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from newest_runs import newest_run, newest_runs
from prefect_http import PREFECT
from prefect_workers import a_cluster_worker, access, install_work_pool
from projects import Project, make_project

from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.labels import DISPATCH_LABEL
from kinetic_flows.clients.prefect.work_pools import WorkPools
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.accelerators.packages import pins_of
from kinetic_flows.core.errors import (
    AcceleratorError,
    DevicesMissing,
    LaunchError,
    RunCancelled,
    RunCrashed,
)
from kinetic_flows.core.settings.cloud_names import WORK_POOL
from kinetic_flows.core.settings.node_variables import asked_labels
from kinetic_flows.images.bases import read_base_inputs
from kinetic_flows.platforms.gke.manifests import WORK_POOL_TYPE, base_job_template
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL
from kinetic_flows.platforms.gke.work_pool import ensure_headless_service
from loopback.__main__ import BUILDS_BUCKET, CLUSTER, JOBS_BUCKET, PROJECT, TPUS, environment_of
from loopback.cloud import LoopbackCloud
from loopback.kubernetes.access import Denial
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup
from loopback.kubernetes.podman import PodmanRuntime
from loopback.lifted_python import MINOR
from loopback.small_bases import push_small_base

pytest_plugins = ["loopback.fixtures"]
# The first test waits for the whole cloud and two base images.
pytestmark = pytest.mark.timeout(900)

FUNCTIONS = """
    import os
    import time
    from pathlib import Path

    import kinetic

    REGION = {"topology.kubernetes.io/region": "us-central1"}

    @kinetic.run(
        accelerator="tpu-v6e-8",
        zones=["us-central1-a", "us-central1-b"],
        job_variables={"labels": {"team": "vision"}, "node_selector": REGION},
    )
    def train(rate):
        import humanize
        from importlib.metadata import version

        print(f"training at {rate}")
        return humanize.intword(rate), version("jax"), Path("/app/remote_runner.py").exists()

    @kinetic.run(accelerator="cpu", container_image="prebuilt")
    def mounted():
        import humanize

        return os.path.dirname(humanize.__file__), os.getuid(), os.statvfs(humanize.__file__).f_flag

    @kinetic.run(accelerator="tpu-v6e-8:spot")
    def survive():
        from google.cloud import storage

        bucket, _, prefix = os.environ["KINETIC_OUTPUT_DIR"][5:].partition("/")
        checkpoint = storage.Client().bucket(bucket).blob(prefix + "/step")
        if checkpoint.exists():
            return checkpoint.download_as_text(), os.environ["KINETIC_RESTART_COUNT"]
        checkpoint.upload_from_string("step 7")
        print("saved", flush=True)
        time.sleep(600)

    @kinetic.run(accelerator="tpu-v5p-2x2x2")
    def meet():
        worker, others = os.environ["TPU_WORKER_ID"], os.environ["TPU_WORKER_HOSTNAMES"]
        print(f"here is host {worker} of {len(others.split(','))}", flush=True)
        if worker == "1":
            time.sleep(2)
            raise RuntimeError("chip 3 is bad")
        time.sleep(600)

    @kinetic.run(accelerator="cpu")
    def wait():
        print("waiting", flush=True)
        try:
            time.sleep(600)
        finally:
            print("cleaned up", flush=True)

    if __name__ == "__main__":
        wait()
"""

SLICE = NodeGroup(
    name="v5p",
    labels=parse_accelerator("tpu-v5p-2x2x2").node_selector,
    capacity={"google.com/tpu": 4},
    max_nodes=2,
)
SPOT = replace(TPUS, name="v6e-spot", labels=parse_accelerator("tpu-v6e-8:spot").node_selector)


@pytest.fixture(scope="module")
def base_repository(loopback_cloud: LoopbackCloud) -> str:
    """A repository with base images of the user's own."""
    repository = loopback_cloud.create_repository(PROJECT, "bases")
    for category in ("cpu", "tpu"):
        push_small_base(loopback_cloud, repository, category)
    return repository


@pytest.fixture(scope="module")
def cluster(
    loopback_cloud: LoopbackCloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoopbackCluster]:
    """A cluster with TPU node pools at zero, whose pods are containers and may mount images."""
    runtime = PodmanRuntime(containers=loopback_cloud.containers)
    directory = tmp_path_factory.mktemp("cluster")
    with LoopbackCluster(
        directory, runtime=runtime, pull_image=runtime.pull, version="1.35"
    ) as cluster:
        for group in (NodeGroup(name="default", nodes=1), TPUS, SPOT, SLICE):
            cluster.add_nodes(group)
        yield cluster


@pytest.fixture
def project(
    loopback_cloud: LoopbackCloud,
    base_repository: str,
    cluster: LoopbackCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Project:
    """A project whose functions run on the loopback cloud."""
    loopback_cloud.create_repository(PROJECT, f"kn-{CLUSTER}")
    for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
        loopback_cloud.storage.create_bucket(bucket)
    for name, value in environment_of(loopback_cloud).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_BASE_IMAGE_REPO", base_repository)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    files = {"launch_functions.py": FUNCTIONS, "requirements.txt": "humanize==4.12.3\n"}
    monkeypatch.delitem(sys.modules, "launch_functions", raising=False)
    return make_project(tmp_path / "project", monkeypatch, files)


@pytest.fixture
def functions(project: Project) -> Any:
    return project.module("launch_functions")


def job_of(cluster: LoopbackCluster, run_id: str) -> dict[str, Any] | None:
    found = (job for job in cluster.list("jobs") if run_id in job["metadata"]["name"])
    return next(found, None)


def history(api: PrefectApi, run_id: str) -> list[str]:
    """Return the names of a run's states, oldest first."""
    states = PREFECT.get(f"{api.url}/flow_run_states/", params={"flow_run_id": run_id}).json()
    return [state["name"] for state in sorted(states, key=lambda state: state["timestamp"])]


def preemptions(api: PrefectApi, run_id: str) -> list[dict[str, Any]]:
    """Return the events that tell of a run's preemptions."""
    resource = {"id": [f"prefect.flow-run.{run_id}"]}
    wanted = {"resource": resource, "event": {"name": ["kinetic.run.preempted"]}}
    found = PREFECT.post(f"{api.url}/events/filter", json={"filter": wanted}).json()["events"]
    return list(found)


def until(holds: Any, what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def is_working(api: PrefectApi, run_id: str, line: str) -> bool:
    return any(line in each.message for each in api.logs(run_id))


def test_a_container_has_the_packages_mounted_that_its_base_image_lacks(functions: Any) -> None:
    place, user, flags = functions.mounted()
    assert place == "/opt/kinetic/packages/usr/local/lib/python3/site-packages/humanize"
    assert user == 1000
    assert flags & os.ST_RDONLY


def test_the_specifications_example_runs_on_a_tpu(
    functions: Any,
    loopback_cloud: LoopbackCloud,
    cluster: LoopbackCluster,
    api: PrefectApi,
    capfd: pytest.CaptureFixture[str],
) -> None:
    template = base_job_template()
    template["variables"]["properties"]["labels"]["default"] = {"owner": "platform"}
    template["variables"]["properties"]["shared_memory"]["default"] = "8Gi"
    pools = WorkPools(api.url)
    if not pools.create("kinetic-gke", WORK_POOL_TYPE, template):
        pools.update("kinetic-gke", template)
    builds = len(loopback_cloud.builds.builds)
    for group in (TPUS, SPOT):  # whose nodes other tests have had made
        cluster.remove_nodes(group)

    pins = dict(pin.split("==") for pin in pins_of(read_base_inputs("tpu", MINOR).lock))
    assert functions.train(2_000_000) == ("2.0 million", pins["jax"], True)

    record = newest_run(api)
    job = job_of(cluster, record.id)
    assert job is not None
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v6e-slice",
        "cloud.google.com/gke-tpu-topology": "2x4",
    }
    assert asked_labels({"affinity": pod["affinity"]}) == {
        "topology.kubernetes.io/zone": ("us-central1-a", "us-central1-b"),
        "topology.kubernetes.io/region": ("us-central1",),
    }
    assert container["resources"]["limits"] == {"google.com/tpu": 8}
    # A share of the machine goes with the chips.
    requests = container["resources"]["requests"]
    assert requests["google.com/tpu"] == 8
    assert 100 < int(requests["cpu"]) < 180
    assert len(loopback_cloud.builds.builds) == builds, (
        "the base is there, and this client assembles the rest"
    )
    image, _, digest = container["image"].partition("@")
    assert image == f"us-docker.pkg.dev/{PROJECT}/kn-{CLUSTER}/app"
    assert digest == functions.train.plan(1).digest
    assert pod["volumes"][0]["emptyDir"]["sizeLimit"] == "8Gi", "the administrator's default"
    labels = job["metadata"]["labels"]
    assert (labels["owner"], labels["team"]) == ("platform", "vision")

    shown = PREFECT.get(f"{api.url}/flow_runs/{record.id}").json()
    assert shown["work_pool_name"] == "kinetic-gke"
    assert shown["labels"]["kinetic.image"] == container["image"]
    assert shown["job_variables"]["tpu_topology"] == "2x4"
    assert history(api, record.id) == ["Preparing", "Running", "Completed"]
    lines = [line.message for line in api.logs(record.id)]
    assert "training at 2000000" in lines
    reason = f"{record.name} is pending: the cluster's autoscaler is adding a node"
    assert any(line.startswith(reason) for line in lines), lines
    told = capfd.readouterr().err
    assert reason in told
    assert "preflight" not in told, "that is as ever"

    counted = functions.train.with_options(accelerator="TPU:8").plan(1)
    assert counted.accelerator == "tpu-v6e-8", "the one type that the cluster has"
    with pytest.raises(AcceleratorError, match="no node pool of the cluster has 'tpu:16'"):
        functions.train.with_options(accelerator="tpu:16").plan(1)


def test_a_run_without_its_chips_is_an_error_and_computes_nothing(
    functions: Any, cluster: LoopbackCluster, api: PrefectApi
) -> None:
    # This cluster's chips have no device files, and its kubelet has nothing looked for.
    cluster.add_secret("look", {"KINETIC_DEVICE_CHECK": "1"})
    env_from = [{"secretRef": {"name": "look"}}]
    train = functions.train.with_options(job_variables={"env_from": env_from})
    with pytest.raises(DevicesMissing, match="8 TPU chips") as caught:
        train(4_000_000)
    assert "KINETIC_DEVICE_CHECK=0" in str(caught.value.hint)
    record = newest_run(api)
    assert record.state_type == "CRASHED"
    assert "8 TPU chips" in (record.message or "")
    assert "training at 4000000" not in [line.message for line in api.logs(record.id)]


def test_the_specifications_example_runs_on_a_tpu_through_a_stock_worker(
    functions: Any,
    cluster: LoopbackCluster,
    api: PrefectApi,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_work_pool(api.url, WORK_POOL)
    monkeypatch.setenv("KINETIC_DISPATCH", "worker")
    with a_cluster_worker(WORK_POOL, access(), tmp_path / "worker", cluster.kubeconfig()):
        value, _, has_bootstrap = functions.train(3_000_000)
    assert (value, has_bootstrap) == ("3.0 million", True)
    record = newest_run(api)
    assert record.labels[DISPATCH_LABEL] == "worker"
    (job,) = [
        job
        for job in cluster.list("jobs")
        if job["metadata"]["labels"].get(RUN_ID_POD_LABEL) == record.id
    ]
    pod = job["spec"]["template"]["spec"]
    assert pod["nodeSelector"]["cloud.google.com/gke-tpu-accelerator"] == "tpu-v6e-slice"
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 8}
    assert "@sha256:" in pod["containers"][0]["image"]
    assert "training at 3000000" in [line.message for line in api.logs(record.id)]


def test_what_the_cluster_lacks_is_listed_before_anything_is_built(
    functions: Any, loopback_cloud: LoopbackCloud, cluster: LoopbackCluster
) -> None:
    builds = len(loopback_cloud.builds.builds)
    denial = Denial(resource="secrets", verb="create")
    cluster.access.denials.append(denial)
    changed = functions.train.with_options(
        job_variables={"service_account_name": "trainer"}, requirements=["humanize==4.12.2"]
    )
    try:
        planned = changed.plan(1).explain()
        assert "in the way  there is no service account 'trainer'" in planned
        assert "in the way  you may not create secrets" in planned
        begun = time.monotonic()
        with pytest.raises(LaunchError) as caught:
            changed(1)
        assert time.monotonic() - begun < 15, "of which the preflight may take 5"
    finally:
        cluster.access.denials.remove(denial)
    told = str(caught.value)
    assert "2 problems" in told
    assert "there is no service account 'trainer' in namespace 'default'" in told
    assert "you may not create secrets" in told
    assert len(loopback_cloud.builds.builds) == builds
    misspelt = functions.train.with_options(job_variables={"memroy": "1Gi"})
    with pytest.raises(LaunchError, match=r"no variable 'memroy'(?s:.*)did you mean 'memory'"):
        misspelt(1)


def test_a_preempted_run_goes_on_as_one_flow_run(
    functions: Any, cluster: LoopbackCluster, api: PrefectApi, capfd: pytest.CaptureFixture[str]
) -> None:
    def preempt() -> None:
        pod = cluster.wait_for("pods", is_surviving, timeout_seconds=120)
        run_id = pod["metadata"]["labels"]["prefect.io/flow-run-id"]
        until(lambda: is_working(api, run_id, "saved"), "the function's start")
        cluster.preempt(pod["metadata"]["name"])

    def is_surviving(pod: dict[str, Any]) -> bool:
        is_it = pod["metadata"]["name"].startswith("survive-")
        return is_it and pod["status"].get("phase") == "Running"

    with ThreadPoolExecutor(1) as pool:
        preempting = pool.submit(preempt)
        assert functions.survive() == ("step 7", "1")
        preempting.result()
    record = newest_run(api)
    assert history(api, record.id) == ["Preparing", "Running", "Running", "Completed"]
    reason = "Google took its Spot VM; it starts again (disturbance 1 of at most 3)"
    assert reason in capfd.readouterr().err
    lines = [line.message for line in api.logs(record.id)]
    assert any(reason in line for line in lines), lines
    assert lines.count("saved") == 1
    until(lambda: preemptions(api, record.id), "the event of its preemption")
    [event] = preemptions(api, record.id)
    assert event["resource"]["kinetic.accelerator"].endswith(":spot")
    assert event["payload"]["restarts"] == 1
    labels = api.read_run(record.id).labels
    assert labels["kinetic.seconds.since"] > record.started.timestamp()
    (held,) = (labels[name] for name in labels if name.startswith("kinetic.seconds.used.0."))
    assert 0 < held < labels["kinetic.seconds.since"] - record.started.timestamp() + 60


def test_a_wait_that_is_too_long_ends_with_its_reason_everywhere(
    functions: Any, cluster: LoopbackCluster, api: PrefectApi
) -> None:
    impatient = functions.train.with_options(accelerator="v5p-4", schedule_timeout_seconds=2)
    with pytest.raises(RunCrashed, match="it did not start within 2 seconds: no node pool has"):
        impatient(1)
    record = newest_run(api)
    assert record.state_type == "CRASHED"
    assert "no node pool has gke-tpu-accelerator=tpu-v5p-slice" in record.message
    assert is_working(api, record.id, "it did not start within 2 seconds")
    assert job_of(cluster, record.id) is None


def test_a_host_of_a_slice_that_fails_fails_the_call_and_stops_the_others(
    functions: Any, cluster: LoopbackCluster, api: PrefectApi
) -> None:
    with pytest.raises(LaunchError, match="create it with `kinetic pool create --namespace"):
        functions.meet()
    client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
    ensure_headless_service(client, "default")
    client.close()
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match="chip 3 is bad") as caught:
        functions.meet()
    assert time.monotonic() - begun < 300, "the other host would have slept for longer"
    assert "in meet" in "".join(traceback.format_exception(caught.value))
    record = newest_run(api)
    assert record.state_type == "FAILED"
    assert "host 1: chip 3 is bad" in record.message
    lines = [line.message for line in api.logs(record.id)]
    assert "[host 0] here is host 0 of 2" in lines
    assert "[host 1] here is host 1 of 2" in lines
    pods = [pod for pod in cluster.list("pods") if record.id in pod["metadata"]["name"]]
    assert not [pod for pod in pods if pod["status"]["phase"] == "Running"]


# Cancelling


def test_cancelling_a_run_asks_its_function_and_deletes_its_job(
    functions: Any, cluster: LoopbackCluster, api: PrefectApi
) -> None:
    run = functions.wait.submit()
    until(lambda: is_working(api, run.id, "waiting"), "the function's start")
    begun = time.monotonic()
    run.cancel()
    assert time.monotonic() - begun < 15
    assert run.state == "Cancelled"
    assert is_working(api, run.id, "cleaned up")
    assert job_of(cluster, run.id) is None
    with pytest.raises(RunCancelled):
        run.result()


def test_ctrl_c_cancels_the_run(
    project: Project, cluster: LoopbackCluster, api: PrefectApi
) -> None:
    process = project.start("launch_functions.py")
    until(
        lambda: any(
            job["status"].get("active") and "wait-" in job["metadata"]["name"]
            for job in cluster.list("jobs")
        ),
        "the launch",
        120,
    )
    record = newest_run(api)
    until(lambda: is_working(api, record.id, "waiting"), "the function's start")
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    until(lambda: api.read_run(record.id).is_final, "the run's end", 15)
    assert time.monotonic() - begun < 15
    output, _ = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in output
    assert api.read_run(record.id).state_type == "CANCELLED"
    assert job_of(cluster, record.id) is None


@pytest.mark.parametrize("accelerator", ["cpu", "v5p-4"], ids=["running", "waiting"])
def test_prefects_ui_cancels_a_run_that(
    functions: Any, cluster: LoopbackCluster, api: PrefectApi, accelerator: str
) -> None:
    known = {record.id for record in api.find_runs()}

    def launched() -> str | None:
        new = (record.id for record in newest_runs(api) if record.id not in known)
        return next((run_id for run_id in new if job_of(cluster, run_id)), None)

    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(functions.wait.with_options(accelerator=accelerator))
        until(launched, "the launch", 120)
        run_id = launched()
        assert run_id is not None
        if accelerator == "cpu":
            until(lambda: is_working(api, run_id, "waiting"), "the function's start")
        begun = time.monotonic()
        asked = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": True}
        PREFECT.post(f"{api.url}/flow_runs/{run_id}/set_state", json=asked).raise_for_status()
        with pytest.raises(RunCancelled):
            calling.result(60)
        assert time.monotonic() - begun < 15
    assert api.read_run(run_id).state_type == "CANCELLED"
    assert job_of(cluster, run_id) is None
