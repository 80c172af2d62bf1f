"""Artifacts in Cloud Storage: the same promises on a real server and on a strict one."""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from kinetic_flows.clients.google import transfers
from kinetic_flows.clients.google.storage import GoogleStore, StoreTimeouts
from kinetic_flows.core.errors import ObjectNotFoundError, StoreError
from kinetic_flows.core.waits import waits
from loopback.storage import StorageServer
from loopback.storage_wire import WireStorage
from loopback.wire import Fault

pytest_plugins = ["loopback.fixtures"]

# google-cloud-storage 3.17 leaves the answers of failed tries unread, and their sockets to the
# garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)

QUICK = StoreTimeouts(
    connect_seconds=2, read_seconds=1, retry_seconds=4, call_seconds=6, transfer_seconds=6
)


@pytest.fixture(params=["storage_server", "wire_storage"])
def store(request: pytest.FixtureRequest, bucket_name: str) -> Iterator[GoogleStore]:
    """A store in a bucket of its own, on either server."""
    server: StorageServer | WireStorage = request.getfixturevalue(request.param)
    server.create_bucket(bucket_name)
    with closing(GoogleStore(bucket_name, prefix="team/a", endpoint=server.url)) as store:
        yield store


@pytest.fixture
def wire_store(wire_storage: WireStorage, bucket_name: str) -> Iterator[GoogleStore]:
    """A store on the server whose answers can be spoiled, with short timeouts."""
    wire_storage.create_bucket(bucket_name)
    store = GoogleStore(bucket_name, endpoint=wire_storage.url, timeouts=QUICK)
    with closing(store):
        yield store
    gc.collect()


def test_an_object_is_read_back_as_it_was_written(store: GoogleStore) -> None:
    assert store.put_if_absent("packs/a", b"content")

    assert store.get("packs/a").data == b"content"


def test_the_first_writer_of_a_name_wins(store: GoogleStore) -> None:
    assert store.put_if_absent("packs/a", b"first")
    assert not store.put_if_absent("packs/a", b"second")

    assert store.get("packs/a").data == b"first"


def test_of_sixteen_writers_at_once_exactly_one_wins(store: GoogleStore) -> None:
    def write(number: int) -> str | None:
        return store.replace_if_unchanged("leases/x", b"%d" % number, None)

    with ThreadPoolExecutor(16) as pool:
        generations = [generation for generation in pool.map(write, range(16)) if generation]

    assert [store.get("leases/x").generation] == generations


def test_an_object_is_replaced_only_at_the_generation_that_was_read(store: GoogleStore) -> None:
    first = store.replace_if_unchanged("leases/x", b"1", None)
    assert first is not None
    second = store.replace_if_unchanged("leases/x", b"2", first)

    assert second is not None
    assert store.replace_if_unchanged("leases/x", b"3", first) is None
    assert store.get("leases/x") == store.get("leases/x")
    assert store.get("leases/x").data == b"2"
    assert store.get("leases/x").generation == second


def test_a_large_file_is_streamed_and_written_once(store: GoogleStore, tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"0123456789" * 1_000_000)

    assert store.put_if_absent("packs/large", file)
    assert not store.put_if_absent("packs/large", file)
    assert store.get("packs/large").data == file.read_bytes()


def test_memory_is_streamed_and_comes_back_as_memory_to_write_to(store: GoogleStore) -> None:
    content = bytearray(b"0123456789" * 2_000_000)

    assert store.put_if_absent("pieces/a", memoryview(content))
    assert not store.put_if_absent("pieces/a", memoryview(content))
    read = store.read("pieces/a")
    assert read == content
    read[0] = 0
    assert store.read("pieces/a")[0] == content[0]


def test_memory_that_breaks_off_on_its_way_is_sent_on(
    wire_store: GoogleStore, wire_storage: WireStorage
) -> None:
    content = memoryview(b"0123456789" * 2_000_000)

    with wire_storage.server.fault(Fault(kind="status", status=503, method="PUT")) as fault:
        assert wire_store.put_if_absent("pieces/a", content)
    assert fault.times == 0
    with wire_storage.server.fault(Fault(kind="reset", method="PUT")) as fault:
        assert wire_store.put_if_absent("pieces/b", content)
    assert fault.times == 0
    assert wire_store.read("pieces/a") == wire_store.read("pieces/b") == content


