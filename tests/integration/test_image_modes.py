"""Whole calls in images that nothing is built for: the person's own, and prebuilt bases."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from newest_runs import newest_run
from projects import make_project

from kinetic_flows.cli.main import main
from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient, core_path
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.work_pools import WorkPools
from kinetic_flows.core.errors import ImageError, RunCrashed
from kinetic_flows.images import tags
from kinetic_flows.images.bases import lean_inputs, read_base_inputs
from kinetic_flows.images.inspection import PYTHON_VARIABLE
from kinetic_flows.images.labels import LABEL_CATEGORY, LABEL_PYTHON
from kinetic_flows.platforms.gke.manifests import base_job_template
from loopback.__main__ import BUILDS_BUCKET, CLUSTER, JOBS_BUCKET, PROJECT, environment_of
from loopback.cloud import REGISTRY_HOST, LoopbackCloud
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup
from loopback.kubernetes.podman import PodmanRuntime
from loopback.lifted_python import MINOR
from loopback.own_images import add_tag, push_directory, push_dockerfile
from loopback.small_images import Pusher

pytest_plugins = ["loopback.fixtures"]
# The first test that needs a base image builds one, JAX included.
pytestmark = pytest.mark.timeout(900)

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_image"
OWN = f"{PROJECT}/own"
CLUSTER_REPOSITORY = f"{PROJECT}/kn-{CLUSTER}"
NO_INDEX = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple", "UV_HTTP_RETRIES": "0"}
"""Variables of a pod that make it ask an index that nobody runs."""

FUNCTIONS = """
    import kinetic

    @kinetic.run(accelerator="cpu")
    def describe(count):
        import humanize

        print(f"describing {count}")
        return humanize.intword(count)

    @kinetic.run(accelerator="cpu")
    def surroundings():
        import os

        return os.getuid(), os.environ["GREETING"], os.access("/usr", os.W_OK)

    @kinetic.run(accelerator="cpu", framework="none")
    def frameworks():
        import importlib.util

        names = ("jax", "numpy", "cloudpickle", "humanize")
        return [name for name in names if importlib.util.find_spec(name)]
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


@pytest.fixture(scope="module")
def own_image(loopback_cloud: LoopbackCloud) -> str:
    """The image of the example, with an ENTRYPOINT, a USER, a WORKDIR and an ENV."""
    loopback_cloud.create_repository(*OWN.split("/"))
    return push_directory(loopback_cloud, f"{OWN}/example:v1", EXAMPLE)


@pytest.fixture
def project(
    loopback_cloud: LoopbackCloud,
    cluster: LoopbackCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_api_url: str,
    shared_kinetic_home: Path,
) -> Iterator[Any]:
    """A project whose functions run on the loopback cloud."""
    loopback_cloud.create_repository(*CLUSTER_REPOSITORY.split("/"))
    loopback_cloud.create_repository(*OWN.split("/"))
    for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
        loopback_cloud.storage.create_bucket(bucket)
    for name, value in environment_of(loopback_cloud).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))
    monkeypatch.setenv("KINETIC_HOME", str(shared_kinetic_home))
    files = {
        "moded_functions.py": FUNCTIONS,
        "example_of_own_image.py": (EXAMPLE / "train.py").read_text(),
        "requirements.txt": "humanize==4.12.3\n",
    }
    yield make_project(tmp_path / "project", monkeypatch, files)
    for name in ("moded_functions", "example_of_own_image"):
        sys.modules.pop(name, None)


@pytest.fixture
def functions(project: Any) -> ModuleType:
    module: ModuleType = project.module("moded_functions")
    return module


@pytest.fixture
def prebuilt_base(functions: ModuleType, loopback_cloud: LoopbackCloud) -> str:
    """A repository that has the product's own cpu base, under this version's tag."""
    functions.describe(1)
    inputs = read_base_inputs("cpu", MINOR)
    built = tags.base_tag(MINOR, inputs.identity)
    tag = f"{version('kinetic-flows')}-py{MINOR}"
    add_tag(loopback_cloud, f"{CLUSTER_REPOSITORY}/base-cpu", built, tag)
    return f"{REGISTRY_HOST}/{CLUSTER_REPOSITORY}"


