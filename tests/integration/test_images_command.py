"""`kinetic images` on a real registry, a real Prefect server and the loopback cluster."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from kinetic_flows.cli.main import main
from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.deployments import NewDeployment, PrefectDeployments
from kinetic_flows.clients.prefect.flow_names import DEPLOY_FLOW, GROUP_FLOW, PARENT_FLOW
from kinetic_flows.clients.prefect.labels import IMAGE_LABEL, PREPARING
from kinetic_flows.clients.prefect.records import NewRun, RunQuery
from kinetic_flows.clients.registry.credentials import RegistryCredentials
from kinetic_flows.clients.registry.documents import INDEX_TYPES, digest_of
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.images.assembly.compose import OCI_CONFIG, OCI_LAYER, descriptor
from kinetic_flows.images.assembly.start import OCI_MANIFEST
from kinetic_flows.images.labels import LABEL_BASE_NAME
from loopback.kubernetes.access import Denial
from loopback.kubernetes.cluster import TOKEN, LoopbackCluster
from loopback.registry import DockerRegistry, RegistryFront
from loopback.wire import wait_until

pytest_plugins = ["loopback.fixtures"]

HOST = "us-docker.pkg.dev"


class Login:
    """Stands for `docker login`."""

    def find(self, registry: str) -> RegistryCredentials | None:
        return RegistryCredentials(username="pusher", password="secret")


class Repository:
    """A cluster's image repository, with images pushed long ago."""

    def __init__(self, front: RegistryFront) -> None:
        self.path = f"project/kn-{uuid4().hex[:8]}"
        self.name = f"{HOST}/{self.path}"
        self.front = front
        front.repositories.add(self.path)
        front.accounts["pusher"] = "secret"
        self.writer = RegistryWriter(credentials=Login(), endpoints={HOST: front.url})

    def push(
        self,
        image: str,
        tag: str,
        *layers: bytes,
        base: str = "",
        history: str = "",
        days: float = 90,
    ) -> str:
        """Push an image, and return its reference by digest."""
        name = f"{self.name}/{image}"
        labels = {LABEL_BASE_NAME: base} if base else {}
        config = json.dumps(
            {"config": {"Labels": labels}, "history": [{"created_by": history}], "for": tag}
        ).encode()
        for content in (config, *layers):
            self._upload(name, content)
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, digest_of(config), len(config)),
            "layers": [descriptor(OCI_LAYER, digest_of(each), len(each)) for each in layers],
        }
        content = json.dumps(manifest).encode()
        digest = self.writer.put_manifest(f"{name}:{tag}", content, OCI_MANIFEST)
        pushed = time.time() - days * 86400
        self.front.manners.pushed_at[f"{self.path}/{image}", digest] = pushed
        return f"{name}@{digest}"

    def _upload(self, name: str, content: bytes) -> None:
        self.writer.upload(
            name,
            digest_of(content),
            len(content),
            lambda offset: io.BytesIO(content[offset:]),
        )

    def tags(self) -> set[str]:
        names = ("app", "base-cpu", "layers")
        return {tag for name in names for tag in self.writer.tags(f"{self.name}/{name}")}


@pytest.fixture
def repository(
    artifact_registry: RegistryFront, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Repository]:
    made = Repository(artifact_registry)
    auth = base64.b64encode(b"pusher:secret").decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {HOST: {"auth": auth}}}))
    for name, value in {
        "DOCKER_CONFIG": str(tmp_path),
        "KINETIC_PLATFORM": "gke",
        "KINETIC_PROJECT": "project",
        "KINETIC_IMAGE_REPO": made.name,
        "KINETIC_REGISTRY_ENDPOINTS": f"{HOST}={artifact_registry.url}",
    }.items():
        monkeypatch.setenv(name, value)
    yield made
    made.writer.close()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackCluster]:
    with LoopbackCluster(tmp_path) as running:
        monkeypatch.setenv("KUBECONFIG", str(running.kubeconfig()))
        yield running


@pytest.fixture
def kinetic(
    capsys: pytest.CaptureFixture[str], api: PrefectApi
) -> Callable[..., tuple[int, str, str]]:
    left = [RunQuery(state_name=PREPARING)]
    flows = (PARENT_FLOW, GROUP_FLOW, DEPLOY_FLOW)
    left += [RunQuery(flow=flow, state_types=("RUNNING",)) for flow in flows]
    for run_of_another_test in (each for query in left for each in api.find_runs(query)):
        api.set_state(run_of_another_test.id, "CRASHED")

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def create_job(cluster: LoopbackCluster, image: str) -> None:
    container = {"name": "main", "image": image, "command": ["sleep", "60"]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"j-{uuid4().hex[:6]}"},
        "spec": {"template": {"spec": {"containers": [container], "restartPolicy": "Never"}}},
    }
    url = f"{cluster.url}/apis/batch/v1/namespaces/default/jobs"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    httpx.post(url, json=job, headers=headers).raise_for_status()
    wait_until(lambda: bool(cluster.list("pods")), 10, "the pod of the Job")


