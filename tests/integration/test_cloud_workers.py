"""Runs and deployments on the loopback cloud that Prefect's own Kubernetes worker starts."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from uuid import UUID, uuid4

import pytest
from prefect_workers import RunningWorker, a_cluster_worker, access, eventually, install_work_pool
from projects import Project, make_project

import kinetic
from kinetic_flows.api.deployment import find_deployment
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery, RunRecord
from kinetic_flows.clients.prefect.flow_names import LAUNCH_FLOW
from kinetic_flows.clients.prefect.labels import ACCELERATOR_LABEL, DISPATCH_LABEL
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.candidates import Claim
from kinetic_flows.core.job import JOB_VARIABLE, canonical_json
from kinetic_flows.core.launcher import Phase
from kinetic_flows.core.object_names import claim_object, result_object
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.cloud_names import WORK_POOL
from kinetic_flows.flows.reconciling import kinetic_reconcile
from kinetic_flows.platforms.gke.names import RUN_ID_POD_LABEL
from kinetic_flows.runs.cleanup import find_expired, remove
from kinetic_flows.runs.session import own_session
from kinetic_flows.runs.worker_runs import processes_of
from loopback.cloud import REGISTRY_HOST
from loopback.cloud_build import CloudBuildServer
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup
from loopback.kubernetes.runtime import ProcessRuntime, use_this_python
from loopback.quick_builds import QuickWorker
from loopback.registry import DockerRegistry
from loopback.small_images import push_python_image
from loopback.storage import StorageServer
from runner_jobs import BOOTSTRAP

pytest_plugins = ["loopback.fixtures"]

FUNCTIONS = """
    import time
    from pathlib import Path

    import kinetic

    @kinetic.run(accelerator="cpu")
    def describe(count: int, suffix: str = ""):
        print(f"describing {count}")
        return f"{count // 1_000_000} million{suffix}"

    @kinetic.run(accelerator=["cpu:spot", "cpu"], fallback_after_seconds=2)
    def anywhere(count: int = 1):
        print(f"describing {count} anywhere")
        return f"{count} anywhere"

    @kinetic.run(accelerator="cpu")
    def hold(path):
        print("holding", flush=True)
        while not Path(path).exists():
            time.sleep(0.1)
        return "held"

    @kinetic.run(accelerator="cpu")
    def sleep():
        print("asleep", flush=True)
        time.sleep(600)
"""


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """A loopback cloud whose images are built in no time, as its pods are processes."""

    repository: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def cloud(storage_server: StorageServer, docker_registry: DockerRegistry) -> Iterator[Cloud]:
    name = uuid4().hex[:8]
    server = CloudBuildServer(QuickWorker(storage_server.url, docker_registry.url)).start()
    repository = f"{REGISTRY_HOST}/loopback/kn-{name}"
    push_python_image(docker_registry.url)
    yield Cloud(
        repository=repository,
        environment={
            "KINETIC_PROJECT": "loopback",
            "KINETIC_JOBS_BUCKET": storage_server.create_bucket(f"jobs-{name}"),
            "KINETIC_BUILDS_BUCKET": storage_server.create_bucket(f"builds-{name}"),
            "KINETIC_IMAGE_REPO": repository,
            "KINETIC_CLOUD_BUILD_ENDPOINT": server.endpoint,
            "KINETIC_BUILDER": "cloud-build",
            "KINETIC_REGISTRY_ENDPOINTS": f"{REGISTRY_HOST}={docker_registry.url},"
            f"docker.io={docker_registry.url}",
            "STORAGE_EMULATOR_HOST": storage_server.url,
        },
    )
    server.stop()


def run_the_bootstrap(command: Sequence[str]) -> list[str]:
    """Run what an image has at /app from here, with this Python."""
    return use_this_python(
        [str(BOOTSTRAP) if part == "/app/remote_runner.py" else part for part in command]
    )


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackCluster]:
    """A cluster whose pods are processes of this machine."""
    runtime = ProcessRuntime(rewrite=run_the_bootstrap)
    with LoopbackCluster(tmp_path_factory.mktemp("cluster"), runtime=runtime) as cluster:
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        yield cluster


@pytest.fixture(scope="module")
def worker(
    cluster: LoopbackCluster,
    prefect_server: BackgroundServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningWorker]:
    """Prefect's worker as the shipped manifest runs it; it alone may use the cluster."""
    record = prefect_server.status()
    assert record is not None
    install_work_pool(record.api_url, WORK_POOL)
    directory = tmp_path_factory.mktemp("worker")
    served = prefect_server.environment(record)
    with a_cluster_worker(WORK_POOL, served, directory, cluster.kubeconfig()) as worker:
        yield worker


