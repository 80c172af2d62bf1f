"""What is built once is not built again, by anyone, unless it is gone; and what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from newest_runs import newest_run
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import LogFilter
from prefect.settings import PREFECT_API_URL, temporary_settings
from projects import Project, make_project

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.prefect import flow_names
from kinetic_flows.clients.prefect.api import PrefectApi, RunRecord
from kinetic_flows.clients.registry.documents import MANIFEST_TYPES
from kinetic_flows.core import object_names
from loopback.__main__ import BUILDS_BUCKET, CLUSTER, JOBS_BUCKET, PROJECT, environment_of
from loopback.cloud import ACCESS_TOKEN, LoopbackCloud
from loopback.cloud_build import Status
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup
from loopback.kubernetes.podman import PodmanRuntime
from loopback.quick_builds import QuickWorker
from loopback.wire import wait_until

pytest_plugins = ["loopback.fixtures"]

CAPTURED = "captured-value-8c1f"
ACCEPT = ", ".join(MANIFEST_TYPES)
API_KEY = "pnu_prefect-key-77d0"

FUNCTIONS = """
    import kinetic

    @kinetic.run(accelerator="cpu", capture_env_vars=["CAPTURED"])
    def describe(count):
        import os, humanize

        return humanize.intword(count), len(os.environ["CAPTURED"])

    if __name__ == "__main__":
        print("answer:", describe(3_000_000))
"""


@pytest.fixture(scope="module")
def cluster(
    loopback_cloud: LoopbackCloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LoopbackCluster]:
    """A cluster whose pods are containers."""
    runtime = PodmanRuntime(containers=loopback_cloud.containers)
    with LoopbackCluster(tmp_path_factory.mktemp("cluster"), runtime=runtime) as cluster:
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        yield cluster


@pytest.fixture
def project(
    loopback_cloud: LoopbackCloud,
    cluster: LoopbackCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
) -> Project:
    """A project on the loopback cloud, whose images nobody has built yet."""
    loopback_cloud.create_repository(PROJECT, f"kn-{CLUSTER}")
    for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
        loopback_cloud.storage.create_bucket(bucket)
    for name, value in environment_of(loopback_cloud).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_BUILDER", "cloud-build")
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))
    monkeypatch.setenv("CAPTURED", CAPTURED)
    monkeypatch.delitem(sys.modules, "cached_functions", raising=False)
    return make_project(
        tmp_path / "project",
        monkeypatch,
        {"cached_functions.py": FUNCTIONS, "requirements.txt": "humanize==4.12.2\n"},
    )


@pytest.fixture
def functions(project: Project) -> ModuleType:
    return project.module("cached_functions")


@pytest.fixture
def prefect(prefect_api_url: str) -> Iterator[SyncPrefectClient]:
    with (
        temporary_settings({PREFECT_API_URL: prefect_api_url}),
        get_client(sync_client=True) as client,
    ):
        yield client


@pytest.fixture
def jobs_store(loopback_cloud: LoopbackCloud) -> Iterator[GoogleStore]:
    with closing(GoogleStore(JOBS_BUCKET, endpoint=loopback_cloud.storage.url)) as store:
        yield store


def last_build_task(prefect: SyncPrefectClient) -> Any:
    """Return the newest task run of an image build."""
    answer = prefect.request(
        "POST",
        "/task_runs/filter",
        json={
            "task_runs": {"name": {"like_": flow_names.TASK_BUILD_IMAGE}},
            "sort": "EXPECTED_START_TIME_DESC",
            "limit": 1,
        },
    )
    (task_run,) = answer.json()
    return task_run


def logged_lines(prefect: SyncPrefectClient, wanted: LogFilter) -> list[str]:
    lines: list[str] = []
    while len(page := prefect.read_logs(wanted, limit=200, offset=len(lines))) > 0:
        lines += [log.message for log in page]
    return lines


def wait_for_lines(prefect: SyncPrefectClient, task_run: Any, *lines: str) -> None:
    """Wait until a task run's log has lines."""
    wanted = LogFilter.model_validate({"task_run_id": {"any_": [task_run["id"]]}})
    for line in lines:
        wait_until(lambda line=line: line in logged_lines(prefect, wanted), 30, f"{line} logged")


