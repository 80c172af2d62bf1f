"""Images put together in a real registry, which drops, forgets, refuses and redirects."""

from __future__ import annotations

import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import httpx
import pytest

from kinetic_flows.clients.registry.connections import RegistryLimits
from kinetic_flows.clients.registry.credentials import RegistryCredentials
from kinetic_flows.clients.registry.errors import (
    DeletionNotAllowedError,
    ManifestChangedError,
    UnknownBlobs,
)
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.errors import ImageError, RegistryAccessError, RepositoryNotFoundError
from loopback.proxy import forward_to
from loopback.registry import DockerRegistry, RegistryFront
from loopback.registry_manners import refusal
from loopback.wire import Fault, Request, Response, WireServer

pytest_plugins = ["loopback.fixtures"]

GOOGLE = "us-docker.pkg.dev"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CHUNK = 256 << 10
QUICK = RegistryLimits(
    connect_seconds=2,
    read_seconds=0.7,
    commit_seconds=0.7,
    total_seconds=20,
    tries=4,
    backoff_seconds=0.01,
    chunk_bytes=CHUNK,
)


class Login:
    """Stands for `docker login`."""

    def find(self, registry: str) -> RegistryCredentials | None:
        return RegistryCredentials(username="pusher", password="secret")


class Nobody:
    """Has no credentials."""

    def find(self, registry: str) -> RegistryCredentials | None:
        return None


class Content:
    """A blob of random bytes that can be sent, and what was told of its sending."""

    def __init__(self, size_bytes: int, seed: int = 0) -> None:
        self.data = random.Random(seed or uuid4().int).randbytes(size_bytes)
        self.digest = f"sha256:{hashlib.sha256(self.data).hexdigest()}"
        self.told: list[int] = []
        self.then: Callable[[], None] = lambda: None

    def open_at(self, offset: int) -> BinaryIO:
        return io.BytesIO(self.data[offset:])

    def on_sent(self, size_bytes: int) -> None:
        self.told.append(size_bytes)
        self.then()

    def upload(self, writer: RegistryWriter, name: str) -> None:
        writer.upload(name, self.digest, len(self.data), self.open_at, self.on_sent)

    @property
    def descriptor(self) -> dict[str, Any]:
        kind = "application/vnd.oci.image.layer.v1.tar+gzip"
        return {"mediaType": kind, "digest": self.digest, "size": len(self.data)}


class Place:
    """One repository of a registry, by the name that a client knows it by.

    Attributes:
        front: What the client talks to.
        registry: The registry behind it.
        path: The repository's path.
        host: The registry's host, as names have it.
    """

    def __init__(self, front: RegistryFront, registry: DockerRegistry, host: str) -> None:
        self.front, self.registry, self.host = front, registry, host
        self.path = f"project/kn-{uuid4().hex[:8]}"
        front.repositories.add(self.path)
        front.accounts["pusher"] = "secret"

    def name(self, image: str = "app") -> str:
        return f"{self.host}/{self.path}/{image}"

    def kept(self, digest: str, image: str = "app") -> bytes | None:
        """Return what the registry has of a blob."""
        answer = httpx.get(f"{self.registry.url}/v2/{self.path}/{image}/blobs/{digest}")
        return answer.content if answer.status_code == 200 else None

    def lose(self, digest: str, image: str = "app") -> None:
        url = f"{self.registry.url}/v2/{self.path}/{image}/blobs/{digest}"
        httpx.delete(url).raise_for_status()

    def sent(self, method: str, path: str = "/blobs/uploads/") -> int:
        """Return how many such requests there were."""
        asked = self.front.server.requests
        return sum(made == method and path in target for made, target in asked)


@pytest.fixture
def place(artifact_registry: RegistryFront, docker_registry: DockerRegistry) -> Place:
    """A repository of a registry that takes chunks."""
    return Place(artifact_registry, docker_registry, artifact_registry.host)