@pytest.fixture
def project(
    cloud: Cloud,
    cluster: LoopbackCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Project:
    """A project on the loopback cloud, of somebody who has no access to the cluster."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig(token="nobody")))
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    monkeypatch.delitem(sys.modules, "worker_functions", raising=False)
    return make_project(tmp_path / "project", monkeypatch, {"worker_functions.py": FUNCTIONS})


@pytest.fixture
def functions(project: Project) -> ModuleType:
    return project.module("worker_functions")


def test_without_access_to_the_cluster_a_call_runs_through_a_stock_worker(
    functions: ModuleType,
    cloud: Cloud,
    cluster: LoopbackCluster,
    worker: RunningWorker,
    api: PrefectApi,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_secret")
    assert functions.describe(1_000_000) == "1 million"
    shown = capfd.readouterr()
    assert "describing 1000000" in shown.out
    assert f"left to a Prefect worker of work pool {WORK_POOL}: from here no Jobs" in shown.err

    (run, *_) = kinetic.list_runs(limit=1)
    record = api.read_run(run.id)
    assert record.state_type == "COMPLETED"
    assert record.labels[DISPATCH_LABEL] == "worker"
    assert record.work_pool == WORK_POOL
    (job,) = [
        job
        for job in cluster.list("jobs")
        if job["metadata"]["labels"]["prefect.io/flow-run-id"] == run.id
    ]
    pod = job["spec"]["template"]["spec"]["containers"][0]
    assert pod["image"].startswith(f"{cloud.repository}/app@sha256:")
    assert "pnu_secret" not in json.dumps([job, dict(record.job_variables)])
    assert run.ticket.run_key not in json.dumps(job), "keys are in a Secret"
    assert kinetic.attach(run.id).result() == "1 million"
    assert run.retry().result(timeout_seconds=120) == "1 million"


def test_a_sweep_runs_through_a_stock_worker(
    functions: ModuleType, worker: RunningWorker, api: PrefectApi
) -> None:
    group = functions.describe.map([1_000_000, 2_000_000], work_queue="sweeps", max_concurrent=1)
    assert group.results(timeout_seconds=300) == ["1 million", "2 million"], worker.log
    assert {api.read_run(run.id).labels[DISPATCH_LABEL] for run in group.runs} == {"worker"}
    plain = functions.describe.map([3_000_000])
    assert plain.results(timeout_seconds=300) == ["3 million"], worker.log


def test_a_stock_worker_starts_one_accelerator_of_a_list_after_the_other(
    functions: ModuleType,
    cluster: LoopbackCluster,
    worker: RunningWorker,
    api: PrefectApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No node has the first, which a worker has waiting in the cluster for as long as it may."""
    deployment = functions.anywhere.deploy("nightly")
    deployed = deployment.run(count=3)
    run = functions.anywhere.submit(2)
    assert run.result(timeout_seconds=300) == "2 anywhere", worker.log
    (left,) = (line for line in run.logs() if line.endswith("; cpu is tried"))
    assert left.startswith("kinetic: cpu:spot: nothing in 2.0 s")
    assert "describing 2 anywhere" in run.logs()
    assert run.state == "Completed"
    assert api.read_run(run.id).labels[ACCELERATOR_LABEL] == "cpu"
    jobs = json.dumps(cluster.list("jobs"))
    assert "r1c1" in jobs
    assert run.ticket.run_key not in jobs, "keys are in Secrets"
    assert deployed.result(timeout_seconds=300) == "3 anywhere", worker.log
    deployment.delete()

    def waiting() -> list[str]:
        found = [job["metadata"]["labels"] for job in cluster.list("jobs")]
        names = [str(labels.get("prefect.io/flow-run-name")) for labels in found]
        return [name for name in names if name == "anywhere-on-cpu-spot-r0c0"]

    def withdrawn(*state_types: str) -> list[RunRecord]:
        queries = [
            RunQuery(flow=LAUNCH_FLOW, state_types=state_types, parent=each)
            for each in (run.id, deployed.id)
        ]
        return [launch for query in queries for launch in api.find_runs(query)]

    eventually(lambda: not withdrawn("SCHEDULED", "PENDING"))
    # A worker that is slow has not taken those that were given up before.
    assert len(waiting()) == len(withdrawn("CANCELLING"))
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))
    kinetic_reconcile()
    assert not waiting()
    assert not withdrawn("CANCELLING")


