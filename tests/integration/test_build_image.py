"""`kinetic build-image` on the loopback cloud: real builds, real registries, nothing leaked."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pexpect
import pytest
from prefect_http import PREFECT
from prefect_workers import install_work_pool
from projects import make_project

from kinetic_flows import __version__ as VERSION
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.clients.registry.images import OciRegistry
from kinetic_flows.core.errors import BuildError, ImageError, RegistryAccessError, UsageError
from kinetic_flows.images.base_lookup import WantedBase, find_base
from kinetic_flows.platforms.gke.builds.artifact_registry import READER, WRITER
from loopback.__main__ import BUILDS_BUCKET, JOBS_BUCKET, PROJECT, environment_of
from loopback.cloud import REGISTRY_HOST, LoopbackCloud
from loopback.cloud import USERNAME as GOOGLE_ACCOUNT
from loopback.cloud_build import BUILD_ACCOUNT
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.node_groups import NodeGroup
from loopback.kubernetes.podman import PodmanRuntime
from loopback.lifted_python import MINOR

pytest_plugins = ["loopback.fixtures"]
pytestmark = pytest.mark.timeout(600)

KINETIC = Path(sys.executable).parent / "kinetic"
USERNAME = "someone"
TOKEN = "dckr_pat_not-to-be-seen"
PREPARED = f"""\
FROM docker.io/library/python:{MINOR}-slim-bookworm
RUN python3 -m pip install --no-cache-dir uv cloudpickle google-cloud-storage
"""
DOCKERFILE = f"""\
ARG KINETIC_CATEGORY
FROM docker.io/library/prepared-${{KINETIC_CATEGORY}}:{MINOR}
RUN python3 -m pip install uv cloudpickle google-cloud-storage
COPY remote_runner.py notes.txt /app/
"""
LOOKS_AT_A_PROCESS = 20
"""After so many it has become the program that it was started for."""

FUNCTIONS = """
    import kinetic

    @kinetic.run(accelerator="cpu", container_image="prebuilt")
    def read_notes(path):
        return open(path).read()
"""


@dataclass
class ProcessList:
    """Every command line that any process of this machine had while the block ran."""

    seen: set[str] = field(default_factory=set)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look again and again, in a thread."""
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,))
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        looks: Counter[str] = Counter()
        while not over.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                looks[process.name] += 1
                if looks[process.name] > LOOKS_AT_A_PROCESS:
                    continue
                with contextlib.suppress(OSError):
                    line = (process / "cmdline").read_bytes()
                    self.seen.add(line.replace(b"\0", b" ").decode(errors="replace"))


@dataclass(frozen=True, kw_only=True)
class Command:
    """The command as a person runs it, against the loopback cloud."""

    cloud: LoopbackCloud
    environment: Mapping[str, str]
    directory: Path

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it without a terminal."""
        return subprocess.run(
            [str(KINETIC), "build-image", *arguments],
            env={**self.environment, **variables},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def open(self, *arguments: str) -> pexpect.spawn[str]:
        """Run it on a pseudo-terminal."""
        return pexpect.spawn(
            str(KINETIC),
            ["build-image", *arguments],
            env={**self.environment, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
            cwd=str(self.directory),
            encoding="utf-8",
            timeout=180,
            dimensions=(40, 200),
        )

    def labels(self, path: str, tag: str) -> dict[str, str]:
        """Return the labels of an image behind the registries; none when there is no image."""
        manifest = self._get(path, f"manifests/{tag}")
        if not manifest:
            return {}
        config = self._get(path, f"blobs/{manifest['config']['digest']}")
        labels: dict[str, str] = config["config"]["Labels"]
        return labels

    def _get(self, path: str, what: str) -> dict[str, Any]:
        accept = "application/vnd.oci.image.manifest.v1+json"
        docker = "application/vnd.docker.distribution.manifest.v2+json"
        answer = httpx.get(
            f"{self.cloud.registry.url}/v2/{path}/{what}",
            headers={"Accept": f"{accept}, {docker}"},
        )
        content: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return content


@pytest.fixture(scope="module")
def prepared(loopback_cloud: LoopbackCloud, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that has what bases need, so that builds on it take seconds."""
    directory = tmp_path_factory.mktemp("prepared")
    (directory / "Dockerfile").write_text(PREPARED)
    image = "localhost/prepared"
    loopback_cloud.containers.run(
        "buildah", "bud", "--network", "host", "--tag", image, str(directory)
    )
    for category in ("cpu", "tpu"):
        offer(loopback_cloud, category)
    return image