@pytest.fixture
def google(artifact_registry: RegistryFront, docker_registry: DockerRegistry) -> Place:
    """A repository of Artifact Registry, which takes none."""
    return Place(artifact_registry, docker_registry, GOOGLE)


@pytest.fixture
def writer(artifact_registry: RegistryFront) -> Iterator[RegistryWriter]:
    client = RegistryWriter(
        credentials=Login(), endpoints={GOOGLE: artifact_registry.url}, limits=QUICK
    )
    yield client
    client.close()


@pytest.fixture
def elsewhere(docker_registry: DockerRegistry) -> Iterator[WireServer]:
    """Another host with the same blobs, which keeps the headers that it was sent."""
    forward = forward_to(docker_registry.url)

    def answer(request: Request) -> Response:
        seen.append(request)
        return forward(request)

    seen: list[Request] = []
    server = WireServer(answer).start()
    server.seen = seen  # type: ignore[attr-defined]
    yield server
    server.stop()


def manifest_of(config: Content, *layers: Content) -> bytes:
    content = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {**config.descriptor, "mediaType": "application/vnd.oci.image.config.v1+json"},
        "layers": [layer.descriptor for layer in layers],
    }
    return json.dumps(content).encode()


def test_a_large_blob_goes_in_chunks_and_a_small_one_in_one_request(
    writer: RegistryWriter, place: Place
) -> None:
    large, small = Content(3 * CHUNK + 5), Content(100)

    large.upload(writer, place.name())
    small.upload(writer, place.name())

    assert place.kept(large.digest) == large.data
    assert place.kept(small.digest) == small.data
    assert place.sent("PATCH") == 3
    assert place.sent("PUT") == 2
    assert sum(large.told) == len(large.data)
    assert writer.sent_bytes == len(large.data) + len(small.data)


def test_an_empty_blob_is_sent(writer: RegistryWriter, place: Place) -> None:
    nothing = Content(0)

    nothing.upload(writer, place.name())

    assert writer.has_blob(place.name(), nothing.digest)


def test_artifact_registry_gets_every_blob_in_one_request(
    writer: RegistryWriter, google: Place
) -> None:
    google.front.manners.takes_chunks = False
    large = Content(3 * CHUNK)

    large.upload(writer, google.name())

    assert google.kept(large.digest) == large.data
    assert google.sent("PATCH") == 0


def test_a_registry_that_takes_no_chunks_gets_the_blob_whole_and_is_not_asked_again(
    writer: RegistryWriter, place: Place
) -> None:
    place.front.manners.takes_chunks = False
    first, second = Content(2 * CHUNK), Content(2 * CHUNK)

    first.upload(writer, place.name())
    second.upload(writer, place.name())

    assert place.kept(first.digest) == first.data
    assert place.kept(second.digest) == second.data
    assert place.sent("PATCH") == 1
    assert sum(first.told) == len(first.data)


def test_a_blob_that_the_registry_has_is_not_sent(writer: RegistryWriter, place: Place) -> None:
    blob = Content(2 * CHUNK)
    blob.upload(writer, place.name())
    sent, blob.told = writer.sent_bytes, []

    blob.upload(writer, place.name())

    assert writer.sent_bytes == sent
    assert sum(blob.told) == len(blob.data)


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="cut"),
        Fault(kind="reset"),
        Fault(kind="stall", pause_seconds=1.5),
        Fault(kind="status", status=503, times=2),
        Fault(kind="status", status=429, headers={"Retry-After": "0"}),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}" if fault.kind == "status" else fault.kind,
)
def test_an_upload_survives_what_passes(
    writer: RegistryWriter, place: Place, method: str, fault: Fault
) -> None:
    blob = Content(4 * CHUNK + 7)
    spoilt = Fault(**{**vars(fault), "method": method, "path": "/blobs/uploads/"})

    with place.front.server.fault(spoilt) as met:
        blob.upload(writer, place.name())

    assert met.times == 0
    assert place.kept(blob.digest) == blob.data
    assert sum(blob.told) == len(blob.data)


