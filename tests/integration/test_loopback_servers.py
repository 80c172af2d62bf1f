"""The loopback cloud's servers behave as the services they stand for."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import grpc
import httpx
import pytest
from google.api_core.exceptions import NotFound
from google.cloud import secretmanager_v1
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (
    SecretManagerServiceGrpcTransport,
)

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core.errors import BuildError
from kinetic_flows.platforms.gke.builds.build import BuildOptions, BuildSpec, BuildState
from kinetic_flows.platforms.gke.builds.cloud_build import CloudBuild
from loopback.cloud import REGISTRY_HOST, LoopbackCloud
from loopback.cloud_build import CloudBuildServer
from loopback.grpc_services import CallFault
from loopback.lifted_python import IMAGE
from loopback.registry import RegistryFront
from loopback.storage_wire import WireStorage
from loopback.tools import ToolMissing, find_tool
from loopback.wire import Fault, wait_until

pytest_plugins = ["loopback.fixtures"]

PROJECT = "loopback"


def test_a_missing_tool_names_the_package_to_install() -> None:
    with pytest.raises(ToolMissing, match="apt-get install -y no-such-tool"):
        find_tool("no-such-tool")


def test_strict_storage_holds_preconditions_on_resumable_uploads(
    wire_storage: WireStorage, bucket_name: str
) -> None:
    wire_storage.create_bucket(bucket_name)
    upload = f"{wire_storage.url}/upload/storage/v1/b/{bucket_name}/o?uploadType=resumable"
    begun = httpx.post(f"{upload}&ifGenerationMatch=0", json={"name": "a"})
    wire_storage.buckets.put(bucket_name, {"name": "a"}, b"faster", {})

    finished = httpx.put(
        begun.headers["Location"], content=b"slower", headers={"Content-Range": "bytes 0-5/6"}
    )

    assert finished.status_code == 412
    assert wire_storage.buckets.get(bucket_name, "a").data == b"faster"


def test_strict_storage_finishes_no_upload_that_is_cut_short(
    wire_storage: WireStorage, bucket_name: str
) -> None:
    wire_storage.create_bucket(bucket_name)
    upload = f"{wire_storage.url}/upload/storage/v1/b/{bucket_name}/o?uploadType=resumable"
    location = httpx.post(upload, json={"name": "a"}).headers["Location"]

    part = httpx.put(location, content=b"abc", headers={"Content-Range": "bytes 0-2/6"})
    gap = httpx.put(location, content=b"f", headers={"Content-Range": "bytes 5-5/6"})

    assert part.status_code == 308
    assert part.headers["Range"] == "bytes=0-2"
    assert gap.status_code == 400
    assert wire_storage.buckets.names(bucket_name, "") == []


def test_strict_storage_refuses_content_that_does_not_fit_its_checksum(
    wire_storage: WireStorage, bucket_name: str
) -> None:
    wire_storage.create_bucket(bucket_name)
    body = b'--x\r\n\r\n{"name": "a", "crc32c": "AAAAAA=="}\r\n--x\r\n\r\ncontent\r\n--x--'
    answer = httpx.post(
        f"{wire_storage.url}/upload/storage/v1/b/{bucket_name}/o?uploadType=multipart",
        content=body,
        headers={"Content-Type": "multipart/related; boundary=x"},
    )

    assert answer.status_code == 400
    assert wire_storage.buckets.names(bucket_name, "") == []


def test_faults_spoil_as_many_requests_as_they_are_told_to(wire_storage: WireStorage) -> None:
    url = f"{wire_storage.url}/storage/v1/b/none"
    with wire_storage.server.fault(Fault(kind="status", status=418, times=2)):
        statuses = [httpx.get(url).status_code for _ in range(3)]
    with wire_storage.server.fault(Fault(kind="reset")), pytest.raises(httpx.ReadError):
        httpx.get(url)
    with (
        wire_storage.server.fault(Fault(kind="truncate")),
        pytest.raises(httpx.RemoteProtocolError),
    ):
        httpx.get(url)

    assert statuses == [418, 418, 404]


def test_artifact_registry_challenges_with_realm_service_and_scope(
    artifact_registry: RegistryFront,
) -> None:
    answer = httpx.get(f"{artifact_registry.url}/v2/p/r/app/manifests/v1")

    challenge = answer.headers["WWW-Authenticate"]
    assert answer.status_code == 401
    assert challenge == (
        f'Bearer realm="{artifact_registry.url}/token",service="{artifact_registry.host}",'
        'scope="repository:p/r/app:pull,push"'
    )


def test_a_wrong_password_gets_no_token(artifact_registry: RegistryFront) -> None:
    answer = httpx.get(f"{artifact_registry.url}/token", auth=("someone", "wrong"))

    assert answer.status_code == 401


def test_secret_manager_keeps_versions(loopback_cloud: LoopbackCloud) -> None:
    address = loopback_cloud.builds.endpoint.removeprefix("http://")
    with grpc.insecure_channel(address) as channel:
        transport = SecretManagerServiceGrpcTransport(channel=channel)
        client = secretmanager_v1.SecretManagerServiceClient(transport=transport)
        secret = client.create_secret(parent="projects/p", secret_id="hub", secret={})
        for content in (b"one", b"two"):
            client.add_secret_version(parent=secret.name, payload={"data": content})

        latest = client.access_secret_version(name=f"{secret.name}/versions/latest")
        first = client.access_secret_version(name=f"{secret.name}/versions/1")
        with pytest.raises(NotFound):
            client.access_secret_version(name=f"{secret.name}/versions/3")

    assert (latest.payload.data, first.payload.data) == (b"two", b"one")


@pytest.fixture(scope="module")
def bucket(loopback_cloud: LoopbackCloud) -> str:
    """A bucket for sources and logs."""
    loopback_cloud.create_repository(PROJECT, "repo")
    return loopback_cloud.storage.create_bucket("loopback-builds")


@pytest.fixture
def builds(loopback_cloud: LoopbackCloud) -> Iterator[CloudBuild]:
    """Cloud Build, with real builds."""
    with closing(
        CloudBuild(PROJECT, endpoint=loopback_cloud.builds.endpoint, call_seconds=4)
    ) as client:
        yield client


def spec_of(
    cloud: LoopbackCloud, bucket: str, dockerfile: str, options: BuildOptions | None = None
) -> BuildSpec:
    """A build of a Dockerfile, its source uploaded."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(dockerfile)
        tar.addfile(entry, io.BytesIO(dockerfile.encode()))
    name = f"source-{time.time_ns()}.tar.gz"
    with closing(GoogleStore(bucket, endpoint=cloud.storage.url)) as store:
        store.put_if_absent(name, archive.getvalue())
    return BuildSpec(
        image=f"{REGISTRY_HOST}/{PROJECT}/repo/app:{time.time_ns()}",
        bucket=bucket,
        source_object=name,
        logs_prefix="logs",
        tags=("kinetic",),
        options=options or BuildOptions(),
    )


