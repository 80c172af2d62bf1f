"""A lock out of a shared store is believed only from those who may launch runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpus.dependencies.stores import MemoryStore
from kinetic_flows.core.artifact_store import StoreTrust
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.object_names import lock_object
from kinetic_flows.dependencies.lock_store import LockCache
from kinetic_flows.dependencies.lockfile import LockedPackage, format_lock

DIGEST = Sha256("d" * 64)
LOCK = format_lock([LockedPackage(name="alpha", version="1.0", hashes=(f"sha256:{'a' * 64}",))])
OTHER = format_lock([LockedPackage(name="evil", version="1.0", hashes=(f"sha256:{'b' * 64}",))])
TEAM, STRANGER = StoreTrust(key=b"team"), StoreTrust(key=b"stranger")


def cache_of(home: Path, store: MemoryStore, trust: StoreTrust) -> LockCache:
    return LockCache(store=store, home=home, digest=DIGEST, trust=lambda: trust)


@pytest.mark.parametrize(
    ("writer", "reader", "is_believed"),
    [
        (TEAM, TEAM, True),
        (TEAM, STRANGER, False),
        (STRANGER, TEAM, False),
        (StoreTrust(), TEAM, False),
        (TEAM, StoreTrust(), False),
        (StoreTrust(), StoreTrust(is_private=True), True),
    ],
)
def test_a_lock_is_believed_by_those_who_share_a_key(
    tmp_path: Path, writer: StoreTrust, reader: StoreTrust, *, is_believed: bool
) -> None:
    store = MemoryStore()
    cache_of(tmp_path / "writer", store, writer).publish(LOCK, lambda _: False)

    cache = cache_of(tmp_path / "reader", store, reader)
    assert cache.is_genuine(cache.stored() or "") is is_believed


def test_a_signature_holds_for_one_text_and_one_digest(tmp_path: Path) -> None:
    store = MemoryStore()
    cache_of(tmp_path / "writer", store, TEAM).publish(LOCK, lambda _: False)
    cache = cache_of(tmp_path / "reader", store, TEAM)

    assert not cache.is_genuine(OTHER)
    elsewhere = LockCache(
        store=store, home=tmp_path / "reader", digest=Sha256("e" * 64), trust=lambda: TEAM
    )
    for name, data in list(store.objects.items()):
        store.objects[name.replace(DIGEST, "e" * 64)] = data
    assert not elsewhere.is_genuine(elsewhere.stored() or "")


def test_what_was_believed_once_needs_no_key_again(tmp_path: Path) -> None:
    store = MemoryStore()
    cache_of(tmp_path / "writer", store, TEAM).publish(LOCK, lambda _: False)
    assert cache_of(tmp_path / "reader", store, TEAM).is_genuine(LOCK)

    def unreachable() -> StoreTrust:
        raise AssertionError("asked for the key again")

    again = LockCache(store=store, home=tmp_path / "reader", digest=DIGEST, trust=unreachable)
    assert again.is_genuine(LOCK)


def test_a_lock_of_a_stranger_is_replaced_and_one_of_a_colleague_stands(tmp_path: Path) -> None:
    store = MemoryStore()
    store.objects[lock_object(DIGEST)] = OTHER.encode()
    mine = cache_of(tmp_path / "mine", store, TEAM)

    assert mine.publish(LOCK, mine.is_genuine) == LOCK
    assert store.objects[lock_object(DIGEST)] == LOCK.encode()
    theirs = cache_of(tmp_path / "theirs", store, TEAM)
    assert theirs.is_genuine(theirs.stored() or "")