@pytest.mark.parametrize("kind", ["cut", "reset", "stall"])
def test_an_upload_in_one_request_survives_what_passes(
    writer: RegistryWriter, google: Place, kind: Any
) -> None:
    blob = Content(4 * CHUNK)
    spoilt = Fault(kind=kind, method="PUT", path="/blobs/uploads/", pause_seconds=1.5)

    with google.front.server.fault(spoilt) as met:
        blob.upload(writer, google.name())

    assert met.times == 0
    assert google.kept(blob.digest) == blob.data
    assert sum(blob.told) == len(blob.data)


@pytest.mark.parametrize("kind", ["cut", "reset", "stall"])
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_an_upload_goes_on_where_the_registry_says_that_it_is(
    writer: RegistryWriter, place: Place, kind: Any, method: str
) -> None:
    blob = Content(6 * CHUNK + 8)
    place.front.manners.resumes = True
    drop = Fault(kind=kind, method=method, path="/blobs/uploads/", pause_seconds=1.5)

    away = Fault(kind="reset", method="GET", path="/blobs/uploads/")
    drops = ExitStack()

    def break_off() -> None:
        if sum(blob.told) >= 3 * CHUNK:
            blob.then = lambda: None
            drops.enter_context(place.front.server.fault(drop))
            drops.enter_context(place.front.server.fault(away))

    blob.then = break_off
    with drops:
        blob.upload(writer, place.name())

    assert drop.times == 0
    assert place.kept(blob.digest) == blob.data
    assert place.sent("POST") == 1
    assert writer.sent_bytes <= len(blob.data) + CHUNK
    assert sum(blob.told) == len(blob.data)


def test_an_upload_that_the_registry_forgets_begins_anew(
    writer: RegistryWriter, place: Place
) -> None:
    blob = Content(4 * CHUNK)
    place.front.manners.forgets = 1

    blob.upload(writer, place.name())

    assert place.kept(blob.digest) == blob.data
    assert place.sent("POST") == 2
    assert sum(blob.told) == len(blob.data)


def test_a_registry_that_forgets_every_upload_is_named(
    writer: RegistryWriter, place: Place
) -> None:
    place.front.manners.forgets = 1000

    with pytest.raises(ImageError, match="began 4 times"):
        Content(4 * CHUNK).upload(writer, place.name())


def test_a_registry_that_is_gone_is_an_error_that_says_what_to_do(
    writer: RegistryWriter, place: Place
) -> None:
    gone = Fault(kind="reset", times=1000, path="/blobs/uploads/")

    with place.front.server.fault(gone), pytest.raises(ImageError, match="cannot be asked") as met:
        Content(4 * CHUNK).upload(writer, place.name())

    assert "run again" in str(met.value.hint)


def test_a_registry_that_has_had_enough_requests_is_told_from_one_that_is_gone(
    docker_hub: RegistryFront,
) -> None:
    docker_hub.repositories.add("library/python")
    client = RegistryWriter(endpoints={"docker.io": docker_hub.url}, limits=QUICK)
    enough = Fault(kind="status", status=429, times=1000)

    with docker_hub.server.fault(enough), pytest.raises(ImageError, match="answered 429") as met:
        client.manifest("python:3.11-slim")

    assert met.value.hint == (
        "it has had too many requests: run again later, or log in with docker login, which raises "
        "Docker Hub's limit"
    )
    client.close()


def test_a_token_that_expires_in_the_middle_is_renewed(
    writer: RegistryWriter, place: Place
) -> None:
    blob = Content(4 * CHUNK)
    expired: list[bool] = []

    def expire() -> None:
        if sum(blob.told) >= 2 * CHUNK and not expired:
            expired.append(True)
            place.front.expire_tokens()

    blob.then = expire
    blob.upload(writer, place.name())

    assert expired
    assert place.kept(blob.digest) == blob.data