def test_only_what_nothing_uses_goes_and_only_when_told_to(
    repository: Repository,
    cluster: LoopbackCluster,
    api: PrefectApi,
    kinetic: Callable[..., tuple[int, str, str]],
) -> None:
    base = repository.push("base-cpu", "py3.11-a", b"python", b"jax")
    of_job = repository.push("app", "cpu-job", b"python", b"jax", b"numpy", base=base)
    of_run = repository.push("app", "cpu-run", b"python", b"run")
    of_deployment = repository.push("app", "cpu-deployment", b"python", b"deployment")
    repository.push("app", "cpu-new", b"python", b"new", days=1)
    repository.push("app", "cpu-unused", b"python", b"unused" * 1000)
    repository.push("base-cpu", "py3.10-a", b"python", b"old jax")
    wheel = f"kinetic wheel numpy==2.1.0 sha256:{'0' * 64} py3.11"
    repository.push("layers", "whl-numpy", b"numpy", history=wheel)
    repository.push("layers", "whl-unused", b"unused" * 1000)
    create_job(cluster, of_job)
    api.create_run(new_run(of_run))
    PrefectDeployments(api).save(new_deployment(of_deployment))

    code, shown, _ = kinetic("images", "ls", "--layers")
    assert code == 0
    assert "numpy 2.1.0 (Python 3.11)" in shown
    assert "app:cpu-unused" in shown
    assert f"{repository.name}: 7 images and 2 layers" in shown
    lines = {line.split("  ")[0]: line for line in shown.splitlines()}
    assert "job default/" in lines["app:cpu-job"]
    assert " more" not in lines["app:cpu-job"], "its pod is not told of besides"
    assert "run " in lines["app:cpu-run"]
    assert "deployment nightly" in lines["app:cpu-deployment"]
    assert "pushed lately" in lines["app:cpu-new"]
    assert lines["app:cpu-unused"].endswith("nothing")
    assert "image app:cpu-job" in lines["base-cpu:py3.11-a"]

    everything = repository.tags()
    code, told, _ = kinetic("images", "prune")
    assert code == 0
    assert "would delete 2 images and 1 layer, 6.2 kB: --yes deletes them" in told
    assert repository.tags() == everything

    _, document, _ = kinetic("images", "prune", "--json")
    unused = json.loads(document)
    assert not unused["deleted"]
    assert [each["tags"] for each in unused["images"]] == [
        ["cpu-unused"],
        ["py3.10-a"],
        ["whl-unused"],
    ]

    code, told, _ = kinetic("images", "prune", "--yes")
    assert code == 0
    assert "deleted 2 images and 1 layer" in told
    assert everything - repository.tags() == {"cpu-unused", "py3.10-a", "whl-unused"}
    _, told, _ = kinetic("images", "prune", "--yes")
    assert "all 5 images and 1 layer have been used or pushed within 30d" in told


def test_who_sees_one_namespace_alone_is_shown_what_is_used_there(
    repository: Repository, cluster: LoopbackCluster, kinetic: Callable[..., tuple[int, str, str]]
) -> None:
    create_job(cluster, repository.push("app", "cpu-job", b"python"))
    repository.push("app", "cpu-unused", b"python")
    cluster.access.denials += [
        Denial(resource=resource, verb="list", namespace="") for resource in ("jobs", "pods")
    ]

    code, shown, _ = kinetic("images", "ls")

    assert code == 0
    assert "job default/" in shown
    assert "GET /apis/batch/v1/namespaces/default/jobs" in cluster.requests

    code, _, error = kinetic("images", "prune", "--yes")

    assert code == 8
    assert "the jobs of all namespaces may not be listed" in error
    assert "--clusterrole=view" in error
    assert repository.tags() == {"cpu-job", "cpu-unused"}


def test_nothing_is_deleted_while_it_is_not_known_what_uses_it(
    repository: Repository,
    kinetic: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    repository.push("app", "cpu-unused", b"python")
    nowhere = {"server": "http://127.0.0.1:9"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "gone", "cluster": nowhere}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "me"}}],
        "current-context": "gone",
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))

    code, _, error = kinetic("images", "prune", "--yes")
    assert code != 0
    assert "cannot be reached" in error
    assert repository.tags() == {"cpu-unused"}

    code, shown, error = kinetic("images", "ls")
    assert code == 0
    assert "what uses them is not known" in error
    assert "app:cpu-unused" in shown
    assert "USED BY" not in shown


def test_an_empty_repository_and_a_wrong_age_are_said(
    repository: Repository, cluster: LoopbackCluster, kinetic: Callable[..., tuple[int, str, str]]
) -> None:
    code, shown, _ = kinetic("images", "ls")
    assert (code, shown) == (0, f"{repository.name} keeps no images\n")
    code, _, error = kinetic("images", "prune", "--repo", "a repository")
    assert code == 3
    assert "--repo" in error
    code, _, error = kinetic("images", "prune", "--older-than", "30 days")
    assert code == 2
    assert "--older-than is '30 days'" in error
    for too_short in ("12h", "2999-01-01"):
        code, _, error = kinetic("images", "prune", "--older-than", too_short)
        assert code == 2
        assert "less than a day ago" in error


