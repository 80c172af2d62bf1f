"""Images in a real registry, behind the token flows of Artifact Registry and Docker Hub."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from kinetic_flows.clients.registry.connections import RegistryLimits
from kinetic_flows.clients.registry.credentials import DockerConfig, GoogleRegistryCredentials
from kinetic_flows.clients.registry.images import OciRegistry
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.image_registry import ResolvedImage
from loopback.registry import DockerRegistry, RegistryFront
from loopback.small_images import Pusher
from loopback.wire import Fault

pytest_plugins = ["loopback.fixtures"]

HOST = "us-docker.pkg.dev"
QUICK = RegistryLimits(
    connect_seconds=2, read_seconds=0.5, total_seconds=5, tries=3, backoff_seconds=0.05
)


class Pauses:
    """Stands for the clock between tries: notes the pauses and takes none."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def repository(artifact_registry: RegistryFront) -> str:
    """A repository that exists and that anyone may read."""
    repository = f"project/kn-{uuid4().hex[:8]}"
    artifact_registry.repositories.add(repository)
    return repository


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def registry(artifact_registry: RegistryFront, pauses: Pauses) -> Iterator[OciRegistry]:
    """A client that asks as nobody."""
    client = OciRegistry(endpoints={HOST: artifact_registry.url}, limits=QUICK, sleep=pauses)
    yield client
    client.close()


def google_client(front: RegistryFront, token: str) -> OciRegistry:
    """A client that asks with an access token of Google's."""
    credentials = GoogleRegistryCredentials(token=lambda: token)
    return OciRegistry(credentials=credentials, endpoints={HOST: front.url}, limits=QUICK)


def test_a_tag_resolves_to_digest_and_labels(
    registry: OciRegistry, docker_registry: DockerRegistry, repository: str
) -> None:
    digest = Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {"kinetic.a": "b"})

    image = registry.resolve(f"{HOST}/{repository}/app:v1")

    assert image is not None
    assert image.reference == f"{HOST}/{repository}/app@{digest}"
    assert image.digest == digest
    assert image.labels == {"kinetic.a": "b"}


def test_an_image_of_many_platforms_is_known_by_its_index_and_described_by_amd64(
    registry: OciRegistry, docker_registry: DockerRegistry, repository: str
) -> None:
    pusher = Pusher(docker_registry.url, f"{repository}/app")
    arm, amd = pusher.push_image("arm", {"for": "arm"}), pusher.push_image("amd", {"for": "amd"})
    index = pusher.push_index("both", {"arm64": arm, "amd64": amd})

    image = registry.resolve(f"{HOST}/{repository}/app:both")

    assert image is not None
    assert image.digest == index
    assert image.labels == {"for": "amd"}


def test_an_image_is_described_for_the_architecture_that_is_asked_for(
    registry: OciRegistry, docker_registry: DockerRegistry, repository: str
) -> None:
    pusher = Pusher(docker_registry.url, f"{repository}/app")
    arm = pusher.push_image("arm", {}, environment={"FOR": "arm=1"}, architecture="arm64")
    pusher.push_index("both", {"arm64": arm, "amd64": pusher.push_image("amd", {})})

    image = registry.resolve(f"{HOST}/{repository}/app:both", architecture="arm64")

    assert image is not None
    assert image.config is not None
    assert image.config.platform == "linux/arm64"
    assert image.config.environment == {"FOR": "arm=1"}
    assert image.config.size_bytes > 0


def test_what_is_known_of_an_image_is_kept_by_digest_and_checked_when_read(
    artifact_registry: RegistryFront,
    docker_registry: DockerRegistry,
    repository: str,
    tmp_path: Path,
) -> None:
    Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {"kinetic.a": "b"})
    name = f"{HOST}/{repository}/app:v1"

    def ask() -> tuple[ResolvedImage | None, int]:
        client = OciRegistry(
            endpoints={HOST: artifact_registry.url}, limits=QUICK, documents=tmp_path / "images"
        )
        before = len(artifact_registry.server.requests)
        with closing(client):
            found = client.resolve(name)
        asked = artifact_registry.server.requests[before:]
        return found, sum(method == "GET" and "/v2/" in path for method, path in asked)

    first, fetched = ask()
    assert fetched > 0
    assert ask() == (first, 0), "the second client asks for nothing but the digest"
    for path in (tmp_path / "images").iterdir():
        path.write_text("spoilt")
    assert ask() == (first, fetched)


def test_an_image_without_amd64_is_an_error_that_says_how_to_build_it(
    registry: OciRegistry, docker_registry: DockerRegistry, repository: str
) -> None:
    pusher = Pusher(docker_registry.url, f"{repository}/app")
    pusher.push_index("arm", {"arm64": pusher.push_image("one", {})})

    with pytest.raises(ImageError, match="--platform linux/amd64"):
        registry.resolve(f"{HOST}/{repository}/app:arm")


