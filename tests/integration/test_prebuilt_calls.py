"""Calls in prebuilt mode on the loopback cloud: disturbed, and on bases of unknown origin."""

from __future__ import annotations

import signal
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from newest_runs import newest_run
from prefect_workers import eventually
from projects import Project, make_project

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.images.labels import LABEL_CATEGORY, LABEL_PYTHON
from loopback.__main__ import CLUSTER, PROJECT
from loopback.cloud import REGISTRY_HOST
from loopback.lifted_python import MINOR
from loopback.quick_cloud import QuickCloud
from loopback.small_images import Pusher
from loopback.storage_wire import WireStorage
from loopback.wire import Fault, Request

pytest_plugins = ["loopback.fixtures"]

BASES = f"{PROJECT}/kn-{CLUSTER}/bases"
CALL = """
    import kinetic

    @kinetic.run(accelerator="cpu", container_image="prebuilt", ship_wheels=True)
    def describe(count):
        import humanize, tabulate

        return humanize.intword(count), tabulate.__version__

    if __name__ == "__main__":
        print("answer:", describe(3_000_000))
"""


@dataclass(kw_only=True)
class StalledWheel(Fault):
    """Something that goes wrong with the upload of a wheel."""

    def fits(self, request: Request) -> bool:
        return super().fits(request) and b'"wheels/' in request.body


@pytest.fixture
def project(
    quick_cloud: QuickCloud,
    wire_storage: WireStorage,
    bucket_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Project:
    """A project with two packages that ship, in a bucket that nothing has been uploaded to."""
    for name, value in quick_cloud.environment.items():
        monkeypatch.setenv(name, value)
    wire_storage.create_bucket(bucket_name)
    monkeypatch.setenv("KINETIC_JOBS_BUCKET", bucket_name)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", wire_storage.url)
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    requirements = "humanize==4.12.3\ntabulate==0.9.0\n"
    files = {"call.py": CALL, "requirements.txt": requirements}
    return make_project(tmp_path / "project", monkeypatch, files)


def push_base(cloud: QuickCloud, name: str, labels: dict[str, str]) -> dict[str, str]:
    """Push a base image to a repository of its own, and return the variables that use it."""
    repository = f"{BASES}/{name}"
    Pusher(cloud.registry.url, f"{repository}/base-cpu").push_image(
        version("kinetic-flows"), labels
    )
    return {"KINETIC_BASE_IMAGE_REPO": f"{REGISTRY_HOST}/{repository}"}


def test_ctrl_c_while_wheels_are_uploaded_leaves_whole_objects_and_the_next_call_works(
    project: Project,
    quick_cloud: QuickCloud,
    wire_storage: WireStorage,
    bucket_name: str,
    api: PrefectApi,
) -> None:
    labels = {LABEL_CATEGORY: "cpu", LABEL_PYTHON: MINOR}
    base = push_base(quick_cloud, "own", labels)
    stalled = StalledWheel(kind="stall", method="POST", pause_seconds=90)
    with wire_storage.server.fault(stalled):
        client = project.start("call.py", **base)
        eventually(lambda: stalled.times == 0 or client.poll(), seconds=120)
        client.send_signal(signal.SIGINT)
        output, _ = client.communicate(timeout=60)

    assert "KeyboardInterrupt" in output
    assert "3.0 million" not in output
    assert newest_run(api).state_type == "CANCELLED"
    with closing(GoogleStore(bucket_name, endpoint=wire_storage.url)) as store:
        left = [info.name for info in store.list("")]
        assert [name for name in left if name.startswith(("requirements/", "runs/"))] == []
        wheels = [name for name in left if name.startswith("wheels/")]
        assert [name.split("/")[1] for name in wheels] == [
            sha256_hex(store.get(name).data) for name in wheels
        ]

    again = project.python("call.py", **base)
    assert "answer: ('3.0 million', '0.9.0')" in again.stdout, again.stderr


def test_a_base_without_our_labels_runs_and_is_warned_of_once(
    project: Project, quick_cloud: QuickCloud
) -> None:
    done = project.python("call.py", **push_base(quick_cloud, "elsewhere", {}))
    assert "answer: ('3.0 million', '0.9.0')" in done.stdout, done.stderr
    warned = [line for line in done.stderr.splitlines() if "warning: " in line]
    # The cluster is on this machine, whose Prefect server its pods might not reach.
    assert len([line for line in warned if "the Prefect API" not in line]) == 1
