"""Data of a bucket in a run: what was planned, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from kinetic_flows.runner_image.runner import data_bucket, data_draft, data_sources, stores
from kinetic_flows.runner_image.runner.contract import Fault

from kinetic_flows.core.job import EXIT_DATA_UNAVAILABLE, EXIT_OBJECT_REFUSED
from kinetic_flows.core.job_parts import DataSpec
from loopback.storage_wire import WireStorage
from loopback.wire import Fault as Spoil
from stored_data import Bring, a_run, store_data

OBJECTS = {
    "set/a.txt": b"a",
    "set/deep/b.bin": bytes(range(256)) * 50,
    "set/deep/empty": b"",
    "set/ü #?.txt": b"odd",
    "set-of-others/c": b"c",
    "single": b"one file",
}
WANTED = {name.removeprefix("set/"): data for name, data in OBJECTS.items() if "set/" in name}


@pytest.fixture
def server() -> Iterator[WireStorage]:
    server = WireStorage().start()
    server.create_bucket("bucket")
    yield server
    server.stop()


@pytest.fixture
def client(server: WireStorage) -> storage.Client:
    client = storage.Client(
        project="p",
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": server.url},
    )
    for name, data in OBJECTS.items():
        client.bucket("bucket").blob(name).upload_from_string(data)
    client.bucket("bucket").blob("set/folder/").upload_from_string(b"")
    return client


@pytest.fixture
def bring(tmp_path: Path, client: storage.Client) -> Iterator[Bring]:
    with a_run(tmp_path, client=client) as bring:
        yield bring


@pytest.fixture
def spec_of(server: WireStorage, client: storage.Client) -> Callable[..., DataSpec]:
    """Make specs as a client does, which has listed a bucket."""

    def spec_of(path: str = "set", names: Any = WANTED, **fields: Any) -> DataSpec:
        lines = []
        for name in sorted(names, key=str.encode):
            whole = path if fields.get("is_file") else f"{path}/{name}".lstrip("/")
            blob = server.buckets.get("bucket", whole).resource
            lines.append(f"{name}\0{blob['generation']}\0{blob['size']}\n")
        identity = hashlib.sha256("".join(["bucket\n", *lines]).encode()).hexdigest()
        said = {
            "kind": "bucket",
            "identity": identity,
            "source": f"gs://bucket/{path}",
            "name": path.rpartition("/")[2] or "bucket",
            "place": {"bucket": "bucket", "path": path},
            "files": len(lines),
        }
        return DataSpec(**{**said, **fields})

    return spec_of


def contents(path: str) -> dict[str, bytes]:
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in Path(path).rglob("*")
        if file.is_file()
    }


def test_what_is_below_a_path_is_brought(bring: Bring, spec_of: Callable[..., DataSpec]) -> None:
    [path] = bring(spec_of())
    assert contents(path) == WANTED
    assert Path(path).name == "set"


def test_all_of_a_bucket_is_brought(bring: Bring, spec_of: Callable[..., DataSpec]) -> None:
    [path] = bring(spec_of("", OBJECTS))
    assert contents(path) == OBJECTS


def test_an_object_is_brought(bring: Bring, spec_of: Callable[..., DataSpec]) -> None:
    [path] = bring(spec_of("single", ["single"], is_file=True))
    assert (Path(path).name, Path(path).read_bytes()) == ("single", b"one file")


def test_patterns_say_which_objects_are_wanted(
    bring: Bring, spec_of: Callable[..., DataSpec]
) -> None:
    wanted = {"deep/b.bin": WANTED["deep/b.bin"]}
    [path] = bring(spec_of("set", wanted, include=("deep/*",), exclude=("*empty",)))
    assert contents(path) == wanted


@pytest.mark.parametrize(("path", "name"), [("set", "set"), ("single", "single")])
def test_what_is_pinned_to_nothing_is_taken_as_it_is_now(
    bring: Bring, spec_of: Callable[..., DataSpec], client: storage.Client, path: str, name: str
) -> None:
    spec = DataSpec(**{**vars(spec_of(path, [])), "identity": "", "files": None})
    client.bucket("bucket").blob("set/newer").upload_from_string(b"newer")
    [copy] = bring(spec)
    if path == "set":
        assert contents(copy) == {**WANTED, "newer": b"newer"}
    else:
        assert Path(copy).read_bytes() == b"one file"
    assert Path(copy).name == name


@pytest.mark.parametrize("slice_bytes", [1000, 12_800])
def test_large_objects_come_in_slices(
    bring: Bring,
    spec_of: Callable[..., DataSpec],
    monkeypatch: pytest.MonkeyPatch,
    slice_bytes: int,
) -> None:
    for module in (data_draft, data_sources):
        monkeypatch.setattr(module, "SLICE_BYTES", slice_bytes)
    monkeypatch.setattr(data_bucket, "PIECE_BYTES", 300)
    [path] = bring(spec_of())
    assert contents(path) == WANTED


def test_what_has_changed_since_is_refused_and_the_newest_is_named(
    bring: Bring, spec_of: Callable[..., DataSpec], client: storage.Client
) -> None:
    spec = spec_of()
    client.bucket("bucket").blob("set/a.txt").upload_from_string(b"b")
    said = "gs://bucket/set is refused: it is not what it was when the run was planned: .*newest"
    with pytest.raises(Fault, match=rf"{said} of them 'a.txt' of .* UTC; call again") as caught:
        bring(spec)
    assert caught.value.exit_code == EXIT_OBJECT_REFUSED


def test_an_object_with_another_checksum_is_refused_by_name(
    bring: Bring, spec_of: Callable[..., DataSpec], server: WireStorage
) -> None:
    with (
        server.server.fault(Spoil(kind="alter", times=100, path="/download/")),
        pytest.raises(Fault, match=r"\S+ of gs://bucket/set is refused: its CRC32C is") as caught,
    ):
        bring(spec_of())
    assert caught.value.exit_code == EXIT_OBJECT_REFUSED


@pytest.mark.parametrize("kind", ["truncate", "reset"])
def test_what_breaks_off_is_asked_for_again(
    bring: Bring, spec_of: Callable[..., DataSpec], server: WireStorage, kind: Any
) -> None:
    with server.server.fault(Spoil(kind=kind, path="b.bin")) as spoiled:
        [path] = bring(spec_of())
    assert spoiled.times == 0
    assert contents(path) == WANTED


def test_what_may_not_be_read_is_named_and_who_may_not(
    bring: Bring, spec_of: Callable[..., DataSpec], server: WireStorage
) -> None:
    body = b'{"error": {"code": 403, "message": "denied"}}'
    with (
        server.server.fault(Spoil(kind="status", status=403, times=100, body=body)),
        pytest.raises(Fault, match=r"gs://bucket/set cannot be read: .*storage.objectViewer"),
    ):
        bring(spec_of())


def test_where_nothing_is_that_is_said(bring: Bring, spec_of: Callable[..., DataSpec]) -> None:
    with pytest.raises(Fault, match="there is nothing at gs://bucket/nowhere") as caught:
        bring(spec_of("nowhere", [], identity=""))
    assert caught.value.exit_code == EXIT_DATA_UNAVAILABLE


@pytest.mark.parametrize("name", ["set//x", "set/../x", "set/a.txt/x"])
def test_names_that_no_file_can_have_are_refused(
    bring: Bring, spec_of: Callable[..., DataSpec], client: storage.Client, name: str
) -> None:
    client.bucket("bucket").blob(name).upload_from_string(b"x")
    with pytest.raises(Fault, match=r"leave (it|one) out with exclude="):
        bring(spec_of("set", [], identity=""))
    [path] = bring(spec_of("set", [], identity="", exclude=("*x",)))
    assert contents(path) == WANTED


@pytest.mark.parametrize("piece_bytes", [1 << 20, 100, 101, 301])
def test_what_a_client_has_uploaded_is_read_in_ranges(
    tmp_path: Path,
    server: WireStorage,
    client: storage.Client,
    monkeypatch: pytest.MonkeyPatch,
    piece_bytes: int,
) -> None:
    """Of ranges that end where an object ends, too: it has 301 bytes."""
    monkeypatch.setattr(stores, "PIECE_BYTES", piece_bytes)
    source = tmp_path / "source"
    source.mkdir()
    for name in "abc":
        (source / name).write_text(name * 100)
    spec = store_data(tmp_path / "store", source)
    for path in (tmp_path / "store").rglob("*"):
        if path.is_file():
            name = f"prefix/{path.relative_to(tmp_path / 'store')}"
            client.bucket("bucket").blob(name).upload_from_filename(path)
    store = stores.BucketStore(client, "bucket", "prefix")
    with a_run(tmp_path, store=store) as bring:
        [copy] = bring(spec)
        assert contents(copy) == contents(str(source))
