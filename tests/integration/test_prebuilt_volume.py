"""A prebuilt call on a cluster that mounts images: nothing is installed, nothing built twice."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from projects import Project, make_project

from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery
from kinetic_flows.clients.prefect.labels import PACKAGES_LABEL
from kinetic_flows.images.bases import read_base_inputs
from kinetic_flows.images.labels import LABEL_BASE_IDENTITY, LABEL_CATEGORY, LABEL_PYTHON
from loopback.__main__ import CLUSTER, PROJECT
from loopback.cloud import ACCESS_TOKEN, REGISTRY_HOST, USERNAME
from loopback.lifted_python import MINOR
from loopback.quick_cloud import QuickCloud, a_quick_cloud
from loopback.small_images import Pusher

pytest_plugins = ["loopback.fixtures"]

BASES = f"{PROJECT}/kn-{CLUSTER}/bases"
PLAN = "from kinetic_flows.cli import main; main()"
CALL = """
    import kinetic

    @kinetic.run(accelerator="cpu", container_image="prebuilt")
    def describe(count):
        import humanize, tabulate

        return humanize.intword(count), tabulate.__version__, tabulate.__file__

    if __name__ == "__main__":
        print("answer:", *describe(3_000_000))
"""


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QuickCloud]:
    """A Google Cloud of this machine whose cluster mounts images."""
    directory = tmp_path_factory.mktemp("cloud")
    with a_quick_cloud(directory, kubernetes="1.35") as running:
        labels = {
            LABEL_CATEGORY: "cpu",
            LABEL_PYTHON: MINOR,
            LABEL_BASE_IDENTITY: str(read_base_inputs("cpu", MINOR).identity),
        }
        pusher = Pusher(running.registry.url, f"{BASES}/base-cpu")
        pusher.push_image(version("kinetic-flows"), labels)
        yield running


@pytest.fixture
def project(
    cloud: QuickCloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Project:
    """A project with two packages that the base does not have."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_BASE_IMAGE_REPO", f"{REGISTRY_HOST}/{BASES}")
    monkeypatch.setenv("KINETIC_BUILDER", "direct")
    login = b64encode(f"{USERNAME}:{ACCESS_TOKEN}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {REGISTRY_HOST: {"auth": login}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    requirements = "humanize==4.12.3\ntabulate==0.9.0\n"
    files = {"call.py": CALL, "requirements.txt": requirements}
    return make_project(tmp_path / "project", monkeypatch, files)


def plan_of(project: Project, **variables: str) -> dict[str, Any]:
    """Return what `kinetic plan` says as JSON."""
    done = project.python("-c", PLAN, "plan", "call.py:describe", "--json", **variables)
    assert done.returncode == 0, done.stderr
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def test_packages_are_mounted_where_the_cluster_can_and_made_once(
    project: Project, cloud: QuickCloud, api: PrefectApi
) -> None:
    plan = plan_of(project)
    assert (plan["packages_come"], plan["packages_cached"]) == ("Mounted as a volume", False)
    assert plan["packages_image"].startswith(
        f"{REGISTRY_HOST}/{PROJECT}/kn-{CLUSTER}/packages:cpu-"
    )
    assert plan["making"]["builder"] == "direct"
    assert plan["making"]["layers"] == 3

    done = project.python("call.py")
    assert "answer: 3.0 million 0.9.0 " in done.stdout, done.stderr
    assert "/usr/local/lib/python3/site-packages/tabulate/" in done.stdout
    assert "installing" not in done.stdout + done.stderr
    job = cloud.cluster.list("jobs")[-1]
    volumes = job["spec"]["template"]["spec"]["volumes"]
    reference = volumes[-1]["image"]["reference"]
    name = plan["packages_image"].partition(":cpu-")[0]
    assert reference.startswith(f"{name}@sha256:")
    # By this the image is known to be in use once the Job is gone.
    runs = api.find_runs(RunQuery(of_function="describe"))
    assert reference in {run.labels.get(PACKAGES_LABEL) for run in runs}

    again = project.python("call.py", KINETIC_PROGRESS="verbose")
    assert "answer: 3.0 million 0.9.0 " in again.stdout, again.stderr
    assert f"{plan['packages_image']} exists" in again.stderr
    later = cloud.cluster.list("jobs")[-1]
    assert later["spec"]["template"]["spec"]["volumes"][-1]["image"]["reference"] == reference


def test_whoever_may_not_push_has_packages_installed_unless_a_volume_is_demanded(
    project: Project, cloud: QuickCloud, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text("{}")
    project.write({"requirements.txt": "tabulate==0.9.0\nhumanize==4.12.2\n"})
    refused = project.python("call.py", KINETIC_PREBUILT="volume")
    assert refused.returncode != 0
    assert "refuses to take uploads" in refused.stderr
    done = project.python("call.py")
    # What the base has is not on this machine, and the index is out of the pod's reach.
    assert re.search(r"installing \d+ of the project's \d+ packages", done.stderr)
    assert (
        "packages are installed when the run starts: the image that would be mounted cannot be "
        "made: the registry us-docker.pkg.dev refuses to take uploads"
    ) in done.stderr


def test_a_volume_that_nodes_cannot_mount_is_refused_before_anything_is_made(
    project: Project, cloud: QuickCloud
) -> None:
    node = cloud.cluster.list("nodes")[0]["metadata"]["name"]

    def change(runtime: str) -> None:
        def edit(item: dict[str, Any]) -> None:
            item["status"]["nodeInfo"]["containerRuntimeVersion"] = runtime

        cloud.cluster.change("nodes", node, edit, "")

    change("containerd://2.0.5")
    try:
        done = project.python("call.py", KINETIC_PREBUILT="volume")
    finally:
        change("containerd://2.1.4")
    assert done.returncode != 0
    assert "KINETIC_PREBUILT is 'volume', and packages cannot be mounted: nodes of the pool" in (
        done.stderr
    )
    assert "containerd 2.0.5, and image volumes need containerd 2.1" in done.stderr
