"""A bundled image from nothing to a running container, with nothing pretended in between."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.registry.credentials import (
    FirstFound,
    GoogleRegistryCredentials,
    RegistryCredentials,
)
from kinetic_flows.clients.registry.documents import MANIFEST_TYPES
from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.envelope import open_result
from kinetic_flows.core.errors import BuildError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.images.bases import lean_inputs, read_base_inputs, read_bootstrap
from kinetic_flows.images.labels import (
    LABEL_BASE_IDENTITY,
    LABEL_BASE_NAME,
    LABEL_CATEGORY,
    LABEL_DEPENDENCY_HASH,
    LABEL_PYTHON,
    LABEL_VERSION,
)
from kinetic_flows.platforms.gke.builds.build import registry_login
from loopback.__main__ import CLUSTER, PROJECT
from loopback.clients import (
    INICONFIG_LOCK,
    PYTHON,
    CloudAddress,
    builder_of,
    environment_named,
    registry_of,
    request_for,
)
from loopback.cloud import ACCESS_TOKEN, LoopbackCloud
from runner_jobs import RUN_ID, RUN_KEY, Job

pytest_plugins = ["loopback.fixtures"]

# The first of them waits for a base image.
pytestmark = pytest.mark.timeout(900)

OTHER_LOCK = """\
# kinetic lock 1
iniconfig==2.1.0 \\
    --hash=sha256:9deba5723312380e77435581c6bf4935c94cbfab9b1ed33ef8d238ea168eb760
toolz==1.0.0 \\
    --hash=sha256:292c8f1c4e7516bf9086f8850935c799a874039c8bcf959d47b600e4c44a6236
"""


@pytest.fixture(scope="module")
def address(
    loopback_cloud: LoopbackCloud, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[CloudAddress]:
    """A project with buckets of its own; it shares its base image with whoever built it."""
    name = uuid4().hex[:10]
    path = f"{PROJECT}/kn-{CLUSTER}"
    repository = loopback_cloud.create_repository(*path.split("/"))
    loopback_cloud.front.private.add(path)
    yield CloudAddress(
        storage_url=loopback_cloud.storage.url,
        registry_url=loopback_cloud.front.url,
        build_endpoint=loopback_cloud.builds.endpoint,
        access_token=ACCESS_TOKEN,
        project=PROJECT,
        repository=repository,
        jobs_bucket=loopback_cloud.storage.create_bucket(f"jobs-{name}"),
        builds_bucket=loopback_cloud.storage.create_bucket(f"builds-{name}"),
        home=str(tmp_path_factory.mktemp("home")),
        hub_url=loopback_cloud.docker_hub.url,
        poll_seconds=0.05,
    )
    loopback_cloud.front.private.discard(path)


@pytest.fixture(scope="module")
def image(address: CloudAddress) -> ResolvedImage:
    """A project's image, which Cloud Build assembles, and its base where that is not kept."""
    environment = environment_named("one")
    with builder_of(address) as builder:
        return builder.build(request_for(address, environment), environment, lambda _: None)


@pytest.fixture
def layers(loopback_cloud: LoopbackCloud) -> Iterator[httpx.Client]:
    """A client for looking at the layers of images."""
    with httpx.Client(
        base_url=f"{loopback_cloud.registry.url}/v2/",
        headers={"Accept": ", ".join(MANIFEST_TYPES)},
    ) as client:
        yield client


def layers_of(client: httpx.Client, image: ResolvedImage) -> list[str]:
    path, _, digest = image.reference.partition("/")[2].partition("@")
    answer = client.get(f"{path}/manifests/{digest}")
    return [layer["digest"] for layer in answer.json()["layers"]]


def test_the_image_explains_itself(image: ResolvedImage) -> None:
    environment = environment_named("one")

    assert image.labels[LABEL_DEPENDENCY_HASH] == environment.dependency_hash
    assert image.labels[LABEL_CATEGORY] == "cpu"
    assert image.labels[LABEL_PYTHON] == environment.python
    assert image.labels[LABEL_BASE_IDENTITY] == environment.base_identity
    assert image.labels[LABEL_VERSION] == "0.1.0"


