"""Leases: one holder at a time, lost ones taken over, whatever the clocks say."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinetic_flows.platforms.gke.builds.lease import Lease, LeaseRecord, Sighting, claim
from kinetic_flows.platforms.local.store import LocalStore

TERM = 10.0


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def lease_of(store: LocalStore, clock: Clock) -> Lease:
    return Lease(store, "leases/x.json", term_seconds=TERM, clock=clock)


def stored(store: LocalStore) -> LeaseRecord:
    return LeaseRecord.from_json(store.get("leases/x.json").data)


def test_the_first_to_ask_holds_the_lease_and_the_second_does_not(
    store: LocalStore, clock: Clock
) -> None:
    first, second = lease_of(store, clock), lease_of(store, clock)

    assert first.acquire()
    assert not second.acquire()
    assert first.is_first


def test_a_renewed_lease_never_expires(store: LocalStore, clock: Clock) -> None:
    holder, other = lease_of(store, clock), lease_of(store, clock)
    holder.acquire()

    for _ in range(10):
        clock.now += TERM * 0.8
        assert holder.renew()
        assert not other.acquire()


def test_a_lease_that_nobody_renews_is_taken_over_with_a_higher_fencing_number(
    store: LocalStore, clock: Clock
) -> None:
    lost, heir = lease_of(store, clock), lease_of(store, clock)
    lost.acquire()
    lost.record_build("build-1")
    heir.acquire()
    clock.now += TERM - 1
    assert not heir.acquire()
    clock.now += 1

    assert heir.acquire()
    assert stored(store).fencing == 2
    assert not heir.is_first
    assert heir.build == "build-1"


def test_a_holder_that_was_taken_over_finds_out_and_changes_nothing(
    store: LocalStore, clock: Clock
) -> None:
    lost, heir = lease_of(store, clock), lease_of(store, clock)
    lost.acquire()
    heir.acquire()
    clock.now += TERM
    heir.acquire()

    assert not lost.renew()
    assert not lost.record_build("late")
    lost.release()
    assert stored(store).holder == heir.holder
    assert not lost.is_held


def test_a_lease_that_was_given_back_is_free_at_once(store: LocalStore, clock: Clock) -> None:
    first, second = lease_of(store, clock), lease_of(store, clock)
    first.acquire()
    first.record_build("build-1")
    first.release()

    assert second.acquire()
    assert not second.is_first
    assert second.build == ""


def test_a_follower_learns_which_build_to_follow(store: LocalStore, clock: Clock) -> None:
    holder, follower = lease_of(store, clock), lease_of(store, clock)
    holder.acquire()
    follower.acquire()
    assert follower.build == ""

    holder.record_build("build-1")
    follower.acquire()
    assert follower.build == "build-1"


def test_a_lease_is_kept_alive_in_the_background_and_given_back(store: LocalStore) -> None:
    holder = Lease(store, "leases/x.json", term_seconds=0.2)
    holder.acquire()
    other = Lease(store, "leases/x.json", term_seconds=0.2)

    with holder.kept():
        while stored(store).renewals < 3:
            assert not other.acquire()

    assert other.acquire()


@pytest.mark.parametrize(
    "content",
    [
        b"\x00garbage",
        b"[]",
        b"{}",
        b'{"holder": "h", "fencing": 1e400, "renewals": 0, "build": ""}',
        b'{"holder": "h", "fencing": NaN, "renewals": 0, "build": ""}',
    ],
)
def test_a_lease_that_cannot_be_read_counts_as_given_back(
    content: bytes, store: LocalStore, clock: Clock
) -> None:
    store.put_if_absent("leases/x.json", content)

    assert lease_of(store, clock).acquire()


def test_a_newcomer_believes_a_lease_for_one_term_however_old_it_is() -> None:
    record = LeaseRecord(holder="somebody", fencing=1)
    just_seen = Sighting(record=record, generation="1", since=1_000_000.0)

    assert claim(just_seen, "me", 1_000_000.0, TERM) is None
    assert claim(just_seen, "me", 1_000_000.0 + TERM, TERM) == LeaseRecord(holder="me", fencing=2)