def test_content_that_is_not_what_its_digest_says_is_not_kept(
    writer: RegistryWriter, place: Place
) -> None:
    blob = Content(100)
    blob.data = bytes(100)

    with pytest.raises(ImageError, match="something else"):
        blob.upload(writer, place.name())

    assert not writer.has_blob(place.name(), blob.digest)


def test_a_file_that_ends_early_is_not_kept(writer: RegistryWriter, place: Place) -> None:
    blob = Content(4 * CHUNK)
    size_bytes, blob.data = len(blob.data), blob.data[: 2 * CHUNK]

    with pytest.raises(ImageError, match="bytes early"):
        writer.upload(place.name(), blob.digest, size_bytes, blob.open_at)

    assert not writer.has_blob(place.name(), blob.digest)


def test_a_blob_is_mounted_from_another_image(writer: RegistryWriter, place: Place) -> None:
    blob = Content(100)
    blob.upload(writer, place.name("layers"))
    sent = writer.sent_bytes

    assert writer.mount(place.name(), blob.digest, place.name("layers"))

    assert place.kept(blob.digest) == blob.data
    assert writer.sent_bytes == sent


@pytest.mark.parametrize("copies", [False, True])
def test_a_refused_mount_says_so_and_its_upload_is_used(
    writer: RegistryWriter, place: Place, *, copies: bool
) -> None:
    blob = Content(100)
    blob.upload(writer, place.name("layers"))
    place.front.manners.refuses_mounts = True

    assert not writer.mount(place.name(), blob.digest, place.name("layers"))
    opened = place.sent("POST")
    if copies:
        writer.copy(place.name(), blob.digest, len(blob.data), place.name("layers"))
    else:
        blob.upload(writer, place.name())

    assert place.kept(blob.digest) == blob.data
    assert place.sent("POST") == opened


def test_nothing_is_mounted_from_another_registry(writer: RegistryWriter, place: Place) -> None:
    assert not writer.mount(place.name(), Content(1).digest, "docker.io/library/python")
    assert writer.requests == 0


@pytest.mark.parametrize("refuses", [False, True])
def test_a_blob_is_copied_within_a_registry(
    writer: RegistryWriter, place: Place, *, refuses: bool
) -> None:
    blob = Content(3 * CHUNK)
    blob.upload(writer, place.name("base"))
    place.front.manners.refuses_mounts = refuses
    told: list[int] = []

    writer.copy(place.name(), blob.digest, len(blob.data), place.name("base"), told.append)

    assert place.kept(blob.digest) == blob.data
    assert sum(told) == len(blob.data)


def test_a_blob_is_copied_from_another_registry_and_a_drop_of_either_is_survived(
    writer: RegistryWriter, place: Place, docker_registry: DockerRegistry
) -> None:
    blob = Content(3 * CHUNK)
    upstream = f"{docker_registry.host}/library/python-{uuid4().hex[:8]}"
    blob.upload(writer, upstream)

    with place.front.server.fault(Fault(kind="cut", method="PATCH", path="/blobs/uploads/")):
        writer.copy(place.name(), blob.digest, len(blob.data), upstream)

    assert place.kept(blob.digest) == blob.data


def test_a_download_goes_on_after_a_drop_and_is_checked(
    writer: RegistryWriter, place: Place
) -> None:
    blob = Content(3 * CHUNK)
    blob.upload(writer, place.name())
    reads = f"/blobs/{blob.digest}"

    with place.front.server.fault(Fault(kind="truncate", method="GET", path=reads)):
        assert b"".join(writer.download(place.name(), blob.digest)) == blob.data
    with (
        place.front.server.fault(Fault(kind="alter", method="GET", path=reads)),
        pytest.raises(ImageError, match="sent something else"),
    ):
        list(writer.download(place.name(), blob.digest))
    with pytest.raises(ImageError, match="has no blob"):
        list(writer.download(place.name(), Content(1).digest))