def offer(cloud: LoopbackCloud, category: str) -> None:
    """Let builds find what they start from for a category."""
    target = f"docker://{cloud.registry.host}/library/prepared-{category}:{MINOR}"
    options = ("--tls-verify=false", "--disable-compression")
    cloud.containers.run("buildah", "push", *options, "localhost/prepared", target)


@pytest.fixture
def command(
    loopback_cloud: LoopbackCloud,
    prepared: str,
    prefect_api_url: str,
    shared_kinetic_home: Path,
    tmp_path: Path,
) -> Iterator[Command]:
    for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
        loopback_cloud.storage.create_bucket(bucket)
    (tmp_path / "Dockerfile.own").write_text(DOCKERFILE)
    (tmp_path / "notes.txt").write_text("noted")
    (tmp_path / "secret.env").write_text("not for the image")
    (tmp_path / ".dockerignore").write_text("*.env\n")
    kept = {name: os.environ[name] for name in os.environ if not name.startswith("KINETIC_")}
    yield Command(
        cloud=loopback_cloud,
        environment={
            **kept,
            **environment_of(loopback_cloud),
            "PREFECT_API_URL": prefect_api_url,
            "KINETIC_HOME": str(shared_kinetic_home),
        },
        directory=tmp_path,
    )
    hub = loopback_cloud.docker_hub
    hub.accounts.clear()
    hub.read_only.clear()
    loopback_cloud.front.read_only.clear()


OWN = ("--dockerfile", "Dockerfile.own", "--yes")


def test_a_base_is_built_tried_and_pushed_to_artifact_registry_and_prebuilt_mode_uses_it(
    command: Command,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = f"{REGISTRY_HOST}/{PROJECT}/published"
    asked = ("--repo", repository, "--category", "cpu", *OWN, "--tag", "v1")
    missing = command.run(*asked)
    assert missing.returncode == ImageError.exit_code
    where = f"--location=us --project={PROJECT}"
    assert f"repositories create published --repository-format=docker {where}" in missing.stderr
    grants = [line for line in missing.stderr.splitlines() if "add-iam-policy-binding" in line]
    assert [line.rpartition("=")[2] for line in grants] == [WRITER, READER]
    assert all(f"--member=serviceAccount:{BUILD_ACCOUNT}" in line for line in grants)
    command.cloud.create_repository(PROJECT, "published")
    command.cloud.artifacts.state.policies.grant(
        f"projects/{PROJECT}/locations/us/repositories/published",
        WRITER,
        f"serviceAccount:{BUILD_ACCOUNT}",
    )

    made = command.run(*asked, "--json")

    assert made.returncode == 0, made.stderr
    (image,) = json.loads(made.stdout)["images"]
    assert "gcloud" not in made.stderr, "what is granted is not asked for"
    assert image["action"] == "built"
    assert image["size_bytes"] > 1_000_000
    plain = command.labels(f"{PROJECT}/published/base-cpu", "v1")
    assert plain == command.labels(f"{PROJECT}/published/base-cpu", f"v1-py{MINOR}")
    assert (plain["kinetic.category"], plain["kinetic.python"]) == ("cpu", MINOR)
    builds = len(command.cloud.builds.builds)
    again = command.run(*asked)
    assert again.returncode == 0, again.stderr
    assert f"base-cpu:v1 holds exactly this: {image['digest']}" in again.stderr
    assert f"export KINETIC_BASE_IMAGE_REPO={repository}" in again.stdout
    assert "export KINETIC_BASE_IMAGE_TAG=v1" in again.stdout
    assert len(command.cloud.builds.builds) == builds
    (tmp_path / "notes.txt").write_text("changed")
    dry = command.run(*asked, "--dry-run")
    assert "COPY remote_runner.py notes.txt /app/" in dry.stdout
    assert len(command.cloud.builds.builds) == builds
    changed = command.run(*asked)
    assert f"replaces base-cpu:v1 {image['digest']}" in changed.stderr

    for name, value in command.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KINETIC_BASE_IMAGE_REPO", repository)
    directory = tmp_path_factory.mktemp("cluster")
    runtime = PodmanRuntime(containers=command.cloud.containers)
    with LoopbackCluster(directory, runtime=runtime) as cluster:
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig()))
        functions = functions_of(tmp_path, monkeypatch)
        with pytest.raises(ImageError, match=r"base-cpu.*does not exist"):
            functions.read_notes("/app/notes.txt")
        monkeypatch.setenv("KINETIC_BASE_IMAGE_TAG", "v1")
        assert functions.read_notes("/app/notes.txt") == "changed"


