"""Images by Cloud Build: built once, joined, reused, and failing in clear words."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import grpc
import httpx
import pytest

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core import object_names
from kinetic_flows.core.errors import BuildError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.platforms.gke.builds.lease import LeaseRecord
from loopback.clients import (
    PYTHON,
    CloudAddress,
    arguments_for,
    builder_of,
    environment_named,
    request_for,
)
from loopback.cloud_build import CloudBuildServer, Status
from loopback.grpc_services import CallFault
from loopback.quick_builds import QuickWorker
from loopback.registry import DockerRegistry
from loopback.small_images import push_python_image
from loopback.storage import StorageServer
from loopback.wire import wait_until

pytest_plugins = ["loopback.fixtures"]


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """One test's share of the loopback cloud."""

    address: CloudAddress
    worker: QuickWorker
    server: CloudBuildServer
    registry: DockerRegistry

    def ask(self, name: str, lines: list[str] | None = None) -> ResolvedImage:
        """Ask for an image as a client does."""
        environment = environment_named(name)
        with builder_of(self.address) as builder:
            return builder.build(
                request_for(self.address, environment),
                environment,
                lines.append if lines is not None else lambda _: None,
            )

    def make_base(self) -> None:
        """Have the base image built, so that only projects are left to build."""
        with builder_of(self.address) as builder:
            builder.ensure_base(environment_named("any"), lambda _: None)

    @property
    def built(self) -> list[str]:
        """The images that were built, by their last path part."""
        made = (self.worker.images_of(build)[0] for build in self.server.builds)
        return [name.rpartition("/")[2] for name in made]

    def built_projects(self) -> list[str]:
        return [name for name in self.built if name.startswith("app:")]

    def start_client(self, name: str) -> subprocess.Popen[str]:
        """Start a client of its own process."""
        return subprocess.Popen(
            arguments_for(self.address, name),
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_for_running_build(self, count: int = 1) -> None:
        def runs() -> bool:
            working = [build for build in self.server.builds if build.status == Status.WORKING]
            made = [self.worker.images_of(build)[0] for build in working]
            return len([name for name in made if "app:" in name]) >= count

        wait_until(runs, 40, "a running build")


@pytest.fixture
def cloud(
    storage_server: StorageServer,
    docker_registry: DockerRegistry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cloud]:
    """Cloud Build with quick builds, in buckets and a repository of its own."""
    name = uuid4().hex[:10]
    worker = QuickWorker(storage_server.url, docker_registry.url)
    server = CloudBuildServer(worker).start()
    address = CloudAddress(
        storage_url=storage_server.url,
        registry_url=docker_registry.url,
        build_endpoint=server.endpoint,
        access_token="ya29.not-to-be-seen",
        project="project",
        repository=f"us-docker.pkg.dev/project/kn-{name}",
        jobs_bucket=storage_server.create_bucket(f"jobs-{name}"),
        builds_bucket=storage_server.create_bucket(f"builds-{name}"),
        home=str(tmp_path_factory.getbasetemp() / "kinetic-home"),
    )
    push_python_image(docker_registry.url)
    yield Cloud(address=address, worker=worker, server=server, registry=docker_registry)
    server.stop()


@pytest.fixture
def jobs_store(cloud: Cloud) -> Iterator[GoogleStore]:
    """The bucket of leases, for looking inside."""
    store = GoogleStore(cloud.address.jobs_bucket, endpoint=cloud.address.storage_url)
    with closing(store):
        yield store


def test_an_image_is_built_on_a_base_that_is_built_first_and_both_are_reused(
    cloud: Cloud,
) -> None:
    environment = environment_named("a")
    with builder_of(cloud.address) as builder:
        preview = builder.preview(request_for(cloud.address, environment), environment)
    first = cloud.ask("a")
    again = cloud.ask("a")
    cloud.ask("b")

    base, *projects = cloud.built
    assert base.startswith(f"base-cpu:py{PYTHON}-")
    assert len(projects) == 2
    assert first == again
    assert preview.who == "cloud-build (KINETIC_BUILDER=cloud-build; its base is made first)"
    assert (preview.layers or 0) - preview.known > 2
    assert first.reference == f"{cloud.address.repository}/app@{first.digest}"


def test_an_image_whose_tag_was_deleted_is_built_again(cloud: Cloud) -> None:
    image = cloud.ask("a")
    path = cloud.address.repository.partition("/")[2]
    manifest = f"{cloud.registry.url}/v2/{path}/app/manifests/{image.digest}"
    httpx.delete(manifest).raise_for_status()

    cloud.ask("a")

    assert len(cloud.built_projects()) == 2


def test_the_log_of_a_build_is_passed_on_line_by_line_and_once(cloud: Cloud) -> None:
    cloud.make_base()
    cloud.worker.lines = [f"line {number}" for number in range(500)]
    cloud.worker.seconds = 0.5
    lines: list[str] = []

    cloud.ask("a", lines)

    assert [line for line in lines if line.startswith("line ")] == cloud.worker.lines
    assert lines[0].startswith("builder: cloud-build, from a Dockerfile (its base ")
    assert lines[1].startswith("Cloud Build ")
    assert "https://console.cloud.google.com/cloud-build/builds/" in lines[1]


def test_a_failed_build_says_which_package_and_step_and_where_its_log_is(cloud: Cloud) -> None:
    cloud.make_base()
    cloud.worker.endings = [Status.FAILURE]
    cloud.worker.lines = ["STEP 3/4: RUN uv", "  x Failed to build `broken==1.0`", "the end"]

    with pytest.raises(BuildError) as raised:
        cloud.ask("a")

    message = str(raised.value)
    assert "failing package: broken==1.0" in message
    assert "failing step: 0 (gcr.io/cloud-builders/docker)" in message
    assert "    the end\n" in message
    assert "log: https://console.cloud.google.com" in message
    assert len(cloud.built_projects()) == 1


@pytest.mark.parametrize(
    ("ending", "words"),
    [(Status.CANCELLED, "was cancelled"), (Status.TIMEOUT, "KINETIC_BUILD_TIMEOUT_SECONDS")],
)
def test_every_ending_has_its_own_words(cloud: Cloud, ending: Status, words: str) -> None:
    cloud.make_base()
    cloud.worker.endings = [ending]

    with pytest.raises(BuildError, match=words):
        cloud.ask("a")


@pytest.mark.parametrize("ending", [Status.INTERNAL_ERROR, Status.EXPIRED])
def test_a_transient_ending_is_tried_once_more(cloud: Cloud, ending: Status) -> None:
    cloud.make_base()
    cloud.worker.endings = [ending]
    cloud.ask("a")
    assert len(cloud.built_projects()) == 2

    cloud.worker.endings = [ending, ending]
    with pytest.raises(BuildError):
        cloud.ask("b")
    assert len(cloud.built_projects()) == 4


def test_a_submission_whose_answer_was_lost_is_found_and_not_repeated(cloud: Cloud) -> None:
    cloud.make_base()
    cloud.worker.seconds = 1

    with cloud.server.server.fault(CallFault(method="CreateBuild", handled=True)) as fault:
        cloud.ask("a")

    assert fault.times == 0
    assert len(cloud.built_projects()) == 1


def test_a_submission_that_never_arrived_is_repeated(cloud: Cloud) -> None:
    cloud.make_base()

    with cloud.server.server.fault(CallFault(method="CreateBuild", times=2)):
        cloud.ask("a")

    assert len(cloud.built_projects()) == 1


def test_a_cloud_build_that_stops_answering_for_a_while_does_not_stop_the_follower(
    cloud: Cloud,
) -> None:
    cloud.make_base()
    cloud.worker.seconds = 0.5

    with cloud.server.server.fault(CallFault(method="GetBuild", times=3)):
        cloud.ask("a")

    assert len(cloud.built_projects()) == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("The caller does not have permission", "roles/cloudbuild.builds.editor"),
        ("Cloud Build API has not been used in project", "gcloud services enable cloudbuild"),
    ],
)
def test_a_refusal_names_its_remedy(cloud: Cloud, words: str, hint: str) -> None:
    refusal = CallFault(method="ListBuilds", code=grpc.StatusCode.PERMISSION_DENIED, message=words)

    with cloud.server.server.fault(refusal), pytest.raises(BuildError, match=hint):
        cloud.ask("a")