def test_blobs_are_read_from_another_host_which_sees_no_token(
    writer: RegistryWriter, place: Place, elsewhere: Any
) -> None:
    blob = Content(3 * CHUNK)
    blob.upload(writer, place.name())
    place.front.private.add(place.path)
    place.front.manners.blobs_at = elsewhere

    with elsewhere.fault(Fault(kind="truncate", method="GET")):
        assert b"".join(writer.download(place.name(), blob.digest)) == blob.data

    assert len(elsewhere.seen) == 2
    assert not any("Authorization" in request.headers for request in elsewhere.seen)


@pytest.mark.parametrize("redirects", [False, True])
@pytest.mark.parametrize("host", ["place", "google"])
def test_uploads_go_to_another_host_which_sees_no_token(
    writer: RegistryWriter,
    request: pytest.FixtureRequest,
    elsewhere: Any,
    host: str,
    *,
    redirects: bool,
) -> None:
    place: Place = request.getfixturevalue(host)
    place.front.manners.uploads_at = elsewhere
    place.front.manners.redirects = redirects
    blob = Content(3 * CHUNK)

    blob.upload(writer, place.name())

    assert place.kept(blob.digest) == blob.data
    assert elsewhere.seen
    assert not any("Authorization" in request.headers for request in elsewhere.seen)


def test_a_manifest_is_written_and_read_back(writer: RegistryWriter, place: Place) -> None:
    config, layer = Content(50), Content(60)
    for blob in (config, layer):
        blob.upload(writer, place.name())
    content = manifest_of(config, layer)

    digest = writer.put_manifest(f"{place.name()}:v1", content, MANIFEST)

    found = writer.manifest(f"{place.name()}:v1")
    assert found is not None
    assert (found.content, found.media_type, found.digest) == (content, MANIFEST, digest)
    assert writer.document(place.name(), config.digest) == config.data
    assert [each.tags for each in writer.listing(place.name())] == [("v1",)]
    assert writer.manifest(f"{place.name()}:v2") is None
    assert writer.listing(place.name("nothing")) == ()


def test_a_manifest_whose_blobs_the_registry_lost_names_them_and_is_not_kept(
    writer: RegistryWriter, place: Place
) -> None:
    config, layer, other = Content(50), Content(60), Content(70)
    for blob in (config, layer, other):
        blob.upload(writer, place.name())
    place.lose(layer.digest)

    with pytest.raises(UnknownBlobs) as met:
        writer.put_manifest(f"{place.name()}:v1", manifest_of(config, layer, other), MANIFEST)

    assert met.value.digests == (layer.digest,)
    assert writer.manifest(f"{place.name()}:v1") is None


def test_a_lacking_blob_is_understood_from_its_name_whatever_the_code(
    writer: RegistryWriter, place: Place
) -> None:
    config = Content(1)
    body = refusal(400, "MANIFEST_INVALID", f"{config.digest} was not found").body
    named = Fault(kind="status", status=400, body=body, method="PUT", path="/manifests/")

    with place.front.server.fault(named), pytest.raises(UnknownBlobs) as met:
        writer.put_manifest(f"{place.name()}:v1", manifest_of(config), MANIFEST)

    assert met.value.digests == (config.digest,)