def test_a_tag_that_was_never_pushed_is_missing(
    registry: OciRegistry, docker_registry: DockerRegistry, repository: str
) -> None:
    Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {})

    assert registry.resolve(f"{HOST}/{repository}/app:v2") is None
    assert registry.resolve(f"{HOST}/{repository}/other:v1") is None


def test_a_repository_that_does_not_exist_is_an_error_with_the_command_that_creates_it(
    registry: OciRegistry,
) -> None:
    with pytest.raises(ImageError) as raised:
        registry.resolve(f"{HOST}/my-project/nowhere/app:v1")

    assert raised.value.hint == (
        "create it with: gcloud artifacts repositories create nowhere "
        "--repository-format=docker --location=us --project=my-project"
    )


def test_a_private_repository_names_the_role_to_grant(
    registry: OciRegistry, artifact_registry: RegistryFront, repository: str
) -> None:
    artifact_registry.private.add(repository)

    with pytest.raises(ImageError, match=r"roles/artifactregistry\.reader"):
        registry.resolve(f"{HOST}/{repository}/app:v1")


def test_an_access_token_opens_a_private_repository(
    artifact_registry: RegistryFront, docker_registry: DockerRegistry, repository: str
) -> None:
    Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {})
    artifact_registry.private.add(repository)
    artifact_registry.accounts["oauth2accesstoken"] = "ya29.token"
    client = google_client(artifact_registry, "ya29.token")

    assert client.resolve(f"{HOST}/{repository}/app:v1") is not None
    client.close()


def test_a_wrong_access_token_is_no_access_and_not_a_missing_image(
    artifact_registry: RegistryFront, repository: str
) -> None:
    client = google_client(artifact_registry, "expired")

    with pytest.raises(ImageError, match="no access"):
        client.resolve(f"{HOST}/{repository}/app:v1")
    client.close()


def test_a_token_is_fetched_once_and_again_when_it_has_expired(
    registry: OciRegistry,
    artifact_registry: RegistryFront,
    docker_registry: DockerRegistry,
    repository: str,
) -> None:
    Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {})
    for _ in range(3):
        registry.resolve(f"{HOST}/{repository}/app:v1")
    assert token_requests(artifact_registry) == 1

    artifact_registry.expire_tokens()
    assert registry.resolve(f"{HOST}/{repository}/app:v1") is not None
    assert token_requests(artifact_registry) == 2


def token_requests(front: RegistryFront) -> int:
    return sum(target.startswith("/token") for _, target in front.server.requests)


def test_docker_hub_answers_alike_for_missing_and_private_and_the_error_says_both(
    docker_hub: RegistryFront,
) -> None:
    client = OciRegistry(endpoints={"docker.io": docker_hub.url}, limits=QUICK)

    with pytest.raises(ImageError, match="does not exist, or it is private"):
        client.resolve("someone/secret:v1")
    client.close()


def test_docker_login_opens_a_private_repository_of_docker_hub(
    docker_hub: RegistryFront, docker_registry: DockerRegistry, tmp_path: Path
) -> None:
    Pusher(docker_registry.url, "someone/secret").push_image("v1", {})
    docker_hub.repositories.add("someone/secret")
    docker_hub.private.add("someone/secret")
    docker_hub.accounts["someone"] = "s3cret"
    auth = base64.b64encode(b"someone:s3cret").decode()
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": auth}}}))
    client = OciRegistry(
        credentials=DockerConfig(path=config),
        endpoints={"docker.io": docker_hub.url},
        limits=QUICK,
    )

    assert client.resolve("someone/secret:v1") is not None
    client.close()


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=503, times=2),
        Fault(kind="reset"),
        Fault(kind="stall", pause_seconds=1),
        Fault(kind="truncate", method="GET"),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_passing_fault_is_not_noticed(
    registry: OciRegistry,
    artifact_registry: RegistryFront,
    docker_registry: DockerRegistry,
    repository: str,
    fault: Fault,
) -> None:
    digest = Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {})

    with artifact_registry.server.fault(Fault(**{**vars(fault), "path": "/v2/"})):
        image = registry.resolve(f"{HOST}/{repository}/app:v1")

    assert image is not None
    assert image.digest == digest