def ended(builds: CloudBuild, build_id: str) -> BuildState:
    wait_until(lambda: not builds.get(build_id).is_running, 60, "the end of the build")
    return builds.get(build_id)


def log_of(cloud: LoopbackCloud, bucket: str, build_id: str) -> str:
    with closing(GoogleStore(bucket, endpoint=cloud.storage.url)) as store:
        return store.get(f"logs/log-{build_id}.txt").data.decode()


def test_a_submitted_dockerfile_is_really_built_and_pushed(
    loopback_cloud: LoopbackCloud, builds: CloudBuild, bucket: str
) -> None:
    spec = spec_of(loopback_cloud, bucket, "FROM scratch\nCOPY Dockerfile /\n")

    state = ended(builds, builds.submit(spec).id)

    assert state.status == "SUCCESS"
    path, _, tag = spec.image.partition("/")[2].rpartition(":")
    manifest = httpx.head(f"{loopback_cloud.registry.url}/v2/{path}/manifests/{tag}")
    assert manifest.status_code == 200
    assert state.images[spec.image].startswith("sha256:")
    assert "PUSH" in log_of(loopback_cloud, bucket, state.id)


def test_a_step_that_fails_fails_the_build_and_is_named(
    loopback_cloud: LoopbackCloud, builds: CloudBuild, bucket: str
) -> None:
    spec = spec_of(loopback_cloud, bucket, f"FROM {IMAGE}\nRUN echo no && exit 3\n")

    state = ended(builds, builds.submit(spec).id)

    assert state.status == "FAILURE"
    assert state.step_statuses == (("gcr.io/cloud-builders/docker", "FAILURE"),)
    assert "non-zero status" in state.detail
    assert "\nno\n" in log_of(loopback_cloud, bucket, state.id)


SLOW = f"FROM {IMAGE}\nRUN echo started && sleep 120\n"


def test_a_build_is_ended_by_its_own_time_limit(
    loopback_cloud: LoopbackCloud, builds: CloudBuild, bucket: str
) -> None:
    spec = spec_of(loopback_cloud, bucket, SLOW, BuildOptions(timeout_seconds=3))

    assert ended(builds, builds.submit(spec).id).status == "TIMEOUT"


def test_a_cancelled_build_ends_and_its_log_had_grown_while_it_ran(
    loopback_cloud: LoopbackCloud, builds: CloudBuild, bucket: str
) -> None:
    state = builds.submit(spec_of(loopback_cloud, bucket, SLOW))

    def has_started() -> bool:
        with suppress(Exception):
            return "started" in log_of(loopback_cloud, bucket, state.id).split("STEP 2")[1]
        return False

    wait_until(has_started, 30, "the first line of the step")
    assert builds.get(state.id).is_running
    builds.cancel(state.id)

    assert ended(builds, state.id).status == "CANCELLED"
    builds.cancel(state.id)


def test_a_cloud_build_that_never_answers_is_given_up_within_the_timeout(
    loopback_cloud: LoopbackCloud, builds: CloudBuild
) -> None:
    started = time.monotonic()
    server: CloudBuildServer = loopback_cloud.builds
    with (
        server.server.fault(CallFault(method="GetBuild", times=9, stall_seconds=6)),
        pytest.raises(BuildError, match="cannot be reached"),
    ):
        builds.get("some-build")

    assert time.monotonic() - started < 6
