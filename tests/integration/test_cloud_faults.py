"""Every call to Google Cloud, with the wire spoiled: retried or reported, and never a hang."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest

from kinetic_flows.clients.google.secret_manager import SecretManager
from kinetic_flows.clients.google.storage import GoogleStore, StoreTimeouts
from kinetic_flows.core.errors import BuildError, KineticError, SecretError, StoreError
from kinetic_flows.platforms.gke.builds.build import BuildSpec
from kinetic_flows.platforms.gke.builds.cloud_build import CloudBuild
from loopback.cloud_build import CloudBuildServer, RunningBuild, Status
from loopback.grpc_services import CallFault
from loopback.storage_wire import WireStorage
from loopback.wire import Fault

pytest_plugins = ["loopback.fixtures"]

CALL_SECONDS = 1.5
STORE_SECONDS = 1.5
SLACK_SECONDS = 3.0

QUICK = StoreTimeouts(
    connect_seconds=1,
    read_seconds=0.4,
    retry_seconds=1,
    call_seconds=STORE_SECONDS,
    transfer_seconds=STORE_SECONDS,
)

SPEC = BuildSpec(
    image="us-docker.pkg.dev/p/r/app:1",
    bucket="b",
    source_object="s",
    logs_prefix="logs",
    tags=("kinetic",),
)


@pytest.fixture
def server() -> Iterator[CloudBuildServer]:
    """Cloud Build whose builds run until they are cancelled, and Secret Manager."""

    def run(running: RunningBuild) -> Any:
        running.cancelled.wait(30)
        return Status.CANCELLED

    server = CloudBuildServer(run).start()
    yield server
    server.stop()


@pytest.fixture
def builds(server: CloudBuildServer) -> Iterator[CloudBuild]:
    with closing(CloudBuild("p", endpoint=server.endpoint, call_seconds=CALL_SECONDS)) as builds:
        yield builds


@pytest.fixture
def secrets(server: CloudBuildServer) -> Iterator[SecretManager]:
    with closing(SecretManager("p", endpoint=server.endpoint, call_seconds=CALL_SECONDS)) as client:
        client.add("s", "content")
        yield client


BUILD_CALLS: dict[str, Callable[[CloudBuild, str], Any]] = {
    "CreateBuild": lambda builds, _: builds.submit(SPEC),
    "GetBuild": lambda builds, known: builds.get(known),
    "ListBuilds": lambda builds, _: builds.find_running("kinetic"),
    "CancelBuild": lambda builds, known: builds.cancel(known),
}
SECRET_CALLS: dict[str, Callable[[SecretManager], Any]] = {
    "GetSecretVersion": lambda secrets: secrets.latest("s"),
    "AccessSecretVersion": lambda secrets: secrets.read("s"),
    "AddSecretVersion": lambda secrets: secrets.add("s", "other"),
}
PASSING = {
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "too many requests": grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@pytest.mark.parametrize("code", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("method", BUILD_CALLS)
def test_a_cloud_build_that_is_busy_for_a_moment_is_asked_again(
    server: CloudBuildServer, builds: CloudBuild, method: str, code: grpc.StatusCode
) -> None:
    known = builds.submit(SPEC).id

    with server.server.fault(CallFault(method=method, code=code)) as fault:
        BUILD_CALLS[method](builds, known)

    assert fault.times == 0
    made = [build for build in server.builds if build.id != known]
    assert len(made) == (1 if method == "CreateBuild" else 0)


@pytest.mark.parametrize("stall_seconds", [0.0, 2 * CALL_SECONDS], ids=["refused", "stuck"])
@pytest.mark.parametrize("method", BUILD_CALLS)
def test_a_cloud_build_that_never_answers_is_reported_within_the_timeout(
    server: CloudBuildServer, builds: CloudBuild, method: str, stall_seconds: float
) -> None:
    known = builds.submit(SPEC).id
    # A submission is tried three times, and looked for after each.
    allowed = CALL_SECONDS * (3 if method == "CreateBuild" else 1) + SLACK_SECONDS
    started = time.monotonic()

    lasting = CallFault(method=method, times=1000, stall_seconds=stall_seconds)
    with server.server.fault(lasting), pytest.raises(BuildError, match="cannot be reached"):
        BUILD_CALLS[method](builds, known)

    assert time.monotonic() - started < allowed


@pytest.mark.parametrize("method", BUILD_CALLS)
def test_credentials_that_have_expired_are_reported_with_the_login(
    server: CloudBuildServer, builds: CloudBuild, method: str
) -> None:
    known = builds.submit(SPEC).id
    expired = CallFault(method=method, code=grpc.StatusCode.UNAUTHENTICATED, times=1000)

    with server.server.fault(expired), pytest.raises(BuildError) as raised:
        BUILD_CALLS[method](builds, known)

    assert "gcloud auth application-default login" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (CallFault(method="", times=1000), "cannot be reached"),
        (CallFault(method="", times=1000, stall_seconds=2 * CALL_SECONDS), "cannot be reached"),
        (
            CallFault(method="", times=1000, code=grpc.StatusCode.UNAUTHENTICATED),
            "does not accept the credentials",
        ),
        (CallFault(method="", times=1000, code=grpc.StatusCode.PERMISSION_DENIED), "secret s"),
    ],
    ids=["refused", "stuck", "expired", "denied"],
)
@pytest.mark.parametrize("method", SECRET_CALLS)
def test_a_secret_that_cannot_be_had_is_reported_within_the_timeout_and_never_called_missing(
    server: CloudBuildServer, secrets: SecretManager, method: str, fault: CallFault, words: str
) -> None:
    spoiled = CallFault(**{**vars(fault), "method": method})
    started = time.monotonic()

    with server.server.fault(spoiled), pytest.raises(SecretError, match=words):
        SECRET_CALLS[method](secrets)

    assert time.monotonic() - started < CALL_SECONDS + SLACK_SECONDS


# google-cloud-storage 3.17 leaves the answers of failed tries unread, and their sockets to the
# garbage collector.
unread = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def store(wire_storage: WireStorage, bucket_name: str) -> Iterator[GoogleStore]:
    wire_storage.create_bucket(bucket_name)
    with closing(GoogleStore(bucket_name, endpoint=wire_storage.url, timeouts=QUICK)) as store:
        store.put_if_absent("old", b"content" * 20)
        yield store
    gc.collect()


STORE_CALLS: dict[str, Callable[[GoogleStore], Any]] = {
    "get": lambda store: store.get("old"),
    "put": lambda store: store.put_if_absent("new", b"x" * 100),
    "replace": lambda store: store.replace_if_unchanged("old", b"y", store_generation(store)),
    "missing": lambda store: store.missing(["old", "new"]),
    "list": lambda store: list(store.list("")),
    "delete": lambda store: store.delete("old"),
}


def store_generation(store: GoogleStore) -> str:
    """Stand for a generation that was read before the wire broke."""
    return "1"


LASTING = [
    Fault(kind="status", status=503, times=1000),
    Fault(kind="status", status=429, headers={"Retry-After": "1"}, times=1000),
    Fault(kind="reset", times=1000),
    Fault(kind="stall", times=1000, pause_seconds=20),
    Fault(kind="drip", times=1000, pause_seconds=0.4),
]
WAYS_TO_FAIL = [
    pytest.param(call, fault, id=f"{call}-{fault.kind}-{fault.status}")
    for call in STORE_CALLS
    for fault in LASTING
    if (call, fault.kind) != ("delete", "drip")  # its answer has no body that could be slow
]


@unread
@pytest.mark.parametrize(("call", "fault"), WAYS_TO_FAIL)
def test_a_store_that_never_answers_is_reported_within_the_timeout(
    wire_storage: WireStorage, store: GoogleStore, call: str, fault: Fault
) -> None:
    started = time.monotonic()

    with wire_storage.server.fault(Fault(**vars(fault))), pytest.raises(StoreError, match="gs://"):
        STORE_CALLS[call](store)

    # A write asks who made the object that is in its way.
    assert time.monotonic() - started < 2 * STORE_SECONDS + SLACK_SECONDS


@unread
@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("call", STORE_CALLS)
def test_a_refusal_of_the_store_is_reported_whatever_was_asked(
    wire_storage: WireStorage, store: GoogleStore, call: str, status: int
) -> None:
    refusal = Fault(kind="status", status=status, times=1000)

    with wire_storage.server.fault(refusal), pytest.raises(KineticError) as raised:
        STORE_CALLS[call](store)

    assert isinstance(raised.value, StoreError)
    assert raised.value.hint