def test_a_base_in_a_repository_of_bases_is_used_by_a_projects_image(
    repository: Repository,
    artifact_registry: RegistryFront,
    cluster: LoopbackCluster,
    kinetic: Callable[..., tuple[int, str, str]],
) -> None:
    bases = Repository(artifact_registry)
    used = bases.push("base-cpu", "used", b"python", b"jax")
    bases.push("base-cpu", "unused", b"python")
    create_job(cluster, repository.push("app", "cpu-job", b"numpy", base=used))

    code, _, _ = kinetic("images", "prune", "--repo", bases.name, "--yes")

    assert code == 0
    assert bases.tags() == {"used"}
    assert repository.tags() == {"cpu-job"}
    bases.writer.close()


def test_where_the_registry_tells_no_times_age_counts_from_when_it_was_listed_first(
    repository: Repository,
    cluster: LoopbackCluster,
    docker_registry: DockerRegistry,
    kinetic: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
) -> None:
    repository.push("app", "cpu-unused", b"python")
    plain = f"{docker_registry.host}/{repository.path}"

    _, told, _ = kinetic("images", "prune", "--repo", plain)
    assert "all 1 image and 0 layers have been used or pushed within 30d" in told
    assert "this machine listed them first" in told

    (seen,) = (tmp_path / "kinetic-home" / "images").glob("seen-127*.json")
    moments = json.loads(seen.read_text())
    long_ago = (datetime.now(UTC) - timedelta(days=31)).isoformat()
    seen.write_text(json.dumps(dict.fromkeys(moments, long_ago)))
    _, told, _ = kinetic("images", "prune", "--repo", plain)
    assert "would delete 1 image and 0 layers" in told


def test_nothing_is_deleted_while_a_run_is_prepared_that_may_use_it(
    repository: Repository,
    cluster: LoopbackCluster,
    api: PrefectApi,
    kinetic: Callable[..., tuple[int, str, str]],
) -> None:
    repository.push("app", "cpu-unused", b"python")
    run = replace(new_run("nothing"), labels={}, state_name=PREPARING)
    steps = replace(run, flow=GROUP_FLOW, tags=(), state_type="RUNNING", state_name="Running")
    for each in (run, steps):
        run_id = api.create_run(each)
        code, _, error = kinetic("images", "prune", "--yes")
        assert code == 6
        assert "is being prepared, and may use any image" in error
        assert repository.tags() == {"cpu-unused"}
        assert "would delete 1 image" in kinetic("images", "prune")[1]
        api.set_state(run_id, "CRASHED")

    code, _, _ = kinetic("images", "prune", "--yes")
    assert code == 0
    assert repository.tags() == set()


def test_an_index_goes_before_the_images_in_it(
    repository: Repository, cluster: LoopbackCluster, kinetic: Callable[..., tuple[int, str, str]]
) -> None:
    part = repository.push("app", "amd64", b"python").partition("@")[2]
    name = f"{repository.name}/app"
    size = len(repository.writer.manifest(f"{name}@{part}").content)  # type: ignore[union-attr]
    described = [descriptor(OCI_MANIFEST, part, size)]
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": described}
    content = json.dumps(index).encode()
    for tag in ("x", "y", "z"):
        digest = repository.writer.put_manifest(f"{name}:{tag}", content, INDEX_TYPES[0])
    repository.front.manners.pushed_at[f"{repository.path}/app", digest] = 1e9

    code, told, _ = kinetic("images", "prune", "--yes")

    assert code == 0
    assert "deleted 2 images" in told
    assert repository.tags() == set()


def test_a_registry_that_deletes_nothing_is_said(
    cluster: LoopbackCluster,
    repository: Repository,
    kinetic: Callable[..., tuple[int, str, str]],
) -> None:
    repository.push("app", "cpu-unused", b"python")
    repository.front.manners.deletes = False

    code, _, error = kinetic("images", "prune", "--yes")

    assert code == 6
    assert "deletes nothing" in error
    assert "cleanup-policy" in error


def new_run(image: str) -> NewRun:
    return NewRun(
        flow="train",
        name="train",
        parent_flow_run_id=None,
        parameters={},
        tags=("kinetic",),
        labels={IMAGE_LABEL: image},
        job_variables={},
    )


def new_deployment(image: str) -> NewDeployment:
    return NewDeployment(
        flow=f"train-{uuid4().hex[:6]}",
        name="nightly",
        description="",
        version="1",
        tags=("kinetic",),
        labels={},
        parameters={},
        parameter_schema={},
        schedules=(),
        paused=None,
        concurrency_limit=None,
        work_pool="",
        job_variables={"image": image},
    )
