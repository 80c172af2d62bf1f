"""Made layers that wait to be sent, and what is remembered of those that were."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from assembly_values import facts_of, wheel
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.interruption import interruptible
from kinetic_flows.images.assembly.kept import MAX_AGE_SECONDS, KeptLayers
from kinetic_flows.images.assembly.records import LayerRecord, LayerRecords
from kinetic_flows.images.layers.make import make_files_layer


def keep(kept: KeptLayers, tag: str, content: bytes = b"x") -> LayerRecord:
    made = make_files_layer({f"/{tag}": content}, kept.path(f"draft of {tag}"))
    record = LayerRecord(tag=tag, blob=made.blob, facts=(facts_of(wheel("numpy")),))
    kept.keep(record, made.path)
    return record


def test_kept_layer_is_found_until_it_is_discarded(tmp_path: Path) -> None:
    kept = KeptLayers(tmp_path)
    record = keep(kept, "a")
    assert KeptLayers(tmp_path).find("a") == record
    kept.is_sent("a")
    kept.discard_sent()
    assert kept.find("a") is None
    assert list((tmp_path / "layers" / "blobs").iterdir()) == []


def test_layer_without_its_note_or_with_other_bytes_is_not_found(tmp_path: Path) -> None:
    kept = KeptLayers(tmp_path)
    keep(kept, "a")
    kept.path("a").write_bytes(b"cut off")
    assert kept.find("a") is None
    make_files_layer({"/b": b""}, kept.path("b"))
    assert kept.find("b") is None


def test_old_leftovers_go_and_new_ones_stay(tmp_path: Path) -> None:
    kept = KeptLayers(tmp_path)
    keep(kept, "old")
    long_ago = time.time() - MAX_AGE_SECONDS - 60
    for path in (tmp_path / "layers" / "blobs").iterdir():
        os.utime(path, (long_ago, long_ago))
    keep(kept, "new")
    kept.tidy()
    assert kept.find("old") is None
    assert kept.find("new") is not None


def test_too_much_is_cut_from_the_oldest(tmp_path: Path) -> None:
    kept = KeptLayers(tmp_path)
    for number, tag in enumerate(("first", "second", "third")):
        keep(kept, tag, os.urandom(4000))
        for path in (tmp_path / "layers" / "blobs").glob(f"{tag}*"):
            os.utime(path, (time.time() + number, time.time() + number))
    KeptLayers(tmp_path, max_bytes=9999).tidy()
    assert [kept.find(tag) is not None for tag in ("first", "second", "third")] == [
        False,
        True,
        True,
    ]


def test_what_was_sent_makes_room(tmp_path: Path) -> None:
    kept = KeptLayers(tmp_path, max_bytes=100)
    with kept.room_for("a", 80):
        keep(kept, "a")
        kept.is_sent("a")
    with kept.room_for("b", 80):
        assert kept.find("a") is None


def test_layer_larger_than_all_room_is_made_alone(tmp_path: Path) -> None:
    kept = KeptLayers(tmp_path, max_bytes=100)
    with kept.room_for("huge", 1000):
        pass


def test_waiting_for_room_can_be_interrupted(tmp_path: Path) -> None:
    kept = KeptLayers(tmp_path, max_bytes=100)
    stop = threading.Event()
    stop.set()
    failures: list[BaseException] = []

    def wait() -> None:
        interruptible(stop)
        try:
            with kept.room_for("b", 80):
                pass
        except KeyboardInterrupt as interrupt:
            failures.append(interrupt)

    with kept.room_for("a", 80):
        waiting = threading.Thread(target=wait)
        waiting.start()
        waiting.join(30)
    assert len(failures) == 1


def test_record_is_remembered_by_image_and_tag(tmp_path: Path) -> None:
    record = keep(KeptLayers(tmp_path), "a")
    LayerRecords(RegistryWriter(), tmp_path).remember("host/repo/layers", record)
    later = LayerRecords(RegistryWriter(), tmp_path)
    assert later.known("host/repo/layers", "a") == record
    assert later.known("host/other/layers", "a") is None
    later.forget("host/repo/layers", "a")
    assert LayerRecords(RegistryWriter(), tmp_path).known("host/repo/layers", "a") is None


def test_record_is_forgotten_after_months(tmp_path: Path) -> None:
    records = LayerRecords(RegistryWriter(), tmp_path)
    for tag in ("a", "b"):
        records.remember("host/repo/layers", keep(KeptLayers(tmp_path), tag))
    (old,) = (tmp_path / "layers" / "records").rglob("a.json")
    os.utime(old, (0, 0))
    records.tidy()
    later = LayerRecords(RegistryWriter(), tmp_path)
    assert [later.known("host/repo/layers", tag) is None for tag in ("a", "b")] == [True, False]


@pytest.mark.parametrize("spoilt", [b"", b"{}", b"[]", b'{"tag": "a", "blob": {}, "facts": []}'])
def test_spoilt_record_is_none(tmp_path: Path, spoilt: bytes) -> None:
    record = keep(KeptLayers(tmp_path), "a")
    LayerRecords(RegistryWriter(), tmp_path).remember("host/repo/layers", record)
    (path,) = (tmp_path / "layers" / "records").rglob("a.json")
    path.write_bytes(spoilt)
    assert LayerRecords(RegistryWriter(), tmp_path).known("host/repo/layers", "a") is None