def start_client(project_root: Path, home: Path) -> subprocess.Popen[str]:
    """Start a client of its own process and its own home, as another person has."""
    return subprocess.Popen(
        [sys.executable, "cached_functions.py"],
        cwd=project_root,
        env={
            **os.environ,
            "KINETIC_HOME": str(home / "kn"),
            "KINETIC_PROGRESS": "verbose",
            "PREFECT_HOME": str(home / "prefect"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def layers_of(cloud: LoopbackCloud, image: str) -> list[str]:
    manifest = manifest_of(cloud, image)
    return [layer["digest"] for layer in manifest["layers"]]


def manifest_of(cloud: LoopbackCloud, image: str) -> Any:
    name, _, tag = image.partition("/")[2].rpartition(":")
    return httpx.get(
        f"{cloud.registry.url}/v2/{name}/manifests/{tag}", headers={"Accept": ACCEPT}
    ).json()


def delete_image(cloud: LoopbackCloud, image: str) -> None:
    name, _, tag = image.partition("/")[2].rpartition(":")
    url = f"{cloud.registry.url}/v2/{name}/manifests"
    digest = httpx.head(f"{url}/{tag}", headers={"Accept": ACCEPT}).headers["Docker-Content-Digest"]
    httpx.delete(f"{url}/{digest}").raise_for_status()


@pytest.mark.timeout(900)
def test_an_image_is_built_once_for_everyone_and_again_only_when_it_is_gone(
    project: Project,
    functions: ModuleType,
    loopback_cloud: LoopbackCloud,
    prefect: SyncPrefectClient,
    jobs_store: GoogleStore,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def builds() -> list[str]:
        return [build.id for build in loopback_cloud.builds.builds]

    plan = functions.describe.plan(1)
    image = plan.image
    assert plan.making is not None
    assert functions.describe(1_000_000) == ("1.0 million", len(CAPTURED))
    made = builds()

    task_run = last_build_task(prefect)
    assert task_run["state"]["name"] == "Completed"
    others = {
        run["name"]: run
        for run in prefect.request(
            "POST",
            "/task_runs/filter",
            json={"task_runs": {"flow_run_id": {"any_": [task_run["flow_run_id"]]}}},
        ).json()
    }
    assert others[flow_names.TASK_UPLOAD_CODE]["start_time"] < task_run["end_time"], (
        "at the same time"
    )
    shown = capfd.readouterr().err
    assert "FETCHSOURCE" not in shown, "folded away"
    wait_for_lines(prefect, task_run, "FETCHSOURCE", "PUSH", "DONE")
    links = prefect.request(
        "POST",
        "/artifacts/filter",
        json={"artifacts": {"task_run_id": {"any_": [task_run["id"]]}}},
    ).json()
    pages = " ".join(link["data"] for link in links)
    build = loopback_cloud.builds.builds[-1]
    assert f"https://console.cloud.google.com/cloud-build/builds/{build.id}" in pages
    assert f"console.cloud.google.com/artifacts/docker/{PROJECT}/us/kn-{CLUSTER}/app" in pages

    other = start_client(project.root, tmp_path / "other")
    output = other.communicate(timeout=240)[0]
    assert "answer: ('3.0 million'" in output, output
    assert "cached" in output
    assert last_build_task(prefect)["state"]["name"] == "Cached"
    assert builds() == made

    records = [item.name for item in jobs_store.list(f"{object_names.BUILD_RESULTS}/")]
    assert records
    for name in records:
        jobs_store.delete(name)
    functions.describe(1)
    assert last_build_task(prefect)["state"]["name"] == "Completed"
    assert builds() == made, "without Prefect's cache the registry knows"

    before = layers_of(loopback_cloud, image)
    delete_image(loopback_cloud, image)
    functions.describe(1)
    assert len(builds()) == len(made) + 1, "what is gone from the registry is made again"
    assert layers_of(loopback_cloud, image) == before, "and the same"

    monkeypatch.setenv("KINETIC_BUILDER", "auto")
    (project.root / "requirements.txt").write_text("humanize==4.12.1\n")
    plan = functions.describe.plan(1)
    functions.describe(1)
    assert len(builds()) == len(made) + 1, "what little there is to send needs no build"
    after = layers_of(loopback_cloud, plan.image)
    assert len(set(before) ^ set(after)) == 2, "one wheel gave way to another"
    wait_for_lines(
        prefect,
        last_build_task(prefect),
        "because: humanize 4.12.2 → 4.12.1",
        f"image: {plan.making}",
        f"builder: {plan.making.who}",
    )


def test_builds_images_and_logs_hold_no_credential_and_no_captured_value(
    functions: ModuleType,
    loopback_cloud: LoopbackCloud,
    api: PrefectApi,
    prefect: SyncPrefectClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PREFECT_API_KEY", API_KEY)
    run = functions.describe.submit(1)
    run.result(timeout_seconds=120)
    secrets = [text.encode() for text in (ACCESS_TOKEN, API_KEY, CAPTURED, run.ticket.run_key)]

    left: dict[str, bytes] = {}
    with closing(GoogleStore(BUILDS_BUCKET, endpoint=loopback_cloud.storage.url)) as store:
        left |= {item.name: store.get(item.name).data for item in store.list("")}
    image = functions.describe.plan(1).image
    manifest = manifest_of(loopback_cloud, image)
    name = image.partition("/")[2].rpartition(":")[0]
    for blob in (manifest["config"], manifest["layers"][-1]):
        url = f"{loopback_cloud.registry.url}/v2/{name}/blobs/{blob['digest']}"
        left[blob["digest"]] = httpx.get(url).content
    left["logs of runs"] = "\n".join(logged_lines(prefect, LogFilter())).encode()

    assert any(key.startswith("logs/") for key in left)
    assert any(key.startswith("builds/") for key in left)
    assert [key for key, data in left.items() for secret in secrets if secret in data] == []


@pytest.fixture
def slow_builds(loopback_cloud: LoopbackCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds that take a minute."""
    worker = QuickWorker(loopback_cloud.storage.url, loopback_cloud.registry.url)
    worker.seconds = 60
    monkeypatch.setattr(loopback_cloud.builds, "worker", worker)


def wait_for_working_build(cloud: LoopbackCloud, before: int) -> Any:
    def works() -> bool:
        builds = cloud.builds.builds
        followed = cloud.builds.server.calls[-1:] == ["GetBuild"]
        return len(builds) > before and builds[-1].status == Status.WORKING and followed

    wait_until(works, 120, "a build that is followed")
    return cloud.builds.builds[-1]


@pytest.mark.usefixtures("slow_builds")
def test_ctrl_c_in_a_call_cancels_the_build_and_the_flow_run(
    project: Project, loopback_cloud: LoopbackCloud, api: PrefectApi, tmp_path: Path
) -> None:
    (project.root / "requirements.txt").write_text("humanize==4.9.0\n")
    before = len(loopback_cloud.builds.builds)
    client = start_client(project.root, tmp_path / "home")
    build = wait_for_working_build(loopback_cloud, before)

    client.send_signal(signal.SIGINT)
    output = client.communicate(timeout=60)[0]

    assert "KeyboardInterrupt" in output
    assert f"build {build.id} was cancelled: nobody else waits for it" in output
    assert "Ctrl-C: nothing was launched" in output
    assert build.status == Status.CANCELLED
    assert newest_call(api).state_type == "CANCELLED"


@pytest.mark.usefixtures("slow_builds")
def test_cancelling_the_flow_run_cancels_the_build_and_ends_the_call(
    project: Project,
    loopback_cloud: LoopbackCloud,
    api: PrefectApi,
    tmp_path: Path,
) -> None:
    (project.root / "requirements.txt").write_text("humanize==4.8.0\n")
    before = len(loopback_cloud.builds.builds)
    client = start_client(project.root, tmp_path / "home")
    build = wait_for_working_build(loopback_cloud, before)
    run = newest_call(api)

    api.set_state(run.id, "CANCELLING")
    output = client.communicate(timeout=60)[0]

    assert "RunCancelled" in output
    assert build.status == Status.CANCELLED
    assert api.read_run(run.id).state_type == "CANCELLED"


def newest_call(api: PrefectApi) -> RunRecord:
    """Return the flow run of the newest call; those of other tests may be scheduled for later."""
    return newest_run(api)
