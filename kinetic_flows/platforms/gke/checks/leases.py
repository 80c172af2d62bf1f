"""Leases of image builds whose client has died: whoever builds the same next waits for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from kinetic_flows.core.artifact_store import ArtifactStore, ObjectInfo, StoredObject
from kinetic_flows.core.display import counted
from kinetic_flows.core.errors import ObjectNotFoundError, StoreError
from kinetic_flows.core.findings import Finding, NotAsked
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.object_names import lease_object
from kinetic_flows.platforms.gke.buckets import open_bucket
from kinetic_flows.platforms.gke.builds.lease import TERM_SECONDS, LeaseRecord
from kinetic_flows.platforms.gke.checks.facts import ClusterFacts

SUBJECT = "leases of builds"

ABANDONED = timedelta(minutes=10)
"""A holder renews a lease several times a minute."""

MOST = 50
"""How many of the last ones are read; older ones nobody may ask for any more."""

_BEFORE, _, _AFTER = lease_object("*").partition("*")


def lease_findings(facts: ClusterFacts) -> Iterator[Finding]:
    """Yield the leases that their holder has not renewed for long, and has not given back."""
    facts.apis.need()
    saved = facts.cloud.credentials
    store = open_bucket(facts.cloud.jobs_bucket, facts.cloud, saved.load() if saved else None)
    facts.at_end.callback(store.close)
    try:
        left = abandoned(store)
    except StoreError as error:
        # What is wrong with it is told of with the buckets.
        raise NotAsked(f"the bucket {facts.cloud.jobs_bucket}") from error
    if not left:
        yield Finding(subject=SUBJECT, level="ok", text="none is left behind")
        return
    yield Finding(
        subject=SUBJECT,
        level="warning",
        text=f"{counted(len(left), 'client')} died while building; whoever builds the same waits "
        f"{TERM_SECONDS:.0f} s first",
        command="kinetic doctor --fix",
        fix=lambda: give_back(store, left),
    )


def abandoned(store: ArtifactStore, now: datetime | None = None) -> dict[str, StoredObject]:
    """Return the leases that somebody holds who renews them no more, by name.

    Args:
        store: Where leases are.
        now: The moment; None for this one.

    Raises:
        StoreError: The store does not answer.
    """
    limit = (now or datetime.now(UTC)) - ABANDONED
    old = [each for each in store.list(_BEFORE) if _is_lease(each) and each.updated < limit]
    old = sorted(old, key=lambda each: each.updated, reverse=True)[:MOST]
    found = in_threads(lambda each: _stored(store, each.name), old, threads=8)
    return {
        each.name: stored
        for each, stored in zip(old, found, strict=True)
        if stored and LeaseRecord.from_json(stored.data).holder
    }


def give_back(store: ArtifactStore, left: Mapping[str, StoredObject]) -> str:
    """Give leases back that are as they were when they were looked at; return what was done."""
    done = 0
    for name, stored in left.items():
        # A build that goes on is taken over with the lease, and not paid for twice.
        record = replace(LeaseRecord.from_json(stored.data), holder="")
        done += store.replace_if_unchanged(name, record.to_json(), stored.generation) is not None
    return f"gave {counted(done, 'lease')} back"


def _is_lease(info: ObjectInfo) -> bool:
    """Whether an object is the lease of a build, and nothing that stands below one."""
    return info.name.endswith(_AFTER) and "/" not in info.name.removeprefix(_BEFORE)


def _stored(store: ArtifactStore, name: str) -> StoredObject | None:
    try:
        return store.get(name)
    except ObjectNotFoundError:
        return None