def test_eight_threads_that_ask_at_once_get_one_build(cloud: Cloud) -> None:
    cloud.worker.seconds = 0.3

    with ThreadPoolExecutor(8) as pool:
        digests = {image.digest for image in pool.map(cloud.ask, ["a"] * 8)}

    assert len(digests) == 1
    assert len(cloud.built_projects()) == 1
    assert len(cloud.built) == 2


def test_eight_processes_that_ask_at_once_get_one_build(cloud: Cloud) -> None:
    cloud.worker.seconds = 2

    clients = [cloud.start_client("a") for _ in range(8)]
    outputs = [client.communicate(timeout=120)[0] for client in clients]

    digests = {output.splitlines()[-1] for output in outputs}
    assert len(digests) == 1, outputs
    assert digests.pop().startswith("sha256:")
    assert len(cloud.built) == 2


def test_when_the_builder_is_killed_the_others_finish_with_its_build(cloud: Cloud) -> None:
    cloud.make_base()
    cloud.worker.seconds = 6
    killed = cloud.start_client("a")
    cloud.wait_for_running_build()
    with ThreadPoolExecutor(2) as pool:
        others = [pool.submit(cloud.ask, "a") for _ in range(2)]
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        digests = {other.result(60).digest for other in others}

    assert len(digests) == 1
    assert len(cloud.built_projects()) == 1