def functions_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A project whose functions run in prebuilt images."""
    project = make_project(
        tmp_path / "project",
        monkeypatch,
        {"prebuilt_functions.py": FUNCTIONS, "requirements.txt": ""},
    )
    monkeypatch.delitem(sys.modules, "prebuilt_functions", raising=False)
    return project.module("prebuilt_functions")


def test_a_category_that_fails_stops_no_other_and_a_rerun_makes_only_what_is_missing(
    command: Command,
) -> None:
    command.cloud.create_repository(PROJECT, "several")
    asked = ("--repo", f"{REGISTRY_HOST}/{PROJECT}/several", "--tag", "v1", *OWN)

    first = command.run(*asked)

    assert first.returncode == BuildError.exit_code, first.stderr
    results = {line.split()[0].rpartition("/")[2]: line.split()[1] for line in rows(first.stdout)}
    assert results == {"base-cpu:v1": "built", "base-gpu:v1": "failed", "base-tpu:v1": "built"}
    assert "1 of 3 base images could not be made" in first.stderr
    assert "prepared-gpu" in first.stderr
    assert not command.labels(f"{PROJECT}/several/base-gpu", "v1")
    builds = len(command.cloud.builds.builds)
    offer(command.cloud, "gpu")

    second = command.run(*asked)

    assert second.returncode == 0, second.stderr
    assert [line.split()[1] for line in rows(second.stdout)] == ["unchanged", "built", "unchanged"]
    assert len(command.cloud.builds.builds) == builds + 1


def rows(table: str) -> list[str]:
    """Return the rows of the command's table."""
    return [line for line in table.splitlines() if "/base-" in line]


