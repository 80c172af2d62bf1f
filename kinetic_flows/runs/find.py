"""Finding runs and groups in Prefect: by state, time and name, or by an id that may be short."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery, RunRecord
from kinetic_flows.clients.prefect.flow_names import GROUP_FLOW
from kinetic_flows.clients.prefect.records import query_of_state
from kinetic_flows.core import option_values as check
from kinetic_flows.core.run_ids import completed
from kinetic_flows.runs.reconcile import reconcile
from kinetic_flows.runs.session import Session

CLOCK_SKEW = timedelta(minutes=1)
"""How far Prefect's clock may be ahead of this machine's."""


def find_records(
    session: Session,
    *,
    state: str | None,
    since: datetime | None,
    name: str | None,
    limit: int | None,
) -> list[RunRecord]:
    """Return the flow runs that `list_runs` lists.

    Raises:
        UsageError: There is no such state, or another argument cannot be.
    """
    if limit is not None:
        check.count("limit", limit)
    query = replace(query_of_state(state), since=check.moment("since", since))
    if query.state_types != ("SCHEDULED",):
        # Prefect makes the runs of a schedule long before they begin.
        query = replace(query, until=datetime.now(UTC) + CLOCK_SKEW)
    reconcile(session.platform, session.api)
    if name is None:
        return session.api.find_runs(query, limit=limit)
    found = {
        record.id: record
        for named in (replace(query, name=name), replace(query, function=name))
        for record in session.api.find_runs(named, limit=limit)
    }
    newest = sorted(found.values(), key=lambda each: each.expected or each.created, reverse=True)
    return newest[:limit]


def full_id(text: str, api: PrefectApi, *, groups: bool = False) -> str:
    """Complete a shortened id, or take the id out of a URL.

    Args:
        text: An id, its beginning, or a URL.
        api: The API to ask.
        groups: Whether it is a group's id, not a run's.

    Raises:
        RunNotFoundError: No run fits, or several do.
    """
    wanted = text.strip().rstrip("/").rpartition("/")[2]
    try:
        return str(UUID(wanted))
    except ValueError:
        pass
    records = api.find_runs(RunQuery(flow=GROUP_FLOW if groups else None))
    return completed(wanted, {each.id: f"{each.name}, {each.state_name}" for each in records})