def test_a_lease_whose_holder_died_before_it_built_is_taken_over(
    cloud: Cloud, jobs_store: GoogleStore
) -> None:
    environment = environment_named("a")
    left = LeaseRecord(holder="dead", fencing=7)
    lease = object_names.lease_object(environment.dependency_hash)
    jobs_store.put_if_absent(lease, left.to_json())

    cloud.ask("a")

    assert LeaseRecord.from_json(jobs_store.get(lease).data).fencing == 8


@pytest.fixture
def left_lease(cloud: Cloud, jobs_store: GoogleStore) -> Callable[[str], None]:
    """Leaves a lease as its holder does who is killed after the build it speaks of has ended."""

    def leave(build: str) -> None:
        lease = object_names.lease_object(environment_named("a").dependency_hash)
        record = LeaseRecord(holder="dead", fencing=7, build=build)
        jobs_store.delete(lease)
        assert jobs_store.put_if_absent(lease, record.to_json())

    return leave


def test_the_failure_of_a_holder_who_died_is_not_repeated(
    cloud: Cloud, left_lease: Callable[[str], None]
) -> None:
    cloud.make_base()
    cloud.worker.endings = [Status.FAILURE]
    with pytest.raises(BuildError):
        cloud.ask("a")
    left_lease(cloud.server.builds[-1].id)

    with ThreadPoolExecutor(3) as pool:
        assert len({image.digest for image in pool.map(cloud.ask, ["a"] * 3)}) == 1

    assert len(cloud.built_projects()) == 2


def test_an_image_that_was_cleaned_up_is_built_again_whatever_a_lease_says(
    cloud: Cloud, left_lease: Callable[[str], None]
) -> None:
    image = cloud.ask("a")
    left_lease(cloud.server.builds[-1].id)
    assert cloud.ask("a") == image, "while it is there, nobody asks for the lease"
    path = cloud.address.repository.partition("/")[2]
    manifest = f"{cloud.registry.url}/v2/{path}/app/manifests/{image.digest}"
    httpx.delete(manifest).raise_for_status()

    cloud.ask("a")

    assert len(cloud.built_projects()) == 2