def test_the_deployment_that_comes_with_us_builds_a_real_base_as_a_worker_would(
    command: Command, tmp_path: Path, prefect_api_url: str
) -> None:
    repository = f"{REGISTRY_HOST}/{PROJECT}/scheduled"
    command.cloud.create_repository(PROJECT, "scheduled")
    install_work_pool(prefect_api_url, "kinetic-gke")
    prefect_file = files("kinetic_flows.deployments") / "prefect.yaml"
    variables = {
        "KINETIC_CONTROLLER_IMAGE": f"{repository}/controller:{VERSION}",
        "KINETIC_BASE_IMAGE_REPO": repository,
    }
    deploy = ["--no-prompt", "deploy", "--prefect-file", str(prefect_file)]
    prefect(command, *deploy, "--name", "rebuild-base-images", **variables)
    name = "kinetic-build-image/rebuild-base-images"
    deployment = PREFECT.get(f"{prefect_api_url}/deployments/name/{name}").json()
    assert deployment["pull_steps"] in (None, [])
    assert deployment["work_pool_name"] == "kinetic-gke"
    assert deployment["job_variables"]["image"] == variables["KINETIC_CONTROLLER_IMAGE"]
    assert deployment["schedules"][0]["schedule"]["cron"] == "0 3 * * 1"

    unknown = command.run("--deployment", "rebuild")
    assert unknown.returncode == UsageError.exit_code
    assert "there is no deployment 'kinetic-build-image/rebuild'" in unknown.stderr
    lean = ("--category", "cpu-lean")
    asked = command.run("--deployment", "rebuild-base-images", *lean, "--detach")
    assert asked.returncode == 0, asked.stderr
    run_id, url = asked.stdout.split()
    assert url.endswith(run_id)
    run = PREFECT.get(f"{prefect_api_url}/flow_runs/{run_id}").json()
    assert run["parameters"]["categories"] == ["cpu-lean"]
    assert run["parameters"]["repository"] == repository
    prefect(command, "flow-run", "execute", run_id)

    ended = PREFECT.get(f"{prefect_api_url}/flow_runs/{run_id}").json()
    assert ended["state"]["type"] == "COMPLETED", ended["state"]
    labels = command.labels(f"{PROJECT}/scheduled/base-cpu-lean", f"{VERSION}-py{MINOR}")
    assert labels["kinetic.base-identity"]
    wanted = {"artifacts": {"key": {"any_": ["base-images"]}}, "sort": "CREATED_DESC"}
    newest = PREFECT.post(f"{prefect_api_url}/artifacts/filter", json=wanted).json()[0]
    (row,) = json.loads(newest["data"])
    assert (row["image"], row["result"]) == ("cpu-lean", "built")
    assert row["size (MB)"] > 20


