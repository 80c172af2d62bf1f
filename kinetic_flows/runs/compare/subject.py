"""One of two runs that are compared, with everything that is known of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.prefect.labels import ACCELERATOR_LABEL, STORE_LABEL
from kinetic_flows.clients.prefect.records import RunRecord
from kinetic_flows.code.payload_frame import PayloadFrame, payload_frame
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.envelope import ResultHeader
from kinetic_flows.core.errors import KineticError, ObjectNotFoundError, RunNotFoundError
from kinetic_flows.core.job import JobTemplate
from kinetic_flows.runs.compare.stores import store_of
from kinetic_flows.runs.description import described
from kinetic_flows.runs.results import read_result
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import ticket_of
from kinetic_flows.runs.stored_run import StoredRun, read_payload, read_stored

EXPIRED = "what it was started with has expired"
ELSEWHERE = "its objects are in {there}, which cannot be read from here"
NOT_LAUNCHED = "it was never launched"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A run.

    Attributes:
        record: Its flow run.
        source: The flow run whose job it is: another one's where that answered its call.
        told: The run as plain JSON values.
        store: Where its objects are; None where they cannot be read from here.
        stored: What it was started with; None where that cannot be read any more.
        unknown: Why it cannot; empty where it can.
        job: Its job on the accelerator that it was on; None as `stored` is.
        header: What its result says without being unpickled; None for a run that has none, or
            whose result has expired.
        frame: Its call from outside; None where it has expired.
    """

    record: RunRecord
    source: RunRecord
    told: Mapping[str, Any]
    store: ArtifactStore | None
    stored: StoredRun | None
    unknown: str
    job: JobTemplate | None
    header: ResultHeader | None
    frame: PayloadFrame | None


def look_at(record: RunRecord, session: Session) -> Subject:
    """Return what is known of a run; what has expired, or is out of reach, is no error.

    Args:
        record: Its flow run.
        session: Who is asked.
    """
    source, store = _source(record, session), store_of(record, session)
    stored, unknown = _stored(source, store)
    return Subject(
        record=record,
        source=source,
        told=described(record, session.api.run_url(record.id)),
        store=store,
        stored=stored,
        unknown=unknown,
        job=_job(record, stored),
        header=_header(record, store),
        frame=_frame(source, store, stored),
    )


def _source(record: RunRecord, session: Session) -> RunRecord:
    """Return the run that was called for a run, which may have had an earlier one's value."""
    earlier = ticket_of(record).result_run_id
    if earlier is None:
        return record
    try:
        return session.api.read_run(earlier)
    except RunNotFoundError:
        return record


def _stored(source: RunRecord, store: ArtifactStore | None) -> tuple[StoredRun | None, str]:
    there = source.labels.get(STORE_LABEL)
    if not there:
        return None, NOT_LAUNCHED
    if store is None:
        return None, ELSEWHERE.format(there=there)
    try:
        return read_stored(source, store), ""
    except RunNotFoundError:
        return None, EXPIRED
    except KineticError as error:
        return None, error.message


def _job(record: RunRecord, stored: StoredRun | None) -> JobTemplate | None:
    """Return a run's job on the accelerator that it has got."""
    if stored is None:
        return None
    named = record.labels.get(ACCELERATOR_LABEL)
    fits = (job for job in stored.candidates if job.launch and job.launch.accelerator == named)
    return next(fits, stored.template)


def _header(record: RunRecord, store: ArtifactStore | None) -> ResultHeader | None:
    if store is None or not record.is_final or not ticket_of(record).run_key:
        return None
    with suppress(KineticError):
        envelope = read_result(store, ticket_of(record))
        return envelope.header if envelope else None
    return None


def _frame(
    source: RunRecord, store: ArtifactStore | None, stored: StoredRun | None
) -> PayloadFrame | None:
    if store is None or stored is None:
        return None
    with suppress(KineticError, ObjectNotFoundError, ValueError):
        return payload_frame(read_payload(stored, source, store))
    return None