def test_a_lease_for_a_build_that_nobody_knows_any_more_is_given_up(
    cloud: Cloud, left_lease: Callable[[str], None]
) -> None:
    left_lease("0d2c6c69-23b8-432c-96c1-90dc74d0f11a")

    cloud.ask("a")

    assert len(cloud.built_projects()) == 1


def test_a_build_that_runs_without_a_lease_is_joined(cloud: Cloud, jobs_store: GoogleStore) -> None:
    cloud.make_base()
    cloud.worker.seconds = 4
    first = cloud.start_client("a")
    cloud.wait_for_running_build()
    first.kill()
    first.communicate()
    jobs_store.delete(object_names.lease_object(environment_named("a").dependency_hash))

    cloud.ask("a")

    assert len(cloud.built_projects()) == 1


def test_an_interrupted_client_cancels_the_build_that_nobody_else_waits_for(
    cloud: Cloud,
) -> None:
    cloud.make_base()
    cloud.worker.seconds = 30
    client = cloud.start_client("a")
    cloud.wait_for_running_build()
    wait_until(lambda: cloud.server.server.calls[-1] == "GetBuild", 10, "following")

    client.send_signal(signal.SIGINT)
    client.communicate(timeout=30)

    wait_until(lambda: cloud.server.builds[-1].status == Status.CANCELLED, 10, "the end")


def test_a_client_interrupted_while_it_submits_cancels_the_build_that_comes_of_it(
    cloud: Cloud,
) -> None:
    cloud.make_base()
    cloud.worker.seconds = 30
    slow = CallFault(method="CreateBuild", code=None, stall_seconds=2)
    with cloud.server.server.fault(slow):
        client = cloud.start_client("a")
        wait_until(lambda: slow.times == 0, 60, "a submission")
        client.send_signal(signal.SIGINT)
        output = client.communicate(timeout=30)[0]

    assert "KeyboardInterrupt" in output
    assert len(cloud.built_projects()) == 1
    wait_until(lambda: cloud.server.builds[-1].status == Status.CANCELLED, 10, "the end")


def test_an_interrupted_client_leaves_a_build_that_somebody_waits_for(
    cloud: Cloud, jobs_store: GoogleStore
) -> None:
    cloud.make_base()
    cloud.worker.seconds = 5
    client = cloud.start_client("a")
    cloud.wait_for_running_build()
    found: list[ResolvedImage] = []
    follower = threading.Thread(target=lambda: found.append(cloud.ask("a")))
    follower.start()
    prefix = object_names.lease_followers_prefix(environment_named("a").dependency_hash)
    wait_until(lambda: len(list(jobs_store.list(prefix))) == 2, 10, "a second follower")

    client.send_signal(signal.SIGINT)
    client.communicate(timeout=30)
    follower.join(60)

    assert len(found) == 1
    assert len(cloud.built_projects()) == 1


def test_a_build_that_takes_too_long_is_ended_by_its_own_limit(cloud: Cloud) -> None:
    cloud.make_base()
    cloud.worker.seconds = 30
    hasty = replace(cloud, address=replace(cloud.address, timeout_seconds=1))

    with pytest.raises(BuildError, match="time limit"):
        hasty.ask("a")


def test_what_is_left_in_the_buckets_holds_no_credential(cloud: Cloud) -> None:
    cloud.ask("a")

    address = cloud.address
    for bucket in (address.jobs_bucket, address.builds_bucket):
        with closing(GoogleStore(bucket, endpoint=address.storage_url)) as store:
            contents = [store.get(item.name).data for item in store.list("")]
        assert contents
        assert not [data for data in contents if address.access_token.encode() in data]
