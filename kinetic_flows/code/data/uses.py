"""Who uses data in the store, so that it is removed when nobody does.

Whoever is about to launch runs with some data notes the day, before anything else; jobs name their
data from then on. Whoever removes data says so first. So one of the two sees the other, and what is
used stays, or is sent again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from kinetic_flows.core.artifact_store import ArtifactStore, StoredObject
from kinetic_flows.core.errors import ObjectNotFoundError
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.job import canonical_json
from kinetic_flows.core.job_parts import DataSpec
from kinetic_flows.core.object_names import DATA_CLEANUP, data_use_object

CLEANUP_LASTS = timedelta(minutes=15)
"""For how long a cleanup is believed to be at work that said so, and not that it has ended."""
LOOK_SECONDS = 1.0


def note_use(manifest_sha256: str, store: ArtifactStore) -> None:
    """Note that data is used today, and wait while data is removed by somebody who may not know.

    What is in the store then stays; so it does where another has noted the day a moment before.

    Args:
        manifest_sha256: The digest of its manifest.
        store: Where it is.
    """
    day = datetime.now(UTC).date().isoformat()
    store.put_if_absent(data_use_object(manifest_sha256, day), b"")
    await_cleanup(store)


def keep(data: Iterable[DataSpec], store: ArtifactStore) -> bool:
    """Note that a job's data is used once more; return whether what was sent of it is there.

    Args:
        data: What the job says of it.
        store: Where it was sent to.
    """
    manifests = [spec.manifest for spec in data if spec.manifest]
    for manifest in manifests:
        note_use(manifest.sha256, store)
    return not manifests or not store.missing([manifest.name for manifest in manifests])


def await_cleanup(store: ArtifactStore) -> None:
    """Wait while data is removed."""
    while (found := _cleanup(store)) and _is_at_work(found):
        pause(LOOK_SECONDS)


def begin_cleanup(store: ArtifactStore) -> str | None:
    """Say that data is being removed from now on; None where somebody else removes it.

    Returns:
        What `end_cleanup` wants.
    """
    found = _cleanup(store)
    if found and _is_at_work(found):
        return None
    until = datetime.now(UTC) + CLEANUP_LASTS
    said = canonical_json({"until": until.isoformat()})
    return store.replace_if_unchanged(DATA_CLEANUP, said, found.generation if found else None)


def end_cleanup(begun: str, store: ArtifactStore) -> None:
    """Say that no more data is being removed.

    Args:
        begun: What `begin_cleanup` returned.
        store: Where it was.
    """
    ended = canonical_json({"until": datetime.now(UTC).isoformat()})
    store.replace_if_unchanged(DATA_CLEANUP, ended, begun)


def _cleanup(store: ArtifactStore) -> StoredObject | None:
    try:
        return store.get(DATA_CLEANUP)
    except ObjectNotFoundError:
        return None


def _is_at_work(said: StoredObject) -> bool:
    try:
        until = datetime.fromisoformat(json.loads(said.data)["until"])
    except (ValueError, KeyError, TypeError):
        return False
    return until > datetime.now(UTC)