def test_a_large_object_is_read_in_parts(
    store: GoogleStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "PART_BYTES", 1 << 20)
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (5 << 20) + 3):
        content = os.urandom(size)
        store.put_if_absent(f"results/{size}", content)
        read = store.read(f"results/{size}")
        assert read == content
        assert not read.readonly


def test_a_part_cut_short_is_read_on(
    wire_store: GoogleStore, wire_storage: WireStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "PART_BYTES", 1 << 20)
    content = os.urandom(3 << 20)
    wire_store.put_if_absent("a", content)
    for times in (1, 3):
        fault = Fault(kind="truncate", path="alt=media", times=times)
        with wire_storage.server.fault(fault) as spoilt:
            assert wire_store.read("a") == content
        assert spoilt.times == 0


def test_an_object_that_is_not_there_cannot_be_read(store: GoogleStore) -> None:
    with pytest.raises(ObjectNotFoundError, match="no object gs://"):
        store.read("a")


def test_names_are_listed_in_order_below_a_prefix(store: GoogleStore) -> None:
    for name in ("runs/b/2", "runs/a/1", "locks/c"):
        store.put_if_absent(name, name.encode())

    listed = list(store.list("runs/"))

    assert [item.name for item in listed] == ["runs/a/1", "runs/b/2"]
    assert [item.size_bytes for item in listed] == [8, 8]


def test_the_names_the_store_lacks_are_found_among_many(store: GoogleStore) -> None:
    for number in range(0, 40, 2):
        store.put_if_absent(f"packs/{number}", b"x")

    missing = store.missing(f"packs/{number}" for number in range(40))

    assert missing == {f"packs/{number}" for number in range(1, 40, 2)}


def test_a_deleted_object_is_gone_and_may_be_deleted_again(store: GoogleStore) -> None:
    store.put_if_absent("a", b"x")
    store.delete("a")
    store.delete("a")

    with pytest.raises(ObjectNotFoundError, match="no object gs://"):
        store.get("a")


def test_the_uri_names_bucket_and_prefix(store: GoogleStore, bucket_name: str) -> None:
    assert store.uri == f"gs://{bucket_name}/team/a"


@pytest.mark.parametrize("name", ["../other", "", "a//b", "/a", "a\n"])
def test_a_name_that_leaves_the_prefix_is_refused(wire_store: GoogleStore, name: str) -> None:
    with pytest.raises(StoreError, match="malformed"):
        wire_store.put_if_absent(name, b"x")


def test_a_bucket_that_does_not_exist_is_an_error_that_says_how_to_make_it(
    wire_storage: WireStorage,
) -> None:
    with closing(GoogleStore("no-such-bucket", endpoint=wire_storage.url)) as store:
        with pytest.raises(StoreError, match="gcloud storage buckets create gs://no-such-bucket"):
            store.missing(["a", "b"])
        with pytest.raises(StoreError, match="gcloud storage buckets create gs://no-such-bucket"):
            store.put_if_absent("a", b"x")


def test_a_listing_goes_on_over_many_pages(
    wire_store: GoogleStore, wire_storage: WireStorage, bucket_name: str
) -> None:
    for number in range(1200):
        resource = {"name": f"runs/{number:04}"}
        wire_storage.buckets.put(bucket_name, resource, b"", {})

    assert [item.name for item in wire_store.list("")] == [f"runs/{n:04}" for n in range(1200)]


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=503, times=2),
        Fault(kind="status", status=429, headers={"Retry-After": "1"}),
        Fault(kind="reset"),
        Fault(kind="stall", pause_seconds=1.5),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
def test_a_passing_fault_is_not_noticed_by_reader_or_writer(
    wire_store: GoogleStore, wire_storage: WireStorage, fault: Fault
) -> None:
    with wire_storage.server.fault(Fault(**{**vars(fault), "method": "POST"})):
        assert wire_store.put_if_absent("a", b"content")
    with wire_storage.server.fault(Fault(**{**vars(fault), "method": "GET"})):
        assert wire_store.get("a").data == b"content"


