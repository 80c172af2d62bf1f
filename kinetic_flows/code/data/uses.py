"""Who uses data in the store, so that it is removed when nobody does.

Whoever is about to launch runs with some data notes the day, before anything else; jobs name their
data from then on. Whoever removes data says so first. So one of the two sees the other, and what is
used stays, or is sent again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from kinetic_flows.core.artifact_store import ArtifactStore, StoredObject
from kinetic_flows.core.errors import ObjectNotFoundError
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.job import canonical_json
from kinetic_flows.core.object_names import DATA_CLEANUP, data_use_object

CLEANUP_LASTS = timedelta(minutes=15)
"""For how long a cleanup is believed to be at work that said so, and not that it has ended."""
LOOK_SECONDS = 1.0


def note_use(manifest_sha256: str, store: ArtifactStore) -> bool:
    """Note that data is used today; return whether nobody had noted it.

    Args:
        manifest_sha256: The digest of its manifest.
        store: Where it is.
    """
    day = datetime.now(UTC).date().isoformat()
    return store.put_if_absent(data_use_object(manifest_sha256, day), b"")


def await_cleanup(store: ArtifactStore) -> bool:
    """Wait while data is removed; return whether it was."""
    has_waited = False
    while (found := _cleanup(store)) and _is_at_work(found):
        has_waited = True
        pause(LOOK_SECONDS)
    return has_waited


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
