"""Rehearsals are kept here and for everyone, and believed from those who may launch runs."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from corpus.dependencies.stores import MemoryStore
from kinetic_flows.core.artifact_store import Content, StoredObject, StoreTrust
from kinetic_flows.core.errors import StoreError
from kinetic_flows.core.object_names import REHEARSALS, rehearsals_object
from kinetic_flows.core.rehearsals import (
    Buffer,
    Collective,
    RehearsalRecord,
    StepMemory,
    StepReport,
    TargetReport,
)
from kinetic_flows.plans import rehearsal_records
from kinetic_flows.plans.rehearsal_records import RehearsalRecords

TEAM, STRANGER, NOBODY = StoreTrust(key=b"team"), StoreTrust(key=b"stranger"), StoreTrust()
RECORD = RehearsalRecord(
    function="train:train",
    code_sha256="c" * 64,
    environments={"tpu-v6e-8": "e" * 64},
    made_at=1000.0,
    reports=(
        TargetReport(
            accelerator="tpu-v6e-8",
            steps=(
                StepReport(
                    name="train",
                    verdict="exceeds",
                    memory=StepMemory(available_bytes=10, needed_bytes=20),
                    buffers=(Buffer(size_bytes=9, shape="f32[3]", source="train.py:7"),),
                    collectives=(Collective(operation="all-reduce", count=1, size_bytes=4),),
                    flops=3.0,
                ),
            ),
            versions={"jax": "0.10.2"},
            warnings=("host memory is not known",),
        ),
    ),
    run_ids=("1",),
)


def records_of(home: Path, store: MemoryStore, trust: StoreTrust = NOBODY) -> RehearsalRecords:
    return RehearsalRecords(home=home, store=store, trust=lambda: trust)


def at(moment: float) -> RehearsalRecord:
    return replace(RECORD, made_at=moment)


def test_a_record_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    records_of(tmp_path, MemoryStore()).keep(RECORD)
    assert records_of(tmp_path, MemoryStore()).last("train:train") == RECORD
    assert records_of(tmp_path, MemoryStore()).last("train:other") is None


def test_the_newest_of_here_and_of_everyone_counts(tmp_path: Path) -> None:
    store = MemoryStore()
    records_of(tmp_path / "mine", store, TEAM).keep(at(1.0))
    records_of(tmp_path / "theirs", store, TEAM).keep(at(2.0))

    mine = records_of(tmp_path / "mine", store, TEAM)
    assert mine.last("train:train") == at(2.0)
    assert mine.here("train:train") == (at(1.0),)
    assert mine.shared("train:train") == (at(2.0), at(1.0))


def test_rehearsals_that_end_at_once_are_all_kept(tmp_path: Path) -> None:
    records = records_of(tmp_path, MemoryStore())
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(records.keep, map(at, range(4))))
    assert records.here("train:train") == tuple(map(at, (3, 2, 1, 0)))


@pytest.mark.parametrize(
    ("writer", "reader", "is_believed"),
    [
        (TEAM, TEAM, True),
        (TEAM, STRANGER, False),
        (STRANGER, TEAM, False),
        (NOBODY, TEAM, False),
        (TEAM, NOBODY, False),
    ],
)
def test_a_record_is_believed_by_those_who_share_a_key(
    tmp_path: Path, writer: StoreTrust, reader: StoreTrust, *, is_believed: bool
) -> None:
    store = MemoryStore()
    assert records_of(tmp_path / "writer", store, writer).keep(RECORD) is (writer.key is not None)

    found = records_of(tmp_path / "reader", store, reader).last("train:train")
    assert (found is not None) is is_believed


def test_a_record_that_was_put_in_place_of_another_is_ignored(tmp_path: Path) -> None:
    store = MemoryStore()
    records_of(tmp_path / "a", store, TEAM).keep(RECORD)
    records_of(tmp_path / "a", store, STRANGER).keep(RECORD)
    key = TEAM.key or b""
    own, moved = (rehearsals_object(name, key) for name in ("train:train", "train:other"))
    reader = records_of(tmp_path / "reader", store, TEAM)

    store.objects[moved] = store.objects[own]
    assert reader.last("train:other") is None
    store.objects[own] = store.objects[rehearsals_object("train:train", STRANGER.key or b"")]
    assert reader.last("train:train") is None


@pytest.mark.parametrize("damage", [b"", b"\xff\x00", b"kinetic-rehearsals-1\n", b"[" * 100_000])
def test_what_is_damaged_is_as_if_it_were_not_there(tmp_path: Path, damage: bytes) -> None:
    store = MemoryStore()
    records = records_of(tmp_path, store, TEAM)
    records.keep(RECORD)
    (path,) = (tmp_path / REHEARSALS).glob("*.json")
    path.write_bytes(damage)
    store.objects[rehearsals_object("train:train", TEAM.key or b"")] = damage

    assert records.last("train:train") is None
    records.keep(at(5.0))
    assert records.here("train:train") == records.shared("train:train") == (at(5.0),)


def test_a_later_version_with_other_fields_is_no_error(tmp_path: Path) -> None:
    class Later(RehearsalRecord):
        def to_json(self) -> dict[str, object]:
            return {**super().to_json(), "new": 1}

    later = Later(**vars(RECORD))
    records_of(tmp_path, MemoryStore()).keep(later)
    assert records_of(tmp_path, MemoryStore()).last("train:train") is None


def test_the_newest_few_are_kept_of_a_function(tmp_path: Path) -> None:
    store = MemoryStore()
    records = records_of(tmp_path, store, TEAM)
    for moment in range(rehearsal_records.MAX_RECORDS + 3):
        records.keep(at(float(moment)))

    kept = [each.made_at for each in records.shared("train:train")]
    assert kept == [each.made_at for each in records.here("train:train")]
    assert kept == [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]


def test_large_records_leave_no_room_for_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal_records, "MAX_BYTES", 3000)
    records = records_of(tmp_path, MemoryStore())
    for moment in (1.0, 2.0, 3.0):
        records.keep(at(moment))
    assert records.here("train:train") == (at(3.0),)


def test_records_of_few_functions_are_kept_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal_records, "MAX_FUNCTIONS", 2)
    records = records_of(tmp_path, MemoryStore())
    for number in range(4):
        records.keep(replace(RECORD, function=f"train:step_{number}"))
    assert len(list((tmp_path / REHEARSALS).glob("*.json"))) == 2


def test_a_store_that_cannot_be_reached_leaves_what_is_known_here(tmp_path: Path) -> None:
    class Unreachable(MemoryStore):
        def get(self, name: str) -> StoredObject:
            raise StoreError(f"no way to {name}", value=name)

        def put_if_absent(self, name: str, data: Content) -> bool:
            raise StoreError(f"no way to {name}", value=name)

    records = records_of(tmp_path, Unreachable(), TEAM)
    assert not records.keep(RECORD)
    assert records.last("train:train") == RECORD
