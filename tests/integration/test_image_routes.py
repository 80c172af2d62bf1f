"""Who assembles an image: this client, Cloud Build, or neither; always once, and the same one."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core import object_names
from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.errors import BuildError, RegistryAccessError
from kinetic_flows.core.image_builder import ImagePreview
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.interruption import interruptible
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.settings.cloud import Builder
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.dependencies.lockfile import LockedPackage, ShippedWheel, format_lock
from kinetic_flows.dependencies.wheel_files import WheelDownloads
from kinetic_flows.images.assembly.assemble import assemble
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.bases import PLATFORM, UPSTREAM
from kinetic_flows.images.labels import LABEL_CATEGORY, LABEL_PYTHON
from kinetic_flows.images.tags import layers_image
from kinetic_flows.platforms.gke.builds.lease import LeaseRecord
from loopback.clients import (
    PYTHON,
    CloudAddress,
    arguments_for,
    builder_of,
    environment_named,
    registry_of,
    request_for,
)
from loopback.cloud import ACCESS_TOKEN, USERNAME
from loopback.cloud_build import CloudBuildServer
from loopback.quick_builds import QuickWorker
from loopback.registry import DockerRegistry, RegistryFront
from loopback.small_images import Pusher, push_python_image
from loopback.storage import StorageServer
from loopback.wire import Fault, wait_until
from odd_wheels import OddWheel

pytest_plugins = ["loopback.fixtures"]


@dataclass(frozen=True, kw_only=True)
class World:
    """A cluster's repository, buckets and Cloud Build, with a base that was assembled.

    Everything ships in the bucket: no index is asked.
    """

    address: CloudAddress
    front: RegistryFront
    server: CloudBuildServer
    store: GoogleStore
    base: str

    def environment(self, name: str, *wheels: OddWheel, base: str = "") -> EnvironmentSpec:
        """Return the environment of a project with some wheels."""
        lock = format_lock([self._shipped(each) for each in wheels])
        identity = base or self.base
        return replace(environment_named(name), lock=lock, base_identity=identity)

    def _shipped(self, wheel: OddWheel) -> LockedPackage:
        data = wheel.data()
        file = _file_of(wheel)
        self.store.put_if_absent(object_names.wheel_object(file.sha256, file.filename), data)
        shipped = ShippedWheel(
            filename=file.filename, sha256=file.sha256, size_bytes=file.size_bytes
        )
        return LockedPackage(
            name=file.name,
            version=file.version,
            hashes=(f"sha256:{file.sha256}",),
            wheel=shipped,
        )

    def ask(
        self,
        environment: EnvironmentSpec,
        builder: Builder = "direct",
        lines: list[str] | None = None,
    ) -> ResolvedImage:
        """Ask for the image of an environment as a client does."""
        with builder_of(replace(self.address, builder=builder)) as asked:
            told = lines if lines is not None else []
            return asked.build(request_for(self.address, environment), environment, told.append)

    def preview(self, environment: EnvironmentSpec, builder: Builder) -> ImagePreview:
        with builder_of(replace(self.address, builder=builder)) as asked:
            return asked.preview(request_for(self.address, environment), environment)

    def find(self, environment: EnvironmentSpec) -> ResolvedImage | None:
        with closing(registry_of(self.address)) as registry:
            return registry.resolve(request_for(self.address, environment).reference)

    def start_client(self, environment: EnvironmentSpec, name: str) -> subprocess.Popen[str]:
        """Start a client of its own process."""
        home = f"{self.address.home}-of-the-other"
        address = replace(self.address, builder="direct", home=home)
        changes = {"lock": environment.lock, "base_identity": environment.base_identity}
        return subprocess.Popen(
            arguments_for(address, name, **changes),
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lease(self, environment: EnvironmentSpec) -> LeaseRecord:
        name = object_names.lease_object(environment.dependency_hash)
        return LeaseRecord.from_json(self.store.get(name).data)

    @property
    def pushed(self) -> list[str]:
        """The manifests that were pushed to the project's image, as often as they were."""
        return [
            target
            for method, target in self.front.server.requests
            if method == "PUT" and "/app/manifests/" in target
        ]


def _file_of(wheel: OddWheel) -> WheelFile:
    data = wheel.data()
    return WheelFile(
        name=wheel.name,
        version=wheel.version,
        filename=wheel.filename,
        sha256=sha256_hex(data),
        size_bytes=len(data),
    )


