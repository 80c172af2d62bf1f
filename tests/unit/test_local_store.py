"""The local store keeps every promise of the store protocol."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import ObjectNotFoundError, StoreError
from kinetic_flows.platforms.local.store import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "a store")


def names(store: ArtifactStore, prefix: str = "") -> list[str]:
    return [item.name for item in store.list(prefix)]


def race(count: int, action: object) -> list[object]:
    """Call one function from many threads at the same moment."""
    barrier = threading.Barrier(count)
    results: list[object] = [None] * count

    def take_part(index: int) -> None:
        barrier.wait()
        results[index] = action(index)  # type: ignore[operator]

    threads = [threading.Thread(target=take_part, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_an_object_comes_back_as_it_was_put(store: LocalStore, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(os.urandom(3_000_000))
    assert store.put_if_absent("packs/ab", b"content")
    assert store.put_if_absent("packs/cd", source)
    assert store.get("packs/ab").data == b"content"
    assert store.get("packs/cd").data == source.read_bytes()


def test_a_taken_name_is_left_alone(store: LocalStore) -> None:
    assert store.put_if_absent("packs/ab", b"first")
    assert not store.put_if_absent("packs/ab", b"second")
    assert store.get("packs/ab").data == b"first"


def test_of_many_writers_of_one_name_exactly_one_wins(store: LocalStore) -> None:
    won = race(16, lambda index: store.put_if_absent("leases/x", str(index).encode()))
    assert won.count(True) == 1
    assert store.get("leases/x").data == str(won.index(True)).encode()


def test_a_missing_object_is_an_error_that_names_it(store: LocalStore) -> None:
    with pytest.raises(ObjectNotFoundError, match="runs/1/result"):
        store.get("runs/1/result.pkl")


def test_a_prefix_of_names_is_not_an_object(store: LocalStore) -> None:
    store.put_if_absent("runs/1/job.json", b"{}")
    with pytest.raises(ObjectNotFoundError):
        store.get("runs/1")
    assert store.missing(["runs/1", "runs/1/job.json"]) == {"runs/1"}


def test_replacing_needs_the_generation_that_was_read(store: LocalStore) -> None:
    first = store.replace_if_unchanged("leases/x", b"one", None)
    assert first is not None
    assert store.replace_if_unchanged("leases/x", b"two", None) is None
    second = store.replace_if_unchanged("leases/x", b"two", first)
    assert second is not None
    assert store.replace_if_unchanged("leases/x", b"three", first) is None
    read = store.get("leases/x")
    assert (read.data, read.generation) == (b"two", second)


def test_replacing_what_is_gone_writes_nothing(store: LocalStore) -> None:
    generation = store.replace_if_unchanged("leases/x", b"one", None)
    store.delete("leases/x")
    assert store.replace_if_unchanged("leases/x", b"two", generation) is None
    assert names(store) == []


def test_of_many_replacers_of_one_generation_exactly_one_wins(store: LocalStore) -> None:
    start = store.replace_if_unchanged("leases/x", b"start", None)
    won = race(16, lambda index: store.replace_if_unchanged("leases/x", str(index).encode(), start))
    winners = [index for index, generation in enumerate(won) if generation]
    assert len(winners) == 1
    assert store.get("leases/x").data == str(winners[0]).encode()


def test_missing_names_what_is_not_there(store: LocalStore) -> None:
    store.put_if_absent("packs/a", b"")
    assert store.missing(["packs/a", "packs/b", "packs/c"]) == {"packs/b", "packs/c"}


def test_listing_yields_names_sizes_and_times_in_name_order(store: LocalStore) -> None:
    before = time.time() - 5
    for name in ("runs/2/job.json", "runs/1/result.pkl", "runs/10/job.json", "packs/a"):
        store.put_if_absent(name, b"12345")
    listed = list(store.list("runs/1"))
    assert [item.name for item in listed] == ["runs/1/result.pkl", "runs/10/job.json"]
    assert all(item.size_bytes == 5 for item in listed)
    assert all(before < item.updated.timestamp() < time.time() + 5 for item in listed)
    assert names(store, "nothing/here") == []


def test_deleting_twice_is_no_error(store: LocalStore) -> None:
    store.put_if_absent("packs/a", b"x")
    store.delete("packs/a")
    store.delete("packs/a")
    assert store.missing(["packs/a"]) == {"packs/a"}


@pytest.mark.parametrize(
    "name", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", ".incoming/x", "a\0b"]
)
def test_a_name_cannot_lead_elsewhere(store: LocalStore, name: str) -> None:
    with pytest.raises(StoreError, match="malformed"):
        store.put_if_absent(name, b"x")
    with pytest.raises(StoreError, match="malformed"):
        store.get(name)


def test_the_uri_names_the_directory(store: LocalStore, tmp_path: Path) -> None:
    parts = urlsplit(store.uri)
    assert parts.scheme == "file"
    assert unquote(parts.path) == str(tmp_path / "a store")


def test_objects_are_readable_by_their_owner_only(store: LocalStore, tmp_path: Path) -> None:
    store.put_if_absent("runs/1/payload.pkl", b"secret")
    mode = (tmp_path / "a store" / "runs/1/payload.pkl").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_a_failed_write_leaves_nothing_behind(store: LocalStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        store.put_if_absent("packs/a", tmp_path / "no such file")
    assert names(store) == []
    assert list((tmp_path / "a store" / ".incoming").iterdir()) == []


def test_what_a_killed_client_left_is_swept_when_it_is_old(tmp_path: Path) -> None:
    incoming = tmp_path / "store" / ".incoming"
    incoming.mkdir(parents=True)
    for name in ("old", "new"):
        (incoming / name).write_bytes(b"part")
    os.utime(incoming / "old", (0, 0))
    LocalStore(tmp_path / "store").put_if_absent("packs/a", b"x")
    assert [item.name for item in incoming.iterdir()] == ["new"]
