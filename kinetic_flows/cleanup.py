"""Removing what runs of long ago have left: their own objects, and their processes' records.

Only what one run or group alone has is ever removed: `runs/{id}/` in the store, where the jobs
are, too, that were written for a worker to start, and what its launcher keeps. Outputs,
deployments, and what runs share (code, wheels, locks, runners) stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from kinetic_flows.clients.prefect_api import PrefectApi, RunQuery, RunRecord
from kinetic_flows.naming import GROUP_FLOW, JOB_VARIABLE, PARENT_LABEL, RUNS, job_object
from kinetic_flows.protocols import Platform
from kinetic_flows.session import Session

RECORDS_AT_A_TIME = 100
JOB_NAME = job_object("").removeprefix(f"{RUNS}/")
UNKNOWN_FOR = timedelta(hours=1)
"""Age from which on an id that Prefect does not know is of no run that is only being made."""


@dataclass(frozen=True, kw_only=True)
class Expired:
    """What a run or group has left that is to be removed.

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


def find_expired(session: Session, *, older_than: timedelta) -> list[Expired]:
    """Return what runs have left that ended and left it longer ago than an age.

    What a run has that is not over is never among it, however old: a run is known to Prefect
    before it has its first object, or soon after its job was written for a worker.

    Args:
        session: Where runs are and report.
        older_than: The age.
    """
    limit = datetime.now(UTC) - older_than
    # Runs first: one that is made meanwhile has no object in the list below that is expired.
    in_use = _ids_in_use(session.api)
    old = {
        run_id: remains
        for run_id, remains in _remains(session.platform).items()
        if remains.newest < limit and run_id not in in_use
    }
    return [
        Expired(
            run_id=run_id, objects=tuple(old[run_id].objects), size_bytes=old[run_id].size_bytes
        )
        for run_id in _ended(old, session)
    ]


def remove(expired: Iterable[Expired], session: Session) -> Iterator[Expired]:
    """Remove what is expired, and yield each run when that is done.

    An interrupted removal can be done again: a run's job goes last.

    Args:
        expired: What to remove.
        session: Where it is.
    """
    for each in expired:
        for name in sorted(each.objects, key=lambda name: name.endswith(JOB_NAME)):
            session.platform.store.delete(name)
        session.platform.launcher.forget(each.run_id)
        yield each


def _remains(platform: Platform) -> dict[str, _Remains]:
    """Return what each run has left, wherever that is."""
    found: dict[str, _Remains] = {}
    for info in platform.store.list(f"{RUNS}/"):
        run_id = info.name.split("/")[1]
        remains = found.setdefault(run_id, _Remains(newest=info.updated))
        remains.newest = max(remains.newest, info.updated)
        remains.objects.append(info.name)
        remains.size_bytes += info.size_bytes
    for run_id, updated in platform.launcher.kept().items():
        remains = found.setdefault(run_id, _Remains(newest=updated))
        remains.newest = max(remains.newest, updated)
    return found


def _ids_in_use(api: PrefectApi) -> set[str]:
    """Return whose objects runs need that are not over: their groups', and their jobs' ids."""
    states = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
    unfinished = api.find_runs(RunQuery(state_types=states))
    groups = {str(record.labels.get(PARENT_LABEL, "")) for record in unfinished}
    jobs = (str((record.job_variables.get("env") or {}).get(JOB_VARIABLE)) for record in unfinished)
    return groups | {uri.removesuffix(JOB_NAME).rpartition("/")[2] for uri in jobs}


def _ended(old: Mapping[str, _Remains], session: Session) -> Iterator[str]:
    """Yield those runs and groups that are over, by what Prefect says, or else the launcher."""
    unknown_since = datetime.now(UTC) - UNKNOWN_FOR
    ids = sorted(old)
    for position in range(0, len(ids), RECORDS_AT_A_TIME):
        some = ids[position : position + RECORDS_AT_A_TIME]
        known = {record.id: record for record in _records(some, session.api)}
        for run_id in some:
            if run_id in known:
                is_over = known[run_id].is_final
            else:
                # Prefect's records can be deleted, and are in another API for another team.
                seen = session.platform.launcher.observe(run_id, None)
                is_over = seen.phase.is_final and old[run_id].newest < unknown_since
            if is_over:
                yield run_id


def _records(run_ids: list[str], api: PrefectApi) -> list[RunRecord]:
    ids = tuple(run_id for run_id in run_ids if _is_id(run_id))
    if not ids:
        return []
    groups = api.find_runs(RunQuery(ids=ids, flow=GROUP_FLOW))
    return [*api.find_runs(RunQuery(ids=ids)), *groups]


def _is_id(text: str) -> bool:
    from uuid import UUID

    try:
        UUID(text)
    except ValueError:
        return False
    return True