@pytest.fixture
def world(
    storage_server: StorageServer,
    docker_registry: DockerRegistry,
    artifact_registry: RegistryFront,
    tmp_path: Path,
) -> Iterator[World]:
    """A world of its own for one test."""
    name = uuid4().hex[:10]
    artifact_registry.accounts[USERNAME] = ACCESS_TOKEN
    artifact_registry.repositories |= {f"project/kn-{name}", "library/python"}
    server = CloudBuildServer(QuickWorker(storage_server.url, docker_registry.url)).start()
    push_python_image(docker_registry.url)
    address = CloudAddress(
        storage_url=storage_server.url,
        registry_url=artifact_registry.url,
        build_endpoint=server.endpoint,
        access_token=ACCESS_TOKEN,
        project="project",
        repository=f"us-docker.pkg.dev/project/kn-{name}",
        jobs_bucket=storage_server.create_bucket(f"jobs-{name}"),
        builds_bucket=storage_server.create_bucket(f"builds-{name}"),
        home=str(tmp_path / "home"),
        base_repository=f"us-docker.pkg.dev/project/kn-{name}",
        term_seconds=1.0,
    )
    with closing(GoogleStore(address.jobs_bucket, endpoint=address.storage_url)) as store:
        base = _assembled_base(address, docker_registry, store, tmp_path)
        yield World(address=address, front=artifact_registry, server=server, store=store, base=base)
    server.stop()


def _assembled_base(
    address: CloudAddress, registry: DockerRegistry, store: GoogleStore, directory: Path
) -> str:
    """Assemble a base of one small wheel, and return its digest."""
    wheel = OddWheel(name="held", files={"held.py": "VALUE = 1\n"})
    file = _file_of(wheel)
    store.put_if_absent(object_names.wheel_object(file.sha256, file.filename), wheel.data())
    endpoints = {"us-docker.pkg.dev": registry.url, "docker.io": registry.url}
    with closing(RegistryWriter(endpoints=endpoints)) as writer:
        upstream = writer.manifest(UPSTREAM.format(python=PYTHON))
        assert upstream is not None
        assembly = Assembly(
            reference=f"{address.repository}/base-cpu:0.1.0",
            layers=layers_image(address.repository),
            start=f"{UPSTREAM.format(python=PYTHON).partition(':')[0]}@{upstream.digest}",
            starts_from="upstream",
            python=PYTHON,
            platform=PLATFORM,
            wheels=(file,),
            labels={LABEL_CATEGORY: "cpu", LABEL_PYTHON: PYTHON},
        )
        home = directory / "home-of-the-base"
        wheels = WheelDownloads(home, os.environ, store)
        return assemble(
            assembly, writer, wheels, home=home, environ=os.environ, on_output=lambda _: None
        )


ONE = OddWheel(name="one", files={"one.py": "VALUE = 1\n"})
TWO = OddWheel(name="two", files={"two.py": "VALUE = 2\n"})


def test_this_client_assembles_what_little_there_is_to_send_and_asks_no_build_service(
    world: World,
) -> None:
    lines: list[str] = []

    image = world.ask(world.environment("a", ONE), "auto", lines)

    assert lines[0].startswith("image: assembled from ")
    assert lines[0].partition(" layers, ")[2].startswith("4 known, 1 to make, ")
    assert lines[1] == f"builder: direct ({lines[0].rpartition(', ')[2]}, at most 100.0 MB)"
    assert world.server.builds == []
    assert world.server.server.calls == []
    assert image.labels["kinetic.layers"] == "1"


def test_a_preview_says_what_the_call_does_and_does_nothing(world: World) -> None:
    environment = world.environment("a", ONE)
    lines: list[str] = []
    before = len(world.front.server.requests)

    preview = world.preview(environment, "auto")

    asked = world.front.server.requests[before:]
    assert {method for method, target in asked if "/token" not in target} <= {"GET", "HEAD"}
    assert world.find(environment) is None
    world.ask(environment, "auto", lines)
    assert lines[:2] == [f"image: {preview}", f"builder: {preview.who}"]
    assert world.preview(world.environment("b", ONE), "auto").bytes_to_send == 0


def test_a_new_image_is_looked_for_once_before_it_is_made(world: World) -> None:
    environment = world.environment("a", ONE)
    before = len(world.front.server.requests)

    world.ask(environment)

    tag = request_for(world.address, environment).reference.rpartition(":")[2]
    asked = world.front.server.requests[before:]
    methods = [method for method, target in asked if f"/app/manifests/{tag}" in target]
    # Each look at what is not there ends with one.
    assert methods[: methods.index("PUT")].count("GET") == 1


def test_many_who_ask_at_once_get_one_image_that_was_pushed_once(world: World) -> None:
    environment = world.environment("a", ONE, TWO)

    told: list[list[str]] = [[] for _ in range(6)]

    with ThreadPoolExecutor(6) as pool:
        images = list(pool.map(lambda lines: world.ask(environment, "direct", lines), told))

    assert len({image.digest for image in images}) == 1
    assert [any("builder: direct" in line for line in lines) for lines in told].count(True) == 1


