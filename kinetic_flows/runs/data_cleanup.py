"""Removing data from the store that no run, no deployment and nobody else uses any more.

Data stays as long as a job names it that is in the store, that of a run or of a deployment, and as
long as somebody has used it lately. Its packs and parts stay as long as any manifest names them
that stays.
"""

from __future__ import annotations

import gzip
import io
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kinetic_flows.code.data.uses import CLEANUP_LASTS, begin_cleanup, end_cleanup
from kinetic_flows.core.artifact_store import ArtifactStore, ObjectInfo
from kinetic_flows.core.errors import ObjectNotFoundError
from kinetic_flows.core.object_names import (
    DATA_MANIFESTS,
    DATA_PACKS,
    DATA_PARTS,
    DATA_USES,
    DEPLOYMENTS,
    RUNS,
    data_pack_object,
    data_part_object,
    job_object,
)

PARALLEL = 8
LEAST_AGE = timedelta(days=2)
"""What is younger stays, whatever is asked for: it may be on its way to a run."""
WORKS_FOR = CLEANUP_LASTS / 2
"""How long is looked and removed at most: what is left then goes the next time."""

JOB_NAME = job_object("").rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class UnusedData:
    """Objects of data that nobody uses.

    Attributes:
        sources: How many sources of data they were.
        objects: Their names, the manifests first.
        size_bytes: Their size.
    """

    sources: int = 0
    objects: tuple[str, ...] = ()
    size_bytes: int = 0


def find_unused(
    store: ArtifactStore, *, older_than: timedelta, now: datetime | None = None
) -> UnusedData:
    """Return what nobody uses of the data in a store.

    Args:
        store: The store.
        older_than: How long ago it was used last.
        now: The moment that ages are counted from; None for this one.
    """
    return _summed(*_look(store, older_than, now or datetime.now(UTC)))


def _look(
    store: ArtifactStore, older_than: timedelta, now: datetime
) -> tuple[list[ObjectInfo], list[ObjectInfo]]:
    """Return the manifests that nobody uses, and what else goes."""
    oldest = now - max(older_than, LEAST_AGE)
    manifests = {info.name: info for info in store.list(DATA_MANIFESTS)}
    uses = list(store.list(DATA_USES)) if manifests else []
    used = {f"{DATA_MANIFESTS}{_used(info)}" for info in uses if info.updated >= oldest}
    dead = [info for info in manifests.values() if info.updated < oldest and info.name not in used]
    named = _named_by_jobs(store) if dead else set()
    dead = [info for info in dead if info.name not in named]
    kept = manifests.keys() - {info.name for info in dead}
    gone = [info for info in uses if info.updated < oldest]
    return dead, [*gone, *_unnamed(store, kept, now - LEAST_AGE)]


def _summed(manifests: Sequence[ObjectInfo], others: Sequence[ObjectInfo]) -> UnusedData:
    objects = [*manifests, *others]
    return UnusedData(
        sources=len(manifests),
        objects=tuple(info.name for info in objects),
        size_bytes=sum(info.size_bytes for info in objects),
    )


def remove_unused(store: ArtifactStore, *, older_than: timedelta) -> UnusedData:
    """Remove what nobody uses of the data in a store, and return what was removed.

    An interrupted removal can be done again: manifests go first, so that nobody finds one that is
    not whole.

    Args:
        store: The store.
        older_than: How long ago it was used last.
    """
    begun = begin_cleanup(store) if next(store.list(DATA_MANIFESTS), None) else None
    if begun is None:
        return UnusedData()
    # Looking takes time, too: whoever uses data waits for no longer than a cleanup lasts.
    until = time.monotonic() + WORKS_FOR.total_seconds()
    try:
        manifests, others = _look(store, older_than, datetime.now(UTC))
        return _summed(_removed(manifests, store, until), _removed(others, store, until))
    finally:
        end_cleanup(begun, store)


def _removed(
    objects: Sequence[ObjectInfo], store: ArtifactStore, until: float
) -> Sequence[ObjectInfo]:
    """Remove objects for as long as there is time, and return those that are gone."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        for begin in range(0, len(objects), PARALLEL):
            if time.monotonic() > until:
                return objects[:begin]
            list(pool.map(store.delete, (info.name for info in objects[begin : begin + PARALLEL])))
    return objects


def _used(info: ObjectInfo) -> str:
    """Return the digest of the manifest that a note of a use is about."""
    return info.name.removeprefix(DATA_USES).partition("/")[0]


def _named_by_jobs(store: ArtifactStore) -> set[str]:
    """Return the manifests that jobs name, of runs and of deployments."""
    jobs = [
        info.name
        for prefix in (RUNS, DEPLOYMENTS)
        for info in store.list(f"{prefix}/")
        if info.name.endswith(f"/{JOB_NAME}")
    ]
    with ThreadPoolExecutor(PARALLEL) as pool:
        return {
            name for names in pool.map(lambda job: _named_by(store, job), jobs) for name in names
        }


def _named_by(store: ArtifactStore, job: str) -> list[str]:
    with suppress(ObjectNotFoundError):
        data = json.loads(store.get(job).data).get("data") or ()
        return [spec["manifest"]["name"] for spec in data if spec.get("manifest")]
    return []


def _unnamed(store: ArtifactStore, manifests: set[str], oldest: datetime) -> Iterator[ObjectInfo]:
    """Yield packs and parts that none of some manifests names, unless they are young."""
    old = [
        info
        for prefix in (DATA_PACKS, DATA_PARTS)
        for info in store.list(prefix)
        if info.updated < oldest
    ]
    if not old:
        return
    named: set[str] = set()
    for name in manifests:
        with suppress(ObjectNotFoundError):
            named |= _objects_of(store.get(name).data)
    yield from (info for info in old if info.name not in named)


def _objects_of(manifest: bytes) -> set[str]:
    """Return the packs and parts that a manifest names."""
    found = set()
    with gzip.open(io.BytesIO(manifest)) as lines:
        for line in lines:
            if line.startswith(b'{"pack":'):
                found.add(data_pack_object(json.loads(line)["pack"]))
            elif b'"parts":' in line:
                found |= {data_part_object(part) for part in json.loads(line).get("parts", ())}
    return found
