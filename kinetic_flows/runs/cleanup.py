"""Removing the objects and the process records of runs that ended long ago.

Only what one run or group alone has is ever removed: `runs/{id}/` in the store, where the jobs
are, too, that were written for a worker to start, and what its launcher keeps. Outputs,
deployments, and what runs share (code, wheels, locks, runners) stay; so does what is of runs that
Prefect does not know and whose end cannot be seen from here. Copies of data that runs on this
machine have fetched go when no run has used them for as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery, RunRecord
from kinetic_flows.clients.prefect.flow_names import GROUP_FLOW
from kinetic_flows.clients.prefect.labels import PARENT_LABEL
from kinetic_flows.clients.prefect.records import environment_of
from kinetic_flows.core.data_copies import DataCopy
from kinetic_flows.core.job import JOB_VARIABLE
from kinetic_flows.core.launcher import Launcher, Phase
from kinetic_flows.core.object_names import (
    RUNS,
    candidates_object,
    is_job_owner,
    job_object,
    result_object,
)
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.sealed_values import forget_seals
from kinetic_flows.runs.session import Session

RECORDS_AT_A_TIME = 100
JOB_NAME = job_object("").removeprefix(f"{RUNS}/")
UNKNOWN_FOR = timedelta(hours=1)
"""Age at which objects whose run Prefect does not know are of no run that is being created."""

UNFINISHED = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")


@dataclass(frozen=True, kw_only=True)
class Expired:
    """The objects of a run or group that are to be removed.

    Attributes:
        run_id: The run, or the flow run above a group.
        objects: Its objects in the store.
        size_bytes: Their size.
    """

    run_id: str
    objects: tuple[str, ...]
    size_bytes: int


@dataclass(kw_only=True)
class _Remains:
    newest: datetime
    objects: list[str] = field(default_factory=list)
    size_bytes: int = 0


def find_expired(
    session: Session, *, older_than: timedelta, now: datetime | None = None
) -> list[Expired]:
    """Return the objects of runs that ended, and wrote their last object, longer ago than an age.

    What a run has that is not over is never among it, however old: a run is known to Prefect
    before it has its first object, or soon after its job was written for a worker.

    Args:
        session: Where runs are and report.
        older_than: The age.
        now: The moment that ages are counted from; None for this one.
    """
    now = now or datetime.now(UTC)
    limit, unknown_since = now - older_than, now - UNKNOWN_FOR
    launcher = session.platform.launcher if session.platform.may_see_processes else None
    # Runs first: one that is made meanwhile has no object in the list below that is expired.
    in_use = _used_by(RunQuery(state_types=UNFINISHED), session.api)
    old = {
        owner: remains
        for owner, remains in _remains(session.platform, launcher).items()
        if remains.newest < limit and owner not in in_use
    }
    runs = {owner: remains for owner, remains in old.items() if not is_job_owner(owner)}
    jobs = {
        owner
        for owner, remains in old.items()
        if is_job_owner(owner) and remains.newest < unknown_since
    }
    if jobs:
        # A job is as old as its run was when it began: it stays as long as the run's result does.
        jobs -= _used_by(RunQuery(ended_since=limit), session.api)
    return [
        Expired(run_id=owner, objects=tuple(old[owner].objects), size_bytes=old[owner].size_bytes)
        for owner in (*_ended(runs, unknown_since, session.api, launcher), *sorted(jobs))
    ]


def remove(expired: Iterable[Expired], session: Session) -> Iterator[Expired]:
    """Remove what is expired, and yield each run when that is done.

    An interrupted removal can be done again: a run's job goes last.

    Args:
        expired: What to remove.
        session: Where it is.
    """
    for each in expired:
        if is_job_owner(each.run_id) or candidates_object(each.run_id) in each.objects:
            # Keys of other runs went with their processes.
            forget_seals(each.objects, session.platform.store.uri, session.api)
        for name in sorted(each.objects, key=lambda name: name.endswith(JOB_NAME)):
            session.platform.store.delete(name)
        if session.platform.may_see_processes:
            session.platform.launcher.forget(each.run_id)
        yield each


def find_unused_data(
    session: Session, *, older_than: timedelta, now: datetime | None = None
) -> list[DataCopy]:
    """Return the copies of data, where this client sees them, that runs use no more.

    Args:
        session: Where runs are.
        older_than: How long ago a run used them last.
        now: The moment that ages are counted from; None for this one.
    """
    copies = session.platform.data_copies
    limit = (now or datetime.now(UTC)) - older_than
    return list(copies.unused_since(limit)) if copies else []


def remove_data(unused: Iterable[DataCopy], session: Session) -> Iterator[DataCopy]:
    """Remove copies of data that no run has come to use, and yield each when it is gone."""
    copies = session.platform.data_copies
    for each in unused:
        if copies and copies.remove(each):
            yield each


def _remains(platform: Platform, launcher: Launcher | None) -> dict[str, _Remains]:
    """Return the objects and process records of each run, group and job for a worker."""
    found: dict[str, _Remains] = {}
    for info in platform.store.list(f"{RUNS}/"):
        owner = info.name.split("/")[1]
        remains = found.setdefault(owner, _Remains(newest=info.updated))
        remains.newest = max(remains.newest, info.updated)
        remains.objects.append(info.name)
        remains.size_bytes += info.size_bytes
    for run_id, updated in (launcher.kept() if launcher else {}).items():
        remains = found.setdefault(run_id, _Remains(newest=updated))
        remains.newest = max(remains.newest, updated)
    return found


def _used_by(query: RunQuery, api: PrefectApi) -> set[str]:
    """Return the ids of the groups and the owners of the jobs whose objects some runs use."""
    records = api.find_runs(query)
    groups = {str(record.labels.get(PARENT_LABEL, "")) for record in records}
    jobs = (str(environment_of(record.job_variables).get(JOB_VARIABLE)) for record in records)
    return groups | {uri.removesuffix(JOB_NAME).rpartition("/")[2] for uri in jobs}


def _ended(
    old: Mapping[str, _Remains],
    unknown_since: datetime,
    api: PrefectApi,
    launcher: Launcher | None,
) -> Iterator[str]:
    """Yield the runs and groups that have ended, as Prefect says, or else the launcher."""
    ids = sorted(old)
    for position in range(0, len(ids), RECORDS_AT_A_TIME):
        some = ids[position : position + RECORDS_AT_A_TIME]
        known = {record.id: record for record in _records(some, api)}
        for run_id in some:
            if run_id in known:
                is_over = known[run_id].is_final
            else:
                # Prefect's records can be deleted, and are in another API for another team.
                is_old = old[run_id].newest < unknown_since
                is_over = is_old and _has_ended(old[run_id], run_id, launcher)
            if is_over:
                yield run_id


def _has_ended(remains: _Remains, run_id: str, launcher: Launcher | None) -> bool:
    """Whether a run has ended that Prefect does not know.

    That it has no process here says so only where runs can be nowhere else.
    """
    if result_object(run_id) in remains.objects:
        return True
    if launcher is None:
        return False
    phase = launcher.observe(run_id, None).phase
    return phase.is_final and (phase is not Phase.GONE or not launcher.place())


def _records(run_ids: list[str], api: PrefectApi) -> list[RunRecord]:
    ids = tuple(run_id for run_id in run_ids if _is_id(run_id))
    if not ids:
        return []
    groups = api.find_runs(RunQuery(ids=ids, flow=GROUP_FLOW))
    return [*api.find_runs(RunQuery(ids=ids)), *groups]


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