def test_when_the_one_who_assembles_is_killed_another_who_waits_does_it(world: World) -> None:
    environment = world.environment("a", ONE)
    stall = Fault(kind="stall", method="POST", path="/layers/blobs/uploads", pause_seconds=60)
    with world.front.server.fault(stall):
        killed = world.start_client(environment, "a")
        wait_until(lambda: stall.times == 0, 60, "an upload")
    lines: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(world.ask, environment, "direct", lines)
        wait_until(lambda: bool(lines), 30, "a client that waits")
        assert lines == [
            f"another client makes {request_for(world.address, environment).reference}"
        ]
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        image = waiting.result(60)

    assert world.find(environment) == image
    assert world.lease(environment).fencing == 2


def test_ctrl_c_leaves_no_image_and_gives_the_lease_back_at_once(world: World) -> None:
    environment = world.environment("a", ONE)
    stall = Fault(kind="stall", method="POST", path="/layers/blobs/uploads", pause_seconds=60)
    with world.front.server.fault(stall):
        client = world.start_client(environment, "a")
        wait_until(lambda: stall.times == 0, 60, "an upload")
        client.send_signal(signal.SIGINT)
        output = client.communicate(timeout=30)[0]

    assert "KeyboardInterrupt" in output
    assert "app:cpu-ca978112ca1b was not pushed" in output
    assert world.find(environment) is None
    assert world.lease(environment).holder == ""
    assert world.ask(environment).labels["kinetic.layers"] == "1"


def test_a_call_that_is_cancelled_stops_assembling_in_whatever_thread(world: World) -> None:
    environment, cancelled = world.environment("a", ONE), threading.Event()

    def ask() -> None:
        interruptible(cancelled)
        world.ask(environment)

    stall = Fault(kind="stall", method="POST", path="/layers/blobs/uploads", pause_seconds=60)
    with world.front.server.fault(stall), ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        wait_until(lambda: stall.times == 0, 60, "an upload")
        cancelled.set()
        with pytest.raises(KeyboardInterrupt) as raised:
            asking.result(30)

    assert "was not pushed" in raised.value.__notes__[0]
    assert world.find(environment) is None
    assert world.lease(environment).holder == ""


def test_auto_without_the_right_to_push_has_cloud_build_assemble_it_and_says_so_once(
    world: World,
) -> None:
    world.front.read_only.add(USERNAME)
    lines: list[str] = []
    with builder_of(replace(world.address, builder="auto")) as builder:
        for name, wheel in (("a", ONE), ("b", TWO)):
            environment = world.environment(name, wheel)
            builder.build(request_for(world.address, environment), environment, lines.append)

    told = [line for line in lines if line.startswith("builder: cloud-build, because ")]
    assert len(told) == 1
    assert "us-docker.pkg.dev refuses to take uploads" in told[0]
    assert len(world.server.builds) == 2
    assert world.store.missing([f"wheels/{_file_of(ONE).sha256}/{ONE.filename}"]) == set()


def test_direct_without_the_right_to_push_is_refused_before_anything_is_made(
    world: World,
) -> None:
    world.front.read_only.add(USERNAME)

    with pytest.raises(RegistryAccessError, match="refuses to take uploads") as refused:
        world.ask(world.environment("a", ONE))

    assert "roles/artifactregistry.writer" in str(refused.value.hint)
    assert "KINETIC_BUILDER=cloud-build" in str(refused.value.hint)
    assert world.server.builds == []
    assert not list(Path(world.address.home).glob("wheels/*/*"))


def test_what_only_a_dockerfile_can_do_is_no_task_of_direct(
    world: World, docker_registry: DockerRegistry
) -> None:
    path = f"{world.address.repository.partition('/')[2]}/base-cpu"
    labels = {LABEL_CATEGORY: "cpu", LABEL_PYTHON: PYTHON}
    theirs = Pusher(docker_registry.url, path).push_image("theirs", labels)
    environment = world.environment("a", ONE, base=theirs)

    with pytest.raises(BuildError, match="was not assembled from layers") as refused:
        world.ask(environment)
    with pytest.raises(BuildError, match="only Cloud Build can make this image"):
        world.preview(environment, "direct")

    assert "KINETIC_BUILDER=auto" in str(refused.value.hint)
    assert world.server.builds == []
    assert str(world.preview(environment, "auto")) == "built from a Dockerfile"
    world.ask(environment, "auto")
    assert [len(build.images) for build in world.server.builds] == [1]


def test_a_hostile_wheel_is_refused_by_name_and_nothing_is_pushed(world: World) -> None:
    climbing = OddWheel(name="climbing", files={"../../etc/passwd": "root::0:0\n"})

    with pytest.raises(Exception, match=r"climbing-1\.0-py3-none-any\.whl"):
        world.ask(world.environment("a", climbing))

    assert world.pushed == []