def test_a_registry_that_does_not_name_the_blobs_that_it_lacks_is_understood(
    writer: RegistryWriter, place: Place
) -> None:
    body = refusal(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown").body
    unnamed = Fault(kind="status", status=404, body=body, method="PUT", path="/manifests/")

    with place.front.server.fault(unnamed), pytest.raises(UnknownBlobs) as met:
        writer.put_manifest(f"{place.name()}:v1", manifest_of(Content(1)), MANIFEST)

    assert met.value.digests == ()


@pytest.mark.parametrize("tells", [True, False])
def test_a_registry_that_changes_a_manifest_is_an_error_by_name(
    writer: RegistryWriter, place: Place, *, tells: bool
) -> None:
    config = Content(50)
    config.upload(writer, place.name())
    manners = place.front.manners
    manners.spoils = lambda content: json.dumps(json.loads(content), indent=1).encode()
    manners.tells_digests = tells

    with pytest.raises(ManifestChangedError, match="keeps another manifest"):
        writer.put_manifest(f"{place.name()}:v1", manifest_of(config), MANIFEST)


def test_a_tag_that_somebody_else_moves_meanwhile_is_no_changed_manifest(
    writer: RegistryWriter, place: Place
) -> None:
    configs = Content(50), Content(50)
    for config in configs:
        config.upload(writer, place.name())
    theirs, ours = (manifest_of(config) for config in configs)
    url = f"{place.registry.url}/v2/{place.path}/app/manifests/v1"

    def move() -> None:
        place.front.manners.after_push = lambda: None
        httpx.put(url, content=theirs, headers={"Content-Type": MANIFEST}).raise_for_status()

    place.front.manners.after_push = move
    digest = writer.put_manifest(f"{place.name()}:v1", ours, MANIFEST)

    assert digest == f"sha256:{hashlib.sha256(theirs).hexdigest()}"
    ours_digest = f"sha256:{hashlib.sha256(ours).hexdigest()}"
    assert writer.manifest(f"{place.name()}@{ours_digest}") is not None


@pytest.mark.parametrize("kind", ["reset", "stall", "truncate"])
def test_writing_a_manifest_survives_what_passes(
    writer: RegistryWriter, place: Place, kind: Any
) -> None:
    config = Content(50)
    config.upload(writer, place.name())
    content = manifest_of(config)

    with place.front.server.fault(Fault(kind=kind, path="/manifests/", pause_seconds=1.5)) as met:
        digest = writer.put_manifest(f"{place.name()}:v1", content, MANIFEST)

    assert met.times == 0
    assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_who_may_not_push_is_told_how_to_be_let(writer: RegistryWriter, google: Place) -> None:
    google.front.read_only.add("pusher")
    project, repository = google.path.split("/")

    for push in (
        lambda: Content(1).upload(writer, google.name()),
        lambda: writer.mount(google.name(), Content(1).digest, google.name("layers")),
        lambda: writer.put_manifest(f"{google.name()}:v1", manifest_of(Content(1)), MANIFEST),
    ):
        with pytest.raises(RegistryAccessError, match="uploadArtifacts") as met:
            push()
        assert met.value.hint == (
            "grant it with: gcloud artifacts repositories add-iam-policy-binding "
            f"{repository} --location=us --project={project} "
            "--member=user:YOU --role=roles/artifactregistry.writer"
        )


def test_whoever_is_nobody_may_not_push(google: Place) -> None:
    client = RegistryWriter(
        credentials=Nobody(), endpoints={GOOGLE: google.front.url}, limits=QUICK
    )

    with pytest.raises(RegistryAccessError):
        Content(1).upload(client, google.name())
    client.close()


def test_a_repository_that_does_not_exist_is_named_with_what_makes_it(
    writer: RegistryWriter, google: Place
) -> None:
    name = f"{GOOGLE}/project/nowhere/app"

    for use in (
        lambda: Content(1).upload(writer, name),
        lambda: writer.listing(name),
        lambda: writer.manifest(f"{name}:v1"),
        lambda: writer.put_manifest(f"{name}:v1", manifest_of(Content(1)), MANIFEST),
    ):
        with pytest.raises(RepositoryNotFoundError, match="does not exist") as met:
            use()
        assert "gcloud artifacts repositories create nowhere" in str(met.value.hint)


@pytest.mark.parametrize(
    ("status", "code", "words", "hint"),
    [
        (413, "", "", "limits the size of requests"),
        (405, "UNSUPPORTED", "The operation is unsupported.", "a mirror"),
        (403, "DENIED", "adding 5 MiB exceeds the configured quota", "quota raised"),
        (507, "", "", "quota raised"),
        (400, "DENIED", "tag v1 is immutable", "immutable"),
        (418, "TEAPOT", "short and stout", "image registry"),
    ],
)
def test_a_refusal_is_explained_with_the_registrys_words(
    writer: RegistryWriter, place: Place, status: int, code: str, words: str, hint: str
) -> None:
    body = refusal(status, code, words).body if code else b"<html>\xfc</html>"
    refused = Fault(kind="status", status=status, body=body, times=1000)

    for method, push in {
        "POST": lambda: Content(1).upload(writer, place.name()),
        "PUT": lambda: writer.put_manifest(f"{place.name()}:v1", b"{}", MANIFEST),
    }.items():
        refused.method = method
        with place.front.server.fault(refused), pytest.raises(ImageError) as met:
            push()
        assert words in met.value.message
        assert hint in str(met.value.hint)


def test_an_image_of_known_layers_takes_a_handful_of_requests(
    writer: RegistryWriter, google: Place
) -> None:
    layers = [Content(100) for _ in range(20)]
    for layer in layers:
        layer.upload(writer, google.name("layers"))

    def push(tag: str) -> int:
        before = writer.requests
        config = Content(100)
        config.upload(writer, google.name())
        content = manifest_of(config, *layers)
        try:
            writer.put_manifest(f"{google.name()}:{tag}", content, MANIFEST)
        except UnknownBlobs as lacking:
            for digest in lacking.digests:
                assert writer.mount(google.name(), digest, google.name("layers"))
            writer.put_manifest(f"{google.name()}:{tag}", content, MANIFEST)
        return writer.requests - before

    # A token to push, one to mount, the configuration in two, the manifest once more.
    assert push("first") == len(layers) + 7
    assert push("second") == 4


def test_threads_share_connections_and_tokens(place: Place) -> None:
    client = RegistryWriter(credentials=Login())
    blobs = [Content(100_000) for _ in range(24)]
    with ThreadPoolExecutor(24) as pool:
        list(pool.map(lambda blob: blob.upload(client, place.name()), blobs))
    client.close()

    assert all(place.kept(blob.digest) == blob.data for blob in blobs)
    # One to read, and one to write.
    assert place.sent("GET", "/token") <= 2


def test_an_image_is_deleted_with_its_tags(writer: RegistryWriter, google: Place) -> None:
    config = Content(50)
    config.upload(writer, google.name())
    for tag in ("v1", "v2"):
        digest = writer.put_manifest(f"{google.name()}:{tag}", manifest_of(config), MANIFEST)

    writer.delete(google.name(), digest, ["v1"])
    writer.delete(google.name(), digest)

    assert writer.manifest(f"{google.name()}@{digest}") is None
    assert writer.manifest(f"{google.name()}:v1") is None
    assert writer.listing(google.name()) == ()


def test_a_tag_that_was_given_to_another_image_is_not_deleted(
    writer: RegistryWriter, google: Place
) -> None:
    configs = Content(50), Content(50)
    for config in configs:
        config.upload(writer, google.name())
    old, new = (
        writer.put_manifest(f"{google.name()}:v1", manifest_of(config), MANIFEST)
        for config in configs
    )

    writer.delete(google.name(), old, ["v1"])

    assert writer.manifest(f"{google.name()}@{old}") is None
    found = writer.manifest(f"{google.name()}:v1")
    assert found is not None
    assert found.digest == new


def test_a_registry_that_deletes_nothing_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    registry = DockerRegistry(tmp_path / "registry", deletes=False).start()
    client = RegistryWriter(limits=QUICK)
    config = Content(50)
    name = f"{registry.host}/some/app"
    config.upload(client, name)
    digest = client.put_manifest(f"{name}:v1", manifest_of(config), MANIFEST)

    with pytest.raises(DeletionNotAllowedError, match="deletes nothing") as met:
        client.delete(name, digest)

    assert "REGISTRY_STORAGE_DELETE_ENABLED" in str(met.value.hint)
    assert client.manifest(f"{name}:v1") is not None
    client.close()
    registry.stop()