def job_of(cluster: LoopbackCluster, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        job for job in cluster.list("jobs") if run_id in job["metadata"]["name"]
    )
    return found


def test_the_example_of_an_image_of_ones_own_runs_as_it_is(
    project: Any,
    own_image: str,
    loopback_cloud: LoopbackCloud,
    cluster: LoopbackCluster,
    api: PrefectApi,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    builds = len(loopback_cloud.builds.builds)
    monkeypatch.setenv("KINETIC_CONTAINER_IMAGE", own_image)
    monkeypatch.setenv("KINETIC_PROGRESS", "verbose")
    describe = project.module("example_of_own_image").describe

    assert describe(1_000_000) == "hello from an image of my own: 1.0 million"

    shown = capfd.readouterr().err
    assert shown.count("requirements.txt is ignored") == 1
    assert "MB compressed" in shown
    assert len(loopback_cloud.builds.builds) == builds
    job = job_of(cluster, newest_run(api).id)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith(f"{REGISTRY_HOST}/{OWN}/example@sha256:")
    assert (container["command"], container["args"][0]) == (["python3", "-u"], "-c")


def test_no_shell_no_root_and_no_writable_file_system_are_needed(
    functions: ModuleType,
    own_image: str,
    loopback_cloud: LoopbackCloud,
    tmp_path: Path,
    prefect_api_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remove = (
        "import os; d = '/usr/bin/'; [os.remove(d + n) for n in os.listdir(d) if n[:6] != 'python']"
    )
    text = f'FROM {own_image}\nUSER root\nRUN ["python3", "-c", "{remove}"]\nUSER 65534\n'
    image = push_dockerfile(loopback_cloud, f"{OWN}/distroless:v1", text, tmp_path / "image")
    template = base_job_template()
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    pod["containers"][0]["securityContext"] = {"readOnlyRootFilesystem": True}
    WorkPools(prefect_api_url).create("read-only", "kubernetes", template)
    monkeypatch.setenv("KINETIC_WORK_POOL", "read-only")

    surroundings = functions.surroundings.with_options(container_image=image)

    assert surroundings() == (65534, "hello from an image of my own", False)


def test_another_python_is_refused_before_anything_is_launched(
    functions: ModuleType, loopback_cloud: LoopbackCloud, cluster: LoopbackCluster
) -> None:
    pusher = Pusher(loopback_cloud.registry.url, f"{OWN}/other")
    pusher.push_image("by-variable", {}, environment={PYTHON_VARIABLE: "3.9.1"})
    pusher.push_image("by-label", {LABEL_PYTHON: "3.9"})
    jobs = len(cluster.list("jobs"))

    for tag in ("by-variable", "by-label"):
        other = functions.describe.with_options(
            container_image=f"{REGISTRY_HOST}/{OWN}/other:{tag}"
        )
        for attempt in (other.plan, other):
            with pytest.raises(ImageError, match=r"has Python 3\.9") as raised:
                attempt(1)
            assert f"use an image with Python {MINOR}" in str(raised.value)
    assert len(cluster.list("jobs")) == jobs


@pytest.mark.parametrize("package", ["cloudpickle", "google-cloud-storage"])
def test_the_runner_names_what_an_image_lacks(
    functions: ModuleType,
    own_image: str,
    loopback_cloud: LoopbackCloud,
    tmp_path: Path,
    package: str,
) -> None:
    text = f"FROM {own_image}\nUSER root\nRUN python3 -m pip uninstall --yes {package}\n"
    image = push_dockerfile(loopback_cloud, f"{OWN}/without-{package}:v1", text, tmp_path / "image")

    with pytest.raises(RunCrashed, match=f"the image lacks {package}; add {package} to the image"):
        functions.describe.with_options(container_image=image)(1)


def test_of_an_image_seen_before_nothing_is_fetched(
    functions: ModuleType, own_image: str, loopback_cloud: LoopbackCloud
) -> None:
    describe = functions.describe.with_options(container_image=own_image)
    first = describe.plan(1)
    requests = loopback_cloud.front.server.requests
    before = len(requests)

    assert describe.plan(1) == first
    # The first answer asks for a token, which the second request has.
    assert [method for method, path in requests[before:] if "/v2/" in path] == ["HEAD", "HEAD"]


def test_check_image_tells_people_and_machines(
    project: Any,
    own_image: str,
    loopback_cloud: LoopbackCloud,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check-image", own_image, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert ended.value.code == 0
    assert (told["fits"], told["python"], told["platform"]) == (True, MINOR, "linux/amd64")
    assert (told["user"], told["working_directory"]) == ("65534", "/home")

    arm = Pusher(loopback_cloud.registry.url, f"{OWN}/arm")
    arm.push_image("latest", {}, architecture="arm64")
    with pytest.raises(SystemExit) as ended:
        main(["check-image", f"{REGISTRY_HOST}/{OWN}/arm"])
    shown = capsys.readouterr().out
    assert ended.value.code == ImageError.exit_code
    assert "is for linux/arm64, the nodes are linux/amd64" in shown
    assert "whatever was pushed as 'latest' last" in shown
    assert shown.rstrip().endswith("cannot run calls")


def _of_the_image(plan: Any) -> list[str]:
    """Return what a plan warns of, but for where this machine's Prefect API is."""
    return [line for line in plan.warnings if "is this machine's own" not in line]


def test_a_prebuilt_base_gets_the_packages_when_it_starts(
    functions: ModuleType,
    prebuilt_base: str,
    loopback_cloud: LoopbackCloud,
    capfd: pytest.CaptureFixture[str],
) -> None:
    builds = len(loopback_cloud.builds.builds)
    describe = functions.describe.with_options(
        container_image="prebuilt", base_image_repo=prebuilt_base
    )
    plan = describe.plan(1)
    assert plan.image == f"{prebuilt_base}/base-cpu:{version('kinetic-flows')}-py{MINOR}"
    assert not _of_the_image(plan)

    assert describe(1_000_000) == "1.0 million"

    shown = capfd.readouterr()
    assert "installing 1 of the project's" in shown.err
    assert "+ humanize==4.12.3" in shown.err
    assert len(loopback_cloud.builds.builds) == builds
    assert describe(2_000_000) == "2.0 million"
    again = capfd.readouterr().err
    assert "installing 1 of the project's" in again, "each pod starts from the base"
    assert "upload-dependencies" not in again, "they are in the bucket"


def test_without_an_index_shipped_wheels_are_enough_and_a_failure_names_the_package(
    functions: ModuleType, prebuilt_base: str, cluster: LoopbackCluster
) -> None:
    secret = {"metadata": {"name": "no-index"}, "stringData": NO_INDEX}
    client = KubernetesClient(Kubeconfig(path=str(cluster.kubeconfig())))
    client.ask("POST", core_path("default", "secrets"), body=secret)
    describe = functions.describe.with_options(
        container_image="prebuilt",
        base_image_repo=prebuilt_base,
        job_variables={"env_from": [{"secretRef": {"name": "no-index"}}]},
    )
    with pytest.raises(RunCrashed, match="uv could not install humanize") as raised:
        describe(1)
    assert "127.0.0.1:9" in str(raised.value), "uv's own words follow"

    assert describe.with_options(ship_wheels=True)(1_000_000) == "1.0 million"


def test_a_base_that_is_missing_or_for_something_else_is_an_error_of_the_plan(
    functions: ModuleType, loopback_cloud: LoopbackCloud
) -> None:
    repository = f"{REGISTRY_HOST}/{OWN}"
    describe = functions.describe.with_options(
        container_image="prebuilt", base_image_repo=repository
    )
    build = f"kinetic build-image --repo {repository} --category cpu"
    with pytest.raises(ImageError, match=r"base-cpu:\S+ does not exist") as raised:
        describe.plan(1)
    assert build in str(raised.value)

    Pusher(loopback_cloud.registry.url, f"{OWN}/base-cpu").push_image(
        version("kinetic-flows"), {LABEL_CATEGORY: "gpu", LABEL_PYTHON: MINOR}
    )
    with pytest.raises(ImageError, match="is for gpu where cpu is needed") as raised:
        describe(1)
    assert build in str(raised.value)


def test_a_base_without_our_labels_is_taken_at_its_word_with_one_warning(
    functions: ModuleType, loopback_cloud: LoopbackCloud
) -> None:
    Pusher(loopback_cloud.registry.url, f"{OWN}/elsewhere/base-cpu").push_image(
        version("kinetic-flows"), {}
    )
    plan = functions.describe.with_options(
        container_image="prebuilt", base_image_repo=f"{REGISTRY_HOST}/{OWN}/elsewhere"
    ).plan(1)
    (warning,) = _of_the_image(plan)
    assert "was not built by kinetic build-image" in warning


def test_a_function_that_wants_no_framework_runs_on_a_lean_base(
    functions: ModuleType, loopback_cloud: LoopbackCloud
) -> None:
    assert functions.frameworks() == ["cloudpickle", "humanize"]

    plan = functions.frameworks.plan()
    assert plan.cached
    assert plan.environment.variant == "lean"
    lean = lean_inputs(read_base_inputs("cpu", MINOR))
    built = tags.base_tag(MINOR, lean.identity)
    add_tag(loopback_cloud, f"{CLUSTER_REPOSITORY}/base-cpu-lean", built, "found")


def test_the_mode_is_switched_for_one_run_and_nothing_else_changes(
    functions: ModuleType,
    prebuilt_base: str,
    own_image: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    describe = functions.describe.with_options(base_image_repo=prebuilt_base)
    plans = {"bundled": describe.plan(1)}
    for wish in ("prebuilt", own_image):
        by_option = describe.with_options(container_image=wish).plan(1)
        monkeypatch.setenv("KINETIC_CONTAINER_IMAGE", wish)
        by_variable = describe.plan(1)
        # The variable is what somebody sets for one run: it wins over what the code says.
        over_code = describe.with_options(container_image="bundled").plan(1)
        monkeypatch.delenv("KINETIC_CONTAINER_IMAGE")
        assert by_option == by_variable == over_code
        plans[by_option.mode] = by_option

    assert set(plans) == {"bundled", "prebuilt", "custom"}
    assert describe.plan(1) == plans["bundled"]
    same = ("name", "platform", "accelerator", "code", "dependency_file", "dependency_source")
    assert len({tuple(getattr(plan, name) for name in same) for plan in plans.values()}) == 1
    packages = [
        {p.name for p in plans[mode].environment.packages} for mode in ("bundled", "prebuilt")
    ]
    assert packages[0] == packages[1]


TABLE = """\
| Mode                  | `container_image=`    | Build step                       | Dependencies installed              |
| --------------------- | --------------------- | -------------------------------- | ----------------------------------- |
| **Bundled** (default) | `None` or `"bundled"` | Cloud Build (cached by dep hash) | Baked into the image                |
| **Prebuilt**          | `"prebuilt"`          | None                             | At pod startup via `uv pip install` |
| **Custom**            | `"<image-uri>"`       | None (you manage it)             | Whatever is in your image           |
"""  # noqa: E501 - the documentation's own table


def test_the_documented_table_of_modes_is_what_plans_say(
    functions: ModuleType, prebuilt_base: str, own_image: str
) -> None:
    wishes: dict[str, tuple[str, tuple[str | None, ...]]] = {
        "**Bundled** (default)": ('`None` or `"bundled"`', (None, "bundled")),
        "**Prebuilt**": ('`"prebuilt"`', ("prebuilt",)),
        "**Custom**": ('`"<image-uri>"`', (own_image,)),
    }
    rows = [["Mode", "`container_image=`", "Build step", "Dependencies installed"]]
    for label, (written, images) in wishes.items():
        for image in images:
            plan = functions.describe.with_options(
                container_image=image, base_image_repo=prebuilt_base
            ).plan(1)
            told = plan.to_json()
            assert told["mode"] == label.strip("*").partition("*")[0].lower()
            row = [label, written, told["build_step"], told["packages_come"]]
        rows.append(row)

    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    lines = ("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows)
    assert "".join(f"{line}\n" for line in lines) == TABLE
