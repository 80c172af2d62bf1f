"""The store of a run, which may be another platform's than the one that is set here."""

from __future__ import annotations

from pathlib import Path
from socket import gethostname
from urllib.parse import unquote, urlsplit

from kinetic_flows.clients.prefect.labels import STORE_LABEL
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.platforms.local.store import LocalStore
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import store_label


def store_of(record: RunRecord, session: Session) -> ArtifactStore | None:
    """Return where a run's objects are, to be read; None where that is on another machine.

    Args:
        record: The run.
        session: Who may read buckets.
    """
    told = str(record.labels.get(STORE_LABEL) or "")
    if not told or told == store_label(session.platform):
        return session.platform.store
    if told.startswith("gs://"):
        return session.platform.bucket(told.removeprefix("gs://").rstrip("/"))
    host, _, uri = told.partition(":")
    path = Path(unquote(urlsplit(uri).path))
    return LocalStore(path) if host == gethostname() and path.is_dir() else None


def is_here(record: RunRecord, session: Session) -> bool:
    """Whether a run's objects are where those of runs go that are started with these settings."""
    return record.labels.get(STORE_LABEL) == store_label(session.platform)