def test_a_busy_registry_is_given_the_time_it_asks_for(
    registry: OciRegistry,
    artifact_registry: RegistryFront,
    docker_registry: DockerRegistry,
    repository: str,
    pauses: Pauses,
) -> None:
    Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {})
    busy = Fault(kind="status", status=429, headers={"Retry-After": "7"})

    with artifact_registry.server.fault(busy):
        assert registry.resolve(f"{HOST}/{repository}/app:v1") is not None

    assert pauses.seconds == [7.0]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=503, times=1000),
        Fault(kind="reset", times=1000),
        Fault(kind="stall", times=1000, pause_seconds=9),
        Fault(kind="drip", times=1000, pause_seconds=0.2, method="GET"),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_lasting_fault_is_an_error_within_the_timeout_and_never_a_missing_image(
    registry: OciRegistry,
    artifact_registry: RegistryFront,
    docker_registry: DockerRegistry,
    repository: str,
    fault: Fault,
) -> None:
    Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {})
    started = time.monotonic()

    with (
        artifact_registry.server.fault(fault),
        pytest.raises(ImageError, match="cannot be asked"),
    ):
        registry.resolve(f"{HOST}/{repository}/app:v1")

    assert time.monotonic() - started < QUICK.total_seconds + 1


def test_a_missing_image_behind_a_broken_connection_is_not_called_missing(
    registry: OciRegistry, artifact_registry: RegistryFront, repository: str
) -> None:
    broken = Fault(kind="truncate", times=1000, method="GET", path="/manifests/")

    with artifact_registry.server.fault(broken), pytest.raises(ImageError):
        registry.resolve(f"{HOST}/{repository}/app:v1")


def test_a_registry_that_nobody_runs_is_unreachable() -> None:
    client = OciRegistry(endpoints={HOST: "http://127.0.0.1:9"}, limits=QUICK, sleep=Pauses())

    with pytest.raises(ImageError, match="cannot be asked"):
        client.resolve(f"{HOST}/p/r/app:v1")
    client.close()


PASSING_TOKEN_FAULTS = [
    Fault(kind="status", status=503, times=2),
    Fault(kind="status", status=429, headers={"Retry-After": "2"}),
    Fault(kind="reset"),
    Fault(kind="stall", pause_seconds=1),
    Fault(kind="truncate"),
]


@pytest.mark.parametrize(
    "fault", PASSING_TOKEN_FAULTS, ids=lambda fault: f"{fault.kind}-{fault.status}"
)
def test_a_passing_fault_of_the_token_server_is_not_noticed(
    registry: OciRegistry,
    artifact_registry: RegistryFront,
    docker_registry: DockerRegistry,
    repository: str,
    pauses: Pauses,
    fault: Fault,
) -> None:
    Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {})

    with artifact_registry.server.fault(Fault(**{**vars(fault), "path": "/token"})) as met:
        assert registry.resolve(f"{HOST}/{repository}/app:v1") is not None

    assert met.times == 0
    if fault.headers:
        assert pauses.seconds == [2.0]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=503, times=1000),
        Fault(kind="reset", times=1000),
        Fault(kind="stall", times=1000, pause_seconds=9),
        Fault(kind="drip", times=1000, pause_seconds=0.2),
        Fault(kind="truncate", times=1000),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_token_server_that_never_answers_is_an_error_within_the_timeout(
    registry: OciRegistry,
    artifact_registry: RegistryFront,
    docker_registry: DockerRegistry,
    repository: str,
    fault: Fault,
) -> None:
    Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {})
    started = time.monotonic()

    with (
        artifact_registry.server.fault(Fault(**{**vars(fault), "path": "/token"})),
        pytest.raises(ImageError, match="cannot be asked"),
    ):
        registry.resolve(f"{HOST}/{repository}/app:v1")

    assert time.monotonic() - started < QUICK.total_seconds + 1


@pytest.mark.parametrize("status", [200, 401, 403, 404])
def test_a_token_server_that_gives_no_token_is_no_access_and_never_a_missing_image(
    registry: OciRegistry,
    artifact_registry: RegistryFront,
    docker_registry: DockerRegistry,
    repository: str,
    status: int,
) -> None:
    Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {})
    nothing = Fault(kind="status", status=status, times=1000, path="/token")

    with artifact_registry.server.fault(nothing), pytest.raises(ImageError, match="no access"):
        registry.resolve(f"{HOST}/{repository}/app:v1")


@pytest.mark.parametrize("path", ["/manifests/sha256:", "/blobs/sha256:"])
def test_an_altered_answer_is_refused_and_nothing_of_it_is_used(
    registry: OciRegistry,
    artifact_registry: RegistryFront,
    docker_registry: DockerRegistry,
    repository: str,
    path: str,
) -> None:
    Pusher(docker_registry.url, f"{repository}/app").push_image("v1", {"kinetic.a": "b"})
    altered = Fault(kind="alter", times=1000, method="GET", path=path)

    with (
        artifact_registry.server.fault(altered),
        pytest.raises(ImageError, match="sent something else"),
    ):
        registry.resolve(f"{HOST}/{repository}/app:v1")