def test_a_list_that_waits_is_cancelled_with_all_that_a_worker_has_waiting(
    functions: ModuleType,
    cluster: LoopbackCluster,
    worker: RunningWorker,
    api: PrefectApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))
    patient = functions.anywhere.with_options(fallback_after_seconds=600, dispatch="worker")
    run = patient.submit(4)
    eventually(lambda: _going_on(run.id, cluster, api))
    with own_session(NullProgress()) as session:
        processes = processes_of(session.platform, session.api, run.ticket)
        seen = processes.observe(run.id, None)
        assert seen.phase is Phase.PENDING
        assert seen.reason == "it waits for one of its accelerators; its log says for which"
    run.cancel()
    assert run.state == "Cancelled"
    assert not _going_on(run.id, cluster, api)


def test_of_a_list_that_does_not_stop_itself_the_process_that_has_begun_is_ended(
    functions: ModuleType,
    cluster: LoopbackCluster,
    worker: RunningWorker,
    api: PrefectApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))
    patient = functions.anywhere.with_options(fallback_after_seconds=600, dispatch="worker")
    run = patient.submit(5)
    (launch,) = eventually(lambda: _going_on(run.id, cluster, api))
    with own_session(NullProgress()) as session:
        # As of one whose node is not heard of any more.
        claim = canonical_json(asdict(Claim(candidate=0)))
        session.platform.store.put_if_absent(claim_object(run.id, 0), claim)
        api.set_state(launch, "RUNNING")
        api.set_state(run.id, "CANCELLING")
        processes_of(session.platform, session.api, run.ticket).stop(run.id, 0.0)
    assert not _going_on(run.id, cluster, api)
    assert api.read_run(launch).state_type == "CANCELLED"


def _going_on(run_id: str, cluster: LoopbackCluster, api: PrefectApi) -> list[str]:
    """Return the flow runs of a run's launches whose Jobs have not ended."""
    going = [job for job in cluster.list("jobs") if not job["status"].get("conditions")]
    ids = {str(job["metadata"]["labels"].get("prefect.io/flow-run-id")) for job in going}
    launches = api.find_runs(RunQuery(flow=LAUNCH_FLOW, parent=run_id))
    return [each.id for each in launches if each.id in ids]


def test_what_a_worker_was_left_is_removed_without_access_to_the_cluster(
    functions: ModuleType, cloud: Cloud, worker: RunningWorker
) -> None:
    run = functions.describe.submit(6_000_000)
    assert run.result(timeout_seconds=120) == "6 million"
    bucket, url = (
        cloud.environment[name] for name in ("KINETIC_JOBS_BUCKET", "STORAGE_EMULATOR_HOST")
    )
    store = GoogleStore(bucket, endpoint=url)
    in_two_hours = datetime.now(UTC) + timedelta(hours=2)
    with (
        closing(store),
        own_session(NullProgress()) as session,
    ):
        job = session.api.read_run(run.id).job_variables["env"][JOB_VARIABLE]
        names = {job.removeprefix(f"{store.uri}/"), result_object(run.id)}
        assert not store.missing(names)
        expired = find_expired(session, older_than=timedelta(0), now=in_two_hours)
        assert names <= {name for each in remove(expired, session) for name in each.objects}
        assert store.missing(names) == names