def test_a_body_cut_short_is_read_again(wire_store: GoogleStore, wire_storage: WireStorage) -> None:
    wire_store.put_if_absent("a", b"content" * 1000)

    with wire_storage.server.fault(Fault(kind="truncate", path="alt=media")):
        assert wire_store.get("a").data == b"content" * 1000


def test_a_write_whose_answer_was_lost_counts_as_ours(
    wire_store: GoogleStore, wire_storage: WireStorage
) -> None:
    with wire_storage.server.fault(Fault(kind="reset", method="POST")) as fault:
        generation = wire_store.replace_if_unchanged("leases/x", b"mine", None)

    assert fault.times == 0
    assert generation == wire_store.get("leases/x").generation


def test_a_corrupted_upload_is_refused_by_its_checksum(
    wire_store: GoogleStore, wire_storage: WireStorage, bucket_name: str
) -> None:
    wire_store.put_if_absent("a", b"content")
    blob = wire_storage.buckets.bucket(bucket_name)["a"]
    spoiled = type(blob)(resource=blob.resource, data=b"c0ntent")
    wire_storage.buckets.bucket(bucket_name)["a"] = spoiled

    with pytest.raises(StoreError):
        wire_store.get("a")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="status", status=503, times=1000),
        Fault(kind="reset", times=1000),
        Fault(kind="stall", times=1000, pause_seconds=20),
        Fault(kind="drip", times=1000, pause_seconds=0.5),
    ],
    ids=lambda fault: fault.kind,
)
def test_a_lasting_fault_is_reported_within_the_timeout(
    wire_store: GoogleStore, wire_storage: WireStorage, fault: Fault
) -> None:
    wire_store.put_if_absent("a", b"content" * 100)
    started = time.monotonic()

    with wire_storage.server.fault(fault), pytest.raises(StoreError, match=r"gs://.*/a"):
        wire_store.get("a")

    assert time.monotonic() - started < QUICK.transfer_seconds + 1


def test_a_bucket_that_does_not_answer_is_told_of_while_it_is_asked_again(
    wire_store: GoogleStore, wire_storage: WireStorage, bucket_name: str
) -> None:
    told: list[str] = []
    fault = Fault(kind="status", status=503, times=1000)
    with wire_storage.server.fault(fault), ThreadPoolExecutor(1) as pool:
        asking = pool.submit(wire_store.get, "a")
        while not asking.done():
            told += map(str, waits())
            time.sleep(0.05)
    assert isinstance(asking.exception(), StoreError)
    said = rf"bucket {bucket_name} does not answer, tried \d+ times, \d s"
    assert any(re.fullmatch(said, each) for each in told), set(told)
    assert not any(bucket_name in str(wait) for wait in waits())


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "roles/storage.objectUser"), (401, "gcloud auth application-default login")],
)
def test_a_refusal_is_an_error_with_the_remedy_and_never_a_missing_object(
    wire_store: GoogleStore, wire_storage: WireStorage, status: int, words: str
) -> None:
    with (
        wire_storage.server.fault(Fault(kind="status", status=status, times=10)),
        pytest.raises(StoreError, match=words) as raised,
    ):
        wire_store.missing(["a"])

    assert not isinstance(raised.value, ObjectNotFoundError)


def test_the_bucket_removes_old_objects_below_a_prefix_and_keeps_its_other_rules(
    wire_storage: WireStorage, bucket_name: str
) -> None:
    wire_storage.create_bucket(bucket_name)
    own = {"action": {"type": "Delete"}, "condition": {"age": 365}}
    wire_storage.bucket_settings[bucket_name] = {"lifecycle": {"rule": [own]}}
    with closing(GoogleStore(bucket_name, prefix="team/a", endpoint=wire_storage.url)) as store:
        assert store.expire("runs/", 30) is True
        assert store.expire("runs/", 30) is False
        assert store.expire("runs/", 7) is True
    ours = {
        "action": {"type": "Delete"},
        "condition": {"age": 7, "matchesPrefix": ["team/a/runs/"]},
    }
    assert wire_storage.bucket_settings[bucket_name]["lifecycle"]["rule"] == [own, ours]