def prefect(command: Command, *arguments: str, **variables: str) -> None:
    """Run Prefect's own command."""
    done = subprocess.run(
        [str(KINETIC.with_name("prefect")), *arguments],
        env={**command.environment, **variables},
        cwd=command.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_neither_an_image_that_fails_its_smoke_test_nor_one_without_rights_is_published(
    command: Command,
) -> None:
    command.cloud.create_repository(PROJECT, "broken")
    path = command.directory / "Dockerfile.broken"
    path.write_text(DOCKERFILE + "RUN python3 -m pip uninstall --yes cloudpickle\n")
    asked = ("--repo", f"{REGISTRY_HOST}/{PROJECT}/broken", "--category", "cpu", "--tag", "v1")

    failed = command.run(*asked, "--dockerfile", path.name, "--yes")

    assert failed.returncode == BuildError.exit_code
    assert "does not pass its smoke test" in failed.stderr
    assert "it cannot import cloudpickle: ModuleNotFoundError" in failed.stderr
    assert "lacks: RUN python3 -m pip install --no-cache-dir cloudpickle" in failed.stderr
    command.cloud.front.read_only.add(GOOGLE_ACCOUNT)
    refused = command.run(*asked, *OWN)
    assert refused.returncode == BuildError.exit_code
    assert f"rights: the build's account may not push to {REGISTRY_HOST}" in refused.stderr
    assert f"--member=serviceAccount:{BUILD_ACCOUNT} --role={WRITER}" in refused.stderr
    assert not command.labels(f"{PROJECT}/broken/base-cpu", "v1")
    assert not command.labels(f"{PROJECT}/broken/base-cpu", f"v1-py{MINOR}")


def test_docker_hub_is_logged_in_to_from_secret_manager_and_the_token_is_nowhere(
    command: Command, prefect_server: BackgroundServer
) -> None:
    hub, secrets = command.cloud.docker_hub, command.cloud.builds.secrets
    asked = ("--repo", f"{USERNAME}/kinetic", "--category", "cpu", "--tag", "v1", *OWN)
    login = {"KINETIC_DOCKERHUB_USERNAME": USERNAME, "KINETIC_DOCKERHUB_TOKEN": TOKEN}
    unknown = command.run(*asked)
    assert unknown.returncode == UsageError.exit_code
    assert "set KINETIC_DOCKERHUB_USERNAME and KINETIC_DOCKERHUB_TOKEN" in unknown.stderr
    hub.accounts[USERNAME] = "another"
    kept = set(secrets.names())
    wrong = command.run(*asked, **login)
    assert wrong.returncode == RegistryAccessError.exit_code
    assert "does not accept the access token of 'someone'" in wrong.stderr
    assert set(secrets.names()) == kept, "what Docker Hub does not accept is not kept"
    hub.accounts[USERNAME] = TOKEN
    processes = ProcessList()

    with processes.watched():
        made = command.run(*asked, **login)

    assert made.returncode == 0, made.stderr
    assert command.labels(f"{USERNAME}/kinetic-base-cpu", f"v1-py{MINOR}")
    assert f"export KINETIC_BASE_IMAGE_REPO={USERNAME}/kinetic\n" in made.stdout
    assert "gcloud secrets add-iam-policy-binding kinetic-docker-hub-token" in made.stderr
    assert any("login" in line and "--password-stdin" in line for line in processes.seen)
    assert not [line for line in processes.seen if TOKEN in line]
    assert TOKEN not in made.stdout + made.stderr
    assert_not_in(prefect_server.log_file.parent)
    # The command may leave nothing there at all.
    assert_not_in(Path(command.environment["KINETIC_HOME"]), may_be_empty=True)
    assert_not_in_buckets(command.cloud)
    assert_not_in(command.cloud.registry.directory)

    assert_prebuilt_mode_finds(f"{USERNAME}/kinetic", hub.url)
    strange = command.run("--repo", "stranger/kinetic", "--category", "cpu", *OWN)
    assert strange.returncode == BuildError.exit_code
    assert "its account must be 'stranger'" in strange.stderr
    hub.accounts[USERNAME] = "renewed"
    expired = command.run(*asked, "--no-cache")
    assert expired.returncode == RegistryAccessError.exit_code
    assert "it is wrong, has expired or was revoked" in expired.stderr
    assert "kinetic build-image --update-credentials" in expired.stderr
    login["KINETIC_DOCKERHUB_TOKEN"] = "renewed"
    renewed = command.run(*asked, "--no-cache", "--update-credentials", **login)
    assert renewed.returncode == 0, renewed.stderr
    hub.read_only.add(USERNAME)
    refused = command.run(*asked, "--no-cache")
    assert refused.returncode == BuildError.exit_code
    assert "rights: the build's account may not push to docker.io/someone/" in refused.stderr
    assert "Read & Write" in refused.stderr


def test_a_base_of_the_products_own_goes_to_docker_hub_by_either_way(command: Command) -> None:
    command.cloud.docker_hub.accounts[USERNAME] = TOKEN
    login = {"KINETIC_DOCKERHUB_USERNAME": USERNAME, "KINETIC_DOCKERHUB_TOKEN": TOKEN}
    asked = ("--repo", f"{USERNAME}/own", "--category", "cpu-lean", "--yes", "--json")
    builds = len(command.cloud.builds.builds)

    made = command.run(*asked, "--tag", "v1", "--update-credentials", **login)

    assert made.returncode == 0, made.stderr
    assert len(command.cloud.builds.builds) == builds, "made here, with the stored login"
    assert "assembled from " in made.stderr
    assert "builder: direct" in made.stderr
    labels = command.labels(f"{USERNAME}/own-base-cpu-lean", f"v1-py{MINOR}")
    assert labels["kinetic.variant"] == "lean"
    again = command.run(*asked, "--tag", "v2", KINETIC_BUILDER="cloud-build")
    assert again.returncode == 0, again.stderr
    assert len(command.cloud.builds.builds) == builds + 1
    (one,), (two,) = (json.loads(done.stdout)["images"] for done in (made, again))
    assert one["digest"] == two["digest"], "it differs in its tag alone"
    assert TOKEN not in made.stderr + again.stderr + again.stdout
    assert_not_in_buckets(command.cloud)


def assert_prebuilt_mode_finds(repository: str, url: str) -> None:
    """See that nodes and clients, who have no login, find the base."""
    with contextlib.closing(OciRegistry(endpoints={"docker.io": url})) as registry:
        wanted = WantedBase(repository=repository, category="cpu", python=MINOR, tag="v1")
        found = find_base(registry, wanted)
    assert found.reference.endswith(f"v1-py{MINOR}")
    assert not found.warnings


def assert_not_in(directory: Path, *, may_be_empty: bool = False) -> None:
    """See that no file below a directory holds the token."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert files or may_be_empty, directory
    assert not [path for path in files if TOKEN.encode() in path.read_bytes()]


def assert_not_in_buckets(cloud: LoopbackCloud) -> None:
    """See that no object holds the token: sources and logs of builds are there."""
    for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
        with contextlib.closing(GoogleStore(bucket, endpoint=cloud.storage.url)) as store:
            contents = [store.get(item.name).data for item in store.list("")]
        assert contents or bucket == JOBS_BUCKET
        assert not [data for data in contents if TOKEN.encode() in data]


def test_without_a_repository_it_asks_and_ends_with_the_command_that_does_not(
    command: Command,
) -> None:
    command.cloud.docker_hub.accounts[USERNAME] = TOKEN
    command.cloud.create_repository(PROJECT, "asked")
    shell = command.open("--dockerfile", "Dockerfile.own", "--update-credentials")
    answer(shell, "Google Cloud project", "")
    shell.expect("Registry")
    shell.send("\x1b[B\r")
    answer(shell, "Namespace", USERNAME)
    answer(shell, "Repository", "")
    shell.expect("Categories")
    shell.send("\x1b[B \x1b[B \r")
    answer(shell, "Tag", "\x7f" * 20 + "v/1")
    shell.expect("its tag|its repository|give it as")
    shell.send("\x7f" * 20 + "v2\r")
    answer(shell, "Docker Hub user name", USERNAME)
    answer(shell, "Access token", TOKEN)
    shell.expect("Build and push")
    shell.send("y")
    shell.expect("export KINETIC_BASE_IMAGE_REPO=someone/kinetic")
    shell.expect("kinetic build-image --repo someone/kinetic --category cpu --tag v2 --dockerfile")
    shell.expect(pexpect.EOF)
    shell.close()

    assert shell.exitstatus == 0
    assert command.labels(f"{USERNAME}/kinetic-base-cpu", "v2")


def test_a_repository_that_is_missing_is_made_and_the_answers_stay_when_it_may_not_be(
    command: Command,
) -> None:
    """What is missing is mended beside the command, which goes on from where it was."""
    denied = command.cloud.artifacts.state.denied
    denied.add(("*", "artifactregistry.repositories.create"))
    shell = command.open("--dockerfile", "Dockerfile.own", "--tag", "v9")
    answer(shell, "Google Cloud project", "")
    shell.expect("Registry")
    shell.send("\r")
    answer(
        shell,
        "Location of the repository",
        "\x7f" * 20 + REGISTRY_HOST.removesuffix("-docker.pkg.dev"),
    )
    answer(shell, "Repository", "\x7f" * 20 + "made-here")
    shell.expect("Categories")
    shell.send("\x1b[B \x1b[B \r")
    shell.expect("there is no repository .*/made-here yet")
    shell.expect("Create it")
    shell.send("y")
    shell.expect("repository made-here could not be made in project")
    shell.expect("gcloud artifacts repositories create made-here")
    shell.expect("Try again with the same answers")
    denied.clear()
    shell.send("y")
    shell.expect("Create it")
    shell.send("y")
    shell.expect("made-here: created")
    shell.expect("gcloud artifacts repositories add-iam-policy-binding made-here")
    shell.expect("Build and push")
    shell.send("n")
    shell.expect("nothing was built")
    shell.expect("kinetic build-image --repo .*/made-here --category cpu --tag v9 --dockerfile")
    shell.expect(pexpect.EOF)
    shell.close()
    assert shell.exitstatus == 1
    assert f"{PROJECT}/made-here" in command.cloud.front.repositories


def answer(shell: pexpect.spawn[str], question: str, text: str) -> None:
    """Wait for a question and answer it."""
    shell.expect(question)
    shell.send(f"{text}\r")