def test_a_container_of_the_digest_has_runtime_packages_and_bootstrap_for_any_user(
    loopback_cloud: LoopbackCloud, image: ResolvedImage
) -> None:
    script = (
        "import hashlib, json, os, pathlib\n"
        "import cloudpickle, google.cloud.storage, iniconfig, jax\n"
        "bootstrap = pathlib.Path('/app/remote_runner.py').read_bytes()\n"
        "constraints = pathlib.Path('/app/constraints.txt').read_text()\n"
        "print(json.dumps({'user': os.getuid(), 'jax': jax.__version__,\n"
        "    'device': jax.devices()[0].platform, 'constraints': constraints,\n"
        "    'bootstrap': hashlib.sha256(bootstrap).hexdigest()}))\n"
    )

    done = loopback_cloud.containers.run_container(
        image.reference, ["python3", "-c", script], environment={}, user="65534"
    )

    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["user"] == 65534
    assert seen["device"] == "cpu"
    assert f"jax=={seen['jax']}\n" in seen["constraints"]
    assert "numpy" not in seen["constraints"]
    assert seen["bootstrap"] == sha256(read_bootstrap()).hexdigest()


JOB_SOURCE = """
    import os
    import iniconfig, jax

    def main(name):
        return f"{name} on {jax.default_backend()}", os.getuid(), iniconfig.__name__
"""


def test_a_job_in_the_bucket_runs_in_a_container_of_the_digest_and_leaves_its_result(
    loopback_cloud: LoopbackCloud, address: CloudAddress, image: ResolvedImage, tmp_path: Path
) -> None:
    job = Job(tmp_path, source=JOB_SOURCE, args=("hello",), changes={"output_dir": "/tmp/out"})
    variables = job.write()
    variables["KINETIC_JOB"] = f"gs://{address.jobs_bucket}/runs/{RUN_ID}/job.json"
    variables["STORAGE_EMULATOR_HOST"] = address.storage_url
    with closing(GoogleStore(address.jobs_bucket, endpoint=address.storage_url)) as store:
        for path in filter(Path.is_file, tmp_path.rglob("*")):
            store.put_if_absent(path.relative_to(tmp_path).as_posix(), path)

        done = loopback_cloud.containers.run_container(
            image.reference, [], environment=variables, user="65534"
        )
        assert done.returncode == 0, done.stdout + done.stderr
        result = store.get(f"runs/{RUN_ID}/result.pkl").data

    envelope = open_result(result, RUN_KEY, RUN_ID)
    assert envelope.header.status == "returned"
    assert pickle.loads(envelope.body) == ("hello on cpu", 65534, "iniconfig")


def test_another_requirement_is_one_layer_more(
    loopback_cloud: LoopbackCloud,
    address: CloudAddress,
    image: ResolvedImage,
    layers: httpx.Client,
) -> None:
    builds_before = len(loopback_cloud.builds.builds)
    environment = environment_named("two", OTHER_LOCK)
    with builder_of(address) as builder:
        other = builder.build(request_for(address, environment), environment, lambda _: None)

    assert len(loopback_cloud.builds.builds) == builds_before + 1
    before, after = layers_of(layers, image), layers_of(layers, other)
    assert len(after) == len(before) + 1
    assert set(before) < set(after)


def test_this_client_makes_the_same_image_as_cloud_build_to_the_byte(
    loopback_cloud: LoopbackCloud,
    address: CloudAddress,
    image: ResolvedImage,
    layers: httpx.Client,
    tmp_path: Path,
) -> None:
    environment, builds_before = environment_named("one"), len(loopback_cloud.builds.builds)
    path = address.repository.partition("/")[2]
    tags = layers.get(f"{path}/layers/tags/list").json()["tags"]
    digest = INICONFIG_LOCK.rpartition("sha256:")[2].strip()
    (made,) = (tag for tag in tags if digest in tag)
    for name, version in (("layers", made), ("app", image.digest)):
        found = layers.get(f"{path}/{name}/manifests/{version}")
        known = found.headers["Docker-Content-Digest"]
        layers.delete(f"{path}/{name}/manifests/{known}").raise_for_status()
    lines: list[str] = []

    with builder_of(replace(address, builder="direct", home=str(tmp_path))) as builder:
        again = builder.build(request_for(address, environment), environment, lines.append)

    assert again.digest == image.digest
    assert ", 1 to make, " in lines[0]
    assert len(loopback_cloud.builds.builds) == builds_before


def test_a_package_whose_bytes_are_not_the_locked_ones_fails_the_build_by_name(
    address: CloudAddress, image: ResolvedImage
) -> None:
    spoiled = environment_named("spoiled", OTHER_LOCK.replace("292c8f1c", "00000000"))

    with builder_of(address) as builder, pytest.raises(BuildError) as raised:
        builder.build(request_for(address, spoiled), spoiled, lambda _: None)

    assert "failing package: toolz==1.0.0" in str(raised.value)
    assert "hint: see whether toolz==1.0.0 is right" in str(raised.value)


