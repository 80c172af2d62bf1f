"""What is in buckets, on the hub and in the web is fixed when a run is planned, and found by it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from kinetic_flows.clients.google.buckets import open_data_bucket
from kinetic_flows.code.data import elsewhere
from kinetic_flows.code.data.sources import DataSources, Surroundings
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.data import Data
from kinetic_flows.core.errors import UsageError
from kinetic_flows.platforms.local.store import LocalStore
from loopback.hub import HubServer
from loopback.storage_wire import WireStorage
from loopback.wire import Fault, Request, Response, WireServer
from stored_data import a_run

FILES = {
    "README.md": b"# A set\n",
    "data/train/part-0.txt": b"zero",
    "data/train/part-1.txt": b"one",
    "data/test-ü.txt": "tést".encode(),
    "data/a#b c.txt": b"odd",
    "weights.bin": bytes(range(256)) * 40,
}
LARGE = frozenset({"weights.bin"})


@pytest.fixture
def hub() -> Iterator[HubServer]:
    server = HubServer(page_size=2).start()
    yield server
    server.stop()


@pytest.fixture
def storage_wire() -> Iterator[WireStorage]:
    server = WireStorage().start()
    yield server
    server.stop()


@pytest.fixture
def bucket(storage_wire: WireStorage) -> storage.Bucket:
    storage_wire.create_bucket("bucket")
    client = storage.Client(
        project="p",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": storage_wire.url},
    )
    return client.bucket("bucket")


def put(bucket: storage.Bucket, objects: Mapping[str, bytes]) -> None:
    for name, content in objects.items():
        bucket.blob(name).upload_from_string(content)


def sources(
    tmp_path: Path, environ: Mapping[str, str] | None = None, url: str = "", **changes: bool
) -> DataSources:
    def open_bucket(name: str) -> ArtifactStore:
        return open_data_bucket(name, endpoint=url)

    return DataSources(
        Surroundings(
            home=tmp_path / "home",
            environ={"HOME": str(tmp_path), **(environ or {})},
            store=LocalStore(tmp_path / "store"),
            open_bucket=open_bucket,
            **{"sees_files": False, **changes},
        )
    )


def contents(root: Path) -> dict[str, bytes]:
    if root.is_file():
        return {root.name: root.read_bytes()}
    paths = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


# The hub


@pytest.mark.parametrize(
    ("source", "options", "wanted"),
    [
        ("hf://datasets/o/set", {}, FILES),
        ("hf://datasets/o/set@v1/weights.bin", {}, {"weights.bin": FILES["weights.bin"]}),
        (
            "hf://datasets/o/set/data",
            {"exclude": ["train"]},
            {"test-ü.txt": FILES["data/test-ü.txt"], "a#b c.txt": b"odd"},
        ),
        ("hf://datasets/o/set", {"include": ["*.md"]}, {"README.md": FILES["README.md"]}),
    ],
)
def test_a_run_gets_the_commit_that_was_planned(
    hub: HubServer,
    tmp_path: Path,
    source: str,
    options: dict[str, list[str]],
    wanted: dict[str, bytes],
) -> None:
    commit = hub.commit("dataset", "o/set", FILES, large=LARGE, branch="main")
    hub.commit("dataset", "o/set", FILES, large=LARGE, branch="v1")
    spec = sources(tmp_path, {"HF_ENDPOINT": hub.url}).ready(Data(source, **options))
    hub.commit("dataset", "o/set", {"README.md": b"newer"}, branch="main")
    with a_run(tmp_path) as bring:
        (path,) = bring(spec)
        assert contents(Path(path)) == wanted
    assert (spec.files, spec.size_bytes) == (len(wanted), sum(map(len, wanted.values())))
    if "@" not in source:
        assert spec.place["commit"] == commit


def test_equal_files_of_two_commits_are_the_same_data(hub: HubServer, tmp_path: Path) -> None:
    hub.commit("model", "o/m", {"a": b"a"})
    first = sources(tmp_path, {"HF_ENDPOINT": hub.url}).spec(Data("hf://models/o/m"))
    hub.commit("model", "o/m", {"a": b"a"})
    same = sources(tmp_path, {"HF_ENDPOINT": hub.url}).spec(Data("hf://models/o/m"))
    hub.commit("model", "o/m", {"a": b"b"})
    other = sources(tmp_path, {"HF_ENDPOINT": hub.url}).spec(Data("hf://models/o/m"))
    assert first.identity == same.identity != other.identity
    assert first.place["commit"] != same.place["commit"]


@pytest.mark.parametrize(
    ("source", "told", "hint"),
    [
        ("hf://datasets/o/none", "does not exist, or is private", "set HF_TOKEN"),
        ("hf://datasets/o/set@v9", "no such revision", "branches"),
        ("hf://datasets/o/set/none", "the hub has no none of dataset o/set", "look at its files"),
        ("hf://datasets/o/private", "does not exist, or is private", "set HF_TOKEN"),
        ("hf://datasets/o/gated", "access to it has to be granted", "set HF_TOKEN"),
    ],
)
def test_what_the_hub_refuses_is_said_before_anything_is_done(
    hub: HubServer, tmp_path: Path, source: str, told: str, hint: str
) -> None:
    hub.commit("dataset", "o/set", FILES)
    hub.commit("dataset", "o/private", FILES, readers=frozenset({"hf_reader"}))
    hub.commit("dataset", "o/gated", FILES, readers=frozenset({"hf_reader"}), gated=True)
    with pytest.raises(UsageError) as refused:
        sources(tmp_path, {"HF_ENDPOINT": hub.url}).spec(Data(source))
    assert told in refused.value.message
    assert hint in (refused.value.hint or "")


def test_a_token_without_access_is_told_so(hub: HubServer, tmp_path: Path) -> None:
    hub.commit("dataset", "o/gated", FILES, readers=frozenset({"hf_reader"}), gated=True)
    environ = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_other"}
    with pytest.raises(UsageError, match="has to be granted") as refused:
        sources(tmp_path, environ).spec(Data("hf://datasets/o/gated"))
    assert refused.value.hint == "ask for access on its page"
    assert "hf_other" not in str(refused.value)


@pytest.mark.parametrize("where", ["variable", "login"])
def test_the_token_is_that_of_the_variable_or_of_a_login(
    hub: HubServer, tmp_path: Path, where: str
) -> None:
    hub.commit("dataset", "o/private", FILES, readers=frozenset({"hf_reader"}))
    environ = {"HF_ENDPOINT": hub.url}
    if where == "variable":
        environ["HF_TOKEN"] = "hf_reader"
    else:
        token = tmp_path / ".cache" / "huggingface" / "token"
        token.parent.mkdir(parents=True)
        token.write_text("hf_reader\n")
    data, found = Data("hf://datasets/o/private"), sources(tmp_path, environ)
    assert found.spec(data).files == len(FILES)
    (warning,) = found.warnings(data)
    assert "the run is given no token" in warning
    given = sources(tmp_path, environ, run_has_token=True)
    given.spec(data)
    assert given.warnings(data) == ()


def test_a_gate_that_only_the_run_may_pass_is_its_own_business(
    hub: HubServer, tmp_path: Path
) -> None:
    hub.commit("dataset", "o/gated", FILES, readers=frozenset({"hf_reader"}), gated=True)
    found = sources(tmp_path, {"HF_ENDPOINT": hub.url}, run_has_token=True)
    assert found.spec(Data("hf://datasets/o/gated")).files == len(FILES)


@pytest.mark.parametrize("path", ["", "/data", "/README.md"])
def test_a_repository_that_has_another_name_by_now_is_found(
    hub: HubServer, tmp_path: Path, path: str
) -> None:
    readers = frozenset({"hf_reader"})
    hub.commit("dataset", "o/set", FILES, large=LARGE, readers=readers, gated=True)
    hub.rename("dataset", "o/set", "owner/set")
    environ = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_reader"}
    found = sources(tmp_path, environ, run_has_token=True)
    spec = found.ready(Data(f"hf://datasets/o/set{path}"))
    assert spec.place["repository"] == "owner/set"
    with a_run(tmp_path) as bring:
        (brought,) = bring(spec, **environ)
    assert spec.files == len(contents(Path(brought)))


def test_a_mirror_may_be_below_a_path(tmp_path: Path) -> None:
    def answer(request: Request) -> Response:
        if not request.path.startswith("/mirror/api/models/o/m/"):
            return Response(status=404)
        if "/revision/" in request.path:
            return Response(body=b'{"sha": "c", "id": "o/m"}')
        page = int(request.query.get("cursor", 0))
        entry = {"type": "file", "path": f"{page}", "size": 1, "oid": "0" * 40}
        link = {} if page else {"Link": f'<{server.url}{request.path}?cursor=1>; rel="next"'}
        return Response(headers=link, body=json.dumps([entry]).encode())

    server = WireServer(answer).start()
    spec = sources(tmp_path, {"HF_ENDPOINT": f"{server.url}/mirror"}).spec(Data("hf://models/o/m"))
    server.stop()
    assert spec.files == 2


def test_a_busy_hub_is_asked_again(hub: HubServer, tmp_path: Path) -> None:
    hub.commit("dataset", "o/set", FILES)
    with hub.too_many(2, 0), hub.wire.fault(Fault(kind="reset", times=1)):
        spec = sources(tmp_path, {"HF_ENDPOINT": hub.url}).spec(Data("hf://datasets/o/set"))
    assert spec.files == len(FILES)


def test_a_hub_that_is_out_of_reach_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetic_flows.clients.hub.RETRY_PAUSES_SECONDS", ())
    with pytest.raises(UsageError, match=r"http://127\.0\.0\.1:9 cannot be asked"):
        sources(tmp_path, {"HF_ENDPOINT": "http://127.0.0.1:9"}).spec(Data("hf://models/o/m"))


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}"])
def test_what_is_no_hub_is_told_so(tmp_path: Path, body: bytes) -> None:
    server = WireServer(lambda _: Response(body=body)).start()
    with pytest.raises(UsageError, match="does not answer as a hub"):
        sources(tmp_path, {"HF_ENDPOINT": server.url}).spec(Data("hf://models/o/m"))
    server.stop()


def test_too_many_files_are_refused(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "MOST_FILES", 3)
    hub.commit("dataset", "o/set", FILES)
    with pytest.raises(UsageError, match="more than 3 files"):
        sources(tmp_path, {"HF_ENDPOINT": hub.url}).spec(Data("hf://datasets/o/set"))


# Cloud Storage

OBJECTS = {
    "set/a.txt": b"a",
    "set/deep/b.bin": bytes(range(256)) * 50,
    "set/deep/": b"",
    "set/ü #?.txt": b"odd",
    "set-of-others/c": b"c",
    "set.txt": b"one file",
}
SET = {"a.txt": b"a", "deep/b.bin": OBJECTS["set/deep/b.bin"], "ü #?.txt": b"odd"}


@pytest.mark.parametrize(
    ("source", "options", "wanted"),
    [
        ("gs://bucket/set", {}, SET),
        ("gs://bucket/set/", {}, SET),
        ("gs://bucket/set", {"include": ["*.txt"]}, {"a.txt": b"a", "ü #?.txt": b"odd"}),
        ("gs://bucket/set.txt", {}, {"set.txt": b"one file"}),
        (
            "gs://bucket",
            {},
            {name: content for name, content in OBJECTS.items() if not name.endswith("/")},
        ),
    ],
)
def test_a_run_gets_what_was_in_the_bucket(
    storage_wire: WireStorage,
    bucket: storage.Bucket,
    tmp_path: Path,
    source: str,
    options: dict[str, list[str]],
    wanted: dict[str, bytes],
) -> None:
    put(bucket, OBJECTS)
    spec = sources(tmp_path, url=storage_wire.url).ready(Data(source, **options))
    with a_run(tmp_path, client=bucket.client) as bring:
        (path,) = bring(spec)
        assert contents(Path(path)) == wanted
    assert (spec.files, spec.size_bytes) == (len(wanted), sum(map(len, wanted.values())))


def test_a_new_version_of_an_object_is_other_data(
    storage_wire: WireStorage, bucket: storage.Bucket, tmp_path: Path
) -> None:
    put(bucket, OBJECTS)
    first = sources(tmp_path, url=storage_wire.url).spec(Data("gs://bucket/set"))
    again = sources(tmp_path, url=storage_wire.url).spec(Data("gs://bucket/set"))
    put(bucket, {"set/a.txt": b"b"})
    other = sources(tmp_path, url=storage_wire.url).spec(Data("gs://bucket/set"))
    assert first.identity == again.identity != other.identity


def test_what_is_mounted_and_what_deployments_read_is_not_asked_for(
    storage_wire: WireStorage, bucket: storage.Bucket, tmp_path: Path
) -> None:
    put(bucket, OBJECTS)
    storage_wire.server.requests.clear()
    plain = sources(tmp_path, url=storage_wire.url)
    mounted = plain.spec(Data("gs://bucket/set", mode="mount"))
    deployed = plain.of_deployment().spec(Data("gs://bucket/set"))
    assert (mounted.identity, deployed.identity, storage_wire.server.requests) == ("", "", [])
    compared = sources(tmp_path, url=storage_wire.url, is_compared=True)
    assert compared.spec(Data("gs://bucket/set", mode="mount")).identity


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("gs://no-bucket/x", "the bucket gs://no-bucket does not exist"),
        ("gs://bucket/nothing", "is not there"),
        ("gs://bucket/se", "is not there"),
    ],
)
def test_what_is_not_in_a_bucket_is_said_before_anything_is_done(
    storage_wire: WireStorage, bucket: storage.Bucket, tmp_path: Path, source: str, told: str
) -> None:
    put(bucket, OBJECTS)
    with pytest.raises(UsageError) as refused:
        sources(tmp_path, url=storage_wire.url).spec(Data(source))
    assert told in refused.value.message
    assert "create" not in (refused.value.hint or "")


def test_a_bucket_that_is_closed_says_which_right_is_missing(
    storage_wire: WireStorage, bucket: storage.Bucket, tmp_path: Path
) -> None:
    with (
        storage_wire.server.fault(Fault(kind="status", times=9, status=403)),
        pytest.raises(UsageError) as refused,
    ):
        sources(tmp_path, url=storage_wire.url).spec(Data("gs://bucket/set"))
    assert "roles/storage.objectViewer" in (refused.value.hint or "")


def test_no_pattern_matches_is_told_so(
    storage_wire: WireStorage, bucket: storage.Bucket, tmp_path: Path
) -> None:
    put(bucket, OBJECTS)
    with pytest.raises(UsageError, match="no file in it matches"):
        sources(tmp_path, url=storage_wire.url).spec(Data("gs://bucket/set", include=["*.csv"]))


# The web


@pytest.fixture
def web() -> Iterator[WireServer]:
    def answer(request: Request) -> Response:
        if request.path == "/moved":
            return Response(status=302, headers={"Location": "/file.csv"})
        if request.path == "/file.csv":
            return Response(
                headers={"Content-Length": "4"} if request.method == "HEAD" else {}, body=b"1,2\n"
            )
        return Response(status=405 if request.path == "/no-head" else 404)

    server = WireServer(answer).start()
    yield server
    server.stop()


@pytest.mark.parametrize(("path", "size"), [("/file.csv", 4), ("/moved", 4), ("/no-head", None)])
def test_a_file_of_the_web_is_its_digest(
    web: WireServer, tmp_path: Path, path: str, size: int | None
) -> None:
    digest = hashlib.sha256(b"1,2\n").hexdigest()
    spec = sources(tmp_path).spec(Data(f"{web.url}{path}", sha256=digest))
    assert (spec.identity, spec.is_file, spec.size_bytes) == (digest, True, size)


def test_a_file_that_is_gone_is_refused(web: WireServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not there: its server answers 404") as refused:
        sources(tmp_path).spec(Data(f"{web.url}/gone?key=hunter2", sha256="0" * 64))
    assert "hunter2" not in str(refused.value)


def test_a_server_out_of_reach_may_be_reached_by_the_run(tmp_path: Path) -> None:
    spec = sources(tmp_path).spec(Data("http://127.0.0.1:9/file", sha256="0" * 64))
    assert spec.size_bytes is None


def test_the_address_that_is_fetched_is_whole_and_the_one_shown_is_not(
    web: WireServer, tmp_path: Path
) -> None:
    url = f"{web.url}/file.csv?signature=hunter2"
    spec = sources(tmp_path).spec(Data(url, sha256="0" * 64))
    assert (spec.place["url"], spec.source) == (url, f"{web.url}/file.csv")
