"""Data goes from the store when nobody uses it, and never before."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kinetic_flows.code.data.scan import scan
from kinetic_flows.code.data.upload import upload
from kinetic_flows.code.data.uses import begin_cleanup, end_cleanup, keep
from kinetic_flows.core.artifact_store import StoredObject
from kinetic_flows.core.data import Data
from kinetic_flows.core.job_parts import DataSpec, ObjectRef
from kinetic_flows.core.object_names import DATA_CLEANUP, job_object
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs import data_cleanup
from kinetic_flows.runs.data_cleanup import UnusedData, find_unused, remove_unused

MONTH = timedelta(days=30)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with a small file and one that is kept in parts."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "small").write_bytes(b"small")
    (tmp_path / "t" / "large").write_bytes(random.Random(1).randbytes(1 << 20) * 33)
    return tmp_path / "t"


def send(tree: Path, store: LocalStore) -> ObjectRef:
    return upload(
        scan(Data(tree), tree.parent / "home"), store, tree.parent / "home"
    ).scan.manifest.ref


def names(store: LocalStore, prefix: str = "data/") -> set[str]:
    return {info.name for info in store.list(prefix)} - {DATA_CLEANUP}


def age(store_root: Path, days: float, prefix: str = "data") -> None:
    """Make everything in a store older."""
    then = time.time() - days * 86_400
    for path in (store_root / prefix).rglob("*"):
        os.utime(path, (then, then))


def put_job(store: LocalStore, name: str, manifest: ObjectRef) -> None:
    data = [
        {"kind": "local", "manifest": {"name": manifest.name}},
        {"kind": "hub", "manifest": None},
    ]
    store.put_if_absent(name, json.dumps({"data": data}).encode())


def test_what_nobody_has_used_for_long_goes_with_all_that_belongs_to_it(
    tree: Path, store: LocalStore, tmp_path: Path
) -> None:
    send(tree, store)
    age(tmp_path / "store", 40)
    found = find_unused(store, older_than=MONTH)
    assert (found.sources, set(found.objects)) == (1, names(store))
    assert found.size_bytes > 0
    assert remove_unused(store, older_than=MONTH) == found
    assert names(store) == set()


def test_what_was_used_lately_stays(tree: Path, store: LocalStore, tmp_path: Path) -> None:
    send(tree, store)
    age(tmp_path / "store", 40)
    # Nothing is sent, but its use is noted.
    for note in (tmp_path / "store" / "data" / "uses").rglob("*-*"):
        note.rename(note.with_name("2020-01-01"))
    send(tree, store)
    before = names(store)
    removed = remove_unused(store, older_than=MONTH)
    assert removed.sources == 0
    assert names(store) == before - set(removed.objects)
    assert {name.split("/")[1] for name in removed.objects} <= {"uses"}


@pytest.mark.parametrize("job", [job_object("run"), "deployments/f-n-1/2/job.json"])
def test_what_a_job_names_stays(tree: Path, store: LocalStore, tmp_path: Path, job: str) -> None:
    manifest = send(tree, store)
    put_job(store, job, manifest)
    age(tmp_path / "store", 400)
    assert find_unused(store, older_than=MONTH).sources == 0
    assert not {name for name in names(store) if "/uses/" not in name} & set(
        find_unused(store, older_than=MONTH).objects
    )
    store.delete(job)
    assert find_unused(store, older_than=MONTH).sources == 1


def test_what_two_versions_share_stays_with_the_one_that_is_used(
    tree: Path, store: LocalStore, tmp_path: Path
) -> None:
    first = send(tree, store)
    (tree / "small").write_bytes(b"other")
    second = send(tree, store)
    put_job(store, job_object("run"), second)
    age(tmp_path / "store", 40)
    remove_unused(store, older_than=MONTH)
    left = names(store)
    assert first.name not in left
    assert second.name in left
    assert len(names(store, "data/parts/")) == 2
    assert len(names(store, "data/packs/")) == 1
    # Whole, as far as the next client is concerned.
    assert upload(scan(Data(tree), tmp_path / "home"), store, tmp_path / "home").sent_bytes == 0


def test_what_is_young_stays_whatever_is_asked_for(
    tree: Path, store: LocalStore, tmp_path: Path
) -> None:
    send(tree, store)
    age(tmp_path / "store", 1)
    assert find_unused(store, older_than=timedelta(0)).objects == ()
    age(tmp_path / "store", 3)
    assert find_unused(store, older_than=timedelta(0)).sources == 1


def test_packs_of_an_upload_that_never_ended_go(
    tree: Path, store: LocalStore, tmp_path: Path
) -> None:
    store.delete(send(tree, store).name)
    other = tmp_path / "other"
    other.write_bytes(b"used")
    used = send(other, store)
    put_job(store, job_object("run"), used)
    age(tmp_path / "store", 40)
    remove_unused(store, older_than=MONTH)
    assert names(store, "data/parts/") == set()
    assert len(names(store, "data/packs/")) == 1


def test_whoever_uses_data_waits_for_a_cleanup_and_sends_it_again(
    tree: Path, store: LocalStore, tmp_path: Path
) -> None:
    manifest = send(tree, store)
    for note in names(store, "data/uses/"):
        store.delete(note)
    begun = begin_cleanup(store)
    assert begun is not None
    assert begin_cleanup(store) is None, "one at a time"
    done = threading.Event()

    def use() -> None:
        assert send(tree, store) == manifest
        done.set()

    user = threading.Thread(target=use)
    user.start()
    while not names(store, "data/uses/"):
        time.sleep(0.01)
    for name in names(store, "data/packs/") | {manifest.name}:
        store.delete(name)
    assert not done.is_set()
    end_cleanup(begun, store)
    user.join(30)
    assert done.is_set()
    assert not store.missing([manifest.name])
    assert len(names(store, "data/packs/")) == 1


def test_whoever_uses_data_that_another_has_just_noted_waits_for_a_cleanup_too(
    tree: Path, store: LocalStore, tmp_path: Path
) -> None:
    manifest = send(tree, store)  # the day is noted from here on
    begun = begin_cleanup(store)
    assert begun is not None
    looked, go_on = threading.Event(), threading.Event()

    class Watched(LocalStore):
        def get(self, name: str) -> StoredObject:
            if name == DATA_CLEANUP:
                looked.set()
                go_on.wait(30)
            return super().get(name)

    watched = Watched(tmp_path / "store")
    user = threading.Thread(target=send, args=(tree, watched))
    user.start()
    assert looked.wait(30), "it launches runs with what is being removed"
    for name in names(store, "data/packs/") | {manifest.name}:
        store.delete(name)
    end_cleanup(begun, store)
    go_on.set()
    user.join(30)
    assert not store.missing([manifest.name])
    assert len(names(store, "data/packs/")) == 1


def test_nothing_is_removed_when_looking_took_too_long(
    tree: Path, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(tree, store)
    age(tmp_path / "store", 40)
    before = names(store)
    monkeypatch.setattr(data_cleanup, "WORKS_FOR", timedelta(seconds=-1))
    assert remove_unused(store, older_than=MONTH) == UnusedData()
    assert names(store) == before


def test_a_job_that_is_run_again_keeps_its_data(
    tree: Path, store: LocalStore, tmp_path: Path
) -> None:
    manifest = send(tree, store)
    spec = DataSpec(kind="local", identity="", source="t", name="t", manifest=manifest)
    age(tmp_path / "store", 40)
    for note in names(store, "data/uses/"):
        store.delete(note)
    assert keep([spec], store)
    assert find_unused(store, older_than=MONTH).objects == ()
    store.delete(manifest.name)
    assert not keep([spec], store)
    assert keep([replace(spec, manifest=None)], store)


def test_a_cleanup_that_died_holds_nobody_up_for_ever(store: LocalStore) -> None:
    long_ago = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    store.put_if_absent(DATA_CLEANUP, json.dumps({"until": long_ago}).encode())
    assert begin_cleanup(store) is not None


def test_a_store_without_data_is_left_alone(store: LocalStore, tmp_path: Path) -> None:
    assert remove_unused(store, older_than=MONTH).objects == ()
    assert not (tmp_path / "store").exists()