def test_a_worker_that_is_online_changes_nothing_for_who_may_use_the_cluster(
    functions: ModuleType,
    cluster: LoopbackCluster,
    worker: RunningWorker,
    api: PrefectApi,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))
    run = functions.describe.submit(2_000_000)
    assert run.result(timeout_seconds=120) == "2 million"
    assert DISPATCH_LABEL not in api.read_run(run.id).labels
    names = [job["metadata"]["name"] for job in cluster.list("jobs")]
    assert any(run.id in name for name in names), "this client named the Job"
    large = "!" * 2_000_000  # an object of its own in the store
    chosen = functions.describe.with_options(dispatch="worker").submit(3_000_000, large)
    assert api.read_run(chosen.id).labels[DISPATCH_LABEL] == "worker"
    assert chosen.result(timeout_seconds=120) == f"3 million{large}"


def test_a_run_that_a_worker_started_is_cancelled_without_access_to_the_cluster(
    functions: ModuleType, cluster: LoopbackCluster, worker: RunningWorker
) -> None:
    run = functions.sleep.submit()
    eventually(lambda: "asleep" in run.logs())
    run.cancel()
    assert run.state == "Cancelled"


def test_a_run_whose_pod_waits_is_cancelled_by_whoever_has_access_to_the_cluster(
    functions: ModuleType,
    cluster: LoopbackCluster,
    worker: RunningWorker,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No node has the accelerator, so no pod will ever notice the cancellation."""
    run = functions.sleep.with_options(accelerator="l4").submit()

    def jobs() -> list[str]:
        found = [job["metadata"] for job in cluster.list("jobs")]
        return [each["name"] for each in found if each["labels"].get(RUN_ID_POD_LABEL) == run.id]

    eventually(jobs)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))
    run.cancel()
    assert run.state == "Cancelled"
    eventually(lambda: not jobs())


def test_a_run_outlives_its_worker_and_the_next_worker_takes_the_next_run(
    functions: ModuleType,
    cluster: LoopbackCluster,
    prefect_api_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("KINETIC_WORK_POOL", "restarted")
    install_work_pool(prefect_api_url, "restarted")

    def a_restarted_worker(directory: str) -> AbstractContextManager[RunningWorker]:
        place = tmp_path / directory
        return a_cluster_worker("restarted", access(), place, cluster.kubeconfig())

    with a_restarted_worker("first"):
        held = functions.hold.submit(str(tmp_path / "go"))
        eventually(lambda: "holding" in held.logs())
    eventually(lambda: held.state == "Running")
    (tmp_path / "go").touch()
    eventually(lambda: held.state == "Completed")
    waiting = functions.describe.submit(4_000_000)
    assert waiting.state == "Scheduled"
    with a_restarted_worker("second") as second:
        assert waiting.result(timeout_seconds=300) == "4 million", second.log
    assert held.result() == "held"


def test_a_schedule_fires_with_only_a_worker_and_the_server_up(
    project: Project, worker: RunningWorker, api: PrefectApi
) -> None:
    """Who made the deployment is a process of its own, gone before its first run begins."""
    project.write(
        {
            "deploy.py": """
                from worker_functions import describe

                describe.deploy("often", interval=10, parameters={"count": 5_000_000})
            """
        }
    )
    done = project.python("deploy.py", KINETIC_QUIET="1", timeout_seconds=300)
    assert done.returncode == 0, done.stderr
    deployment = find_deployment("describe/often")
    begun = RunQuery(deployment=deployment.id, state_types=("PENDING", "RUNNING", "COMPLETED"))
    try:
        assert deployment.schedules == ("every 10 s",)
        (first, *_) = eventually(lambda: api.find_runs(begun))
        # What is scheduled for later is withdrawn, and need not be waited for.
        api.client.pause_deployment(UUID(deployment.id))
        with_suffix = deployment.run(suffix="!")
        run = kinetic.attach(first.id)
        assert run.result(timeout_seconds=240) == "5 million"
        assert "describing 5000000" in run.logs()
        assert with_suffix.result(timeout_seconds=240) == "5 million!"
    finally:
        api.client.pause_deployment(UUID(deployment.id))
        unfinished = RunQuery(deployment=deployment.id, state_types=("PENDING", "RUNNING"))
        eventually(lambda: not api.find_runs(unfinished))
        deployment.delete()