def test_nothing_that_builds_leave_behind_holds_the_access_token(
    address: CloudAddress, image: ResolvedImage
) -> None:
    for bucket in (address.jobs_bucket, address.builds_bucket):
        with closing(GoogleStore(bucket, endpoint=address.storage_url)) as store:
            contents = [store.get(item.name).data for item in store.list("")]
        assert contents
        assert not [data for data in contents if ACCESS_TOKEN.encode() in data]


def test_a_base_in_a_private_registry_is_pulled_with_the_login_that_the_settings_name(
    loopback_cloud: LoopbackCloud, address: CloudAddress
) -> None:
    name, hub = "reader/private-base-cpu-lean", loopback_cloud.docker_hub
    hub.repositories.add(name)
    hub.private.add(name)
    hub.accounts["reader"] = "hub-s3cret"
    lean = replace(
        environment_named("private"),
        variant="lean",
        base_identity=lean_inputs(read_base_inputs("cpu", PYTHON)).identity,
    )
    with builder_of(address) as builder:
        base = builder.ensure_base(lean, lambda _: None).reference
    push_without_a_trace(loopback_cloud, base, f"{loopback_cloud.registry.host}/{name}:0.1.0")
    mine = FirstFound(
        sources=(
            GoogleRegistryCredentials(token=lambda: ACCESS_TOKEN),
            OnlyDockerHub("reader", "hub-s3cret"),
        )
    )
    with closing(registry_of(address, mine)) as registry:
        found = registry.resolve(f"{name}:0.1.0")
    assert found is not None
    environment = replace(lean, base_identity=found.digest)
    login = registry_login("docker.io", "hub-user:hub-token", project="p")
    settings = {"base_repository": "reader/private", "version": "0.1.0"}
    request = request_for(address, environment)

    with builder_of(address, mine, **settings) as builder, pytest.raises(BuildError):
        builder.build(request, environment, lambda _: None)
    lines: list[str] = []
    with (
        loopback_cloud.builds.secrets.holding(hub_user="reader", hub_token="hub-s3cret"),
        builder_of(address, mine, **settings, logins={"docker.io": login}) as builder,
    ):
        made = builder.build(request, environment, lines.append)

    assert made.labels[LABEL_BASE_NAME] == found.reference
    assert "hub-s3cret" not in "\n".join(lines)


@pytest.mark.real_bases
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("category", ["gpu", "tpu"])
def test_the_bases_of_accelerators_can_be_built(
    loopback_cloud: LoopbackCloud, address: CloudAddress, category: Category
) -> None:
    inputs = read_base_inputs(category, PYTHON)
    environment = replace(
        environment_named(category), category=category, base_identity=inputs.identity
    )
    with builder_of(replace(address, timeout_seconds=3000)) as builder:
        base = builder.ensure_base(environment, lambda _: None)

    assert base.labels[LABEL_CATEGORY] == category
    asked = {
        "gpu": ("import jax; print(jax.devices()[0].platform)", "cpu\n"),
        # What the runtime knows of a slice that is not here.
        "tpu": (
            (
                "from jax.experimental import topologies\n"
                "found = topologies.get_topology_desc('v6e:2x4', platform='tpu')\n"
                "print(len(found.devices), found.devices[0].device_kind)"
            ),
            "8 TPU v6 lite\n",
        ),
    }
    script, expected = asked[category]
    seen = loopback_cloud.containers.run_container(
        base.reference,
        ["python3", "-c", script],
        environment={"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"},
    )
    assert seen.stdout == expected, seen.stderr


def push_without_a_trace(cloud: LoopbackCloud, image: str, target: str) -> None:
    """Push a variant of an image that is nowhere but in the registry afterwards."""
    run = cloud.containers.run
    container = run("buildah", "from", image).stdout.strip()
    run("buildah", "config", "--label", f"variant={uuid4().hex}", container)
    run("buildah", "commit", "--rm", container, "localhost/variant")
    options = ["--tls-verify=false", "--disable-compression"]
    run("buildah", "push", *options, "localhost/variant", f"docker://{target}")
    run("buildah", "rmi", "localhost/variant")


class OnlyDockerHub:
    """Knows a login of Docker Hub's."""

    def __init__(self, username: str, password: str) -> None:
        self._login = RegistryCredentials(username=username, password=password)

    def find(self, registry: str) -> RegistryCredentials | None:
        return self._login if registry == "docker.io" else None
