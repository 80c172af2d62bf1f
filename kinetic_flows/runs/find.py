"""Finding runs and groups in Prefect: by state, time and name, or by an id that may be short."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from kinetic_flows.clients.prefect.api import PAGE_SIZE, PrefectApi, RunQuery, RunRecord
from kinetic_flows.clients.prefect.flow_names import GROUP_FLOW
from kinetic_flows.clients.prefect.records import query_of_state
from kinetic_flows.code.origin import caller
from kinetic_flows.core import option_values as check
from kinetic_flows.core.errors import RunNotFoundError, UsageError
from kinetic_flows.core.run_ids import SHORT_CHARACTERS, completed, is_part
from kinetic_flows.runs.origin_labels import origin_tags
from kinetic_flows.runs.reconcile import reconcile
from kinetic_flows.runs.session import Session

CLOCK_SKEW = timedelta(minutes=1)
"""How far Prefect's clock may be ahead of this machine's."""


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs to list; Prefect's server finds them, so that only those are sent.

    Attributes:
        state: Their state, as people write it; None for any.
        since: Made later; None for any time.
        name: Part of their own or their function's name; None for any.
        function: Their function's name; None for any.
        group: The id of their group, which may be short; None for any.
        tags: Tags that they have, all of them.
        mine: Whether only those count that this user has started.
    """

    state: str | None = None
    since: datetime | None = None
    name: str | None = None
    function: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    mine: bool = False


def find_records(session: Session, wanted: RunFilter, *, limit: int | None) -> list[RunRecord]:
    """Return the flow runs that `list_runs` lists.

    Raises:
        RunNotFoundError: There is no such group.
        UsageError: There is no such state, or another argument cannot be.
    """
    if limit is not None:
        check.count("limit", limit)
    query, name = _query(wanted, session), wanted.name
    reconcile(session.platform, session.api)
    if name is None:
        return session.api.find_runs(query, limit=limit)
    found = {
        record.id: record
        for named in _named_like(query, name)
        for record in session.api.find_runs(named, limit=limit)
    }
    newest = sorted(found.values(), key=lambda each: each.expected or each.created, reverse=True)
    return newest[:limit]


def _query(wanted: RunFilter, session: Session) -> RunQuery:
    query = replace(query_of_state(wanted.state), since=check.moment("since", wanted.since))
    if query.state_types != ("SCHEDULED",):
        # Prefect makes the runs of a schedule long before they begin.
        query = replace(query, until=datetime.now(UTC) + CLOCK_SKEW)
    return replace(
        query,
        of_function=wanted.function,
        parent=full_id(wanted.group, session.api, groups=True) if wanted.group else None,
        tags=(*wanted.tags, *(_own_tags(session) if wanted.mine else ())),
    )


def _named_like(query: RunQuery, name: str) -> tuple[RunQuery, ...]:
    """Return the queries for runs whose own or whose function's name has a part."""
    own = replace(query, name=name)
    if query.of_function is None:
        return own, replace(query, function=name)
    return (query,) if name.lower() in query.of_function.lower() else (own,)


def _own_tags(session: Session) -> tuple[str, ...]:
    """Return the tags of this user's runs.

    Raises:
        UsageError: Runs do not say whose they are.
    """
    tags = origin_tags(caller())
    if session.settings.no_origin or not tags:
        raise UsageError(
            "runs that are started here do not say who started them",
            value="KINETIC_NO_ORIGIN",
            hint="unset KINETIC_NO_ORIGIN, or find runs by a tag of your own: "
            "`@kinetic.run(tags=[...])`, `kinetic runs ls --tag ...`",
        )
    return tags


def full_id(text: str, api: PrefectApi, *, groups: bool = False) -> str:
    """Complete a shortened id, or take the id out of a URL.

    Args:
        text: An id, its beginning or end, or a URL.
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
    query = RunQuery(flow=GROUP_FLOW if groups else None)
    newest = api.find_runs(query, limit=PAGE_SIZE)
    is_told = len(wanted) >= SHORT_CHARACTERS and any(is_part(wanted, each.id) for each in newest)
    # What a list shows of an id hardly fits an old run, too; less of it may.
    records = newest if is_told or len(newest) < PAGE_SIZE else api.find_runs(query)
    told = {each.id: f"{each.shown_name}, {each.state_name}" for each in records}
    return completed(wanted, told, what="group" if groups else "run")


def run_id_of(text: str, api: PrefectApi) -> str:
    """Complete the shortened id of a run, and say so where it is a group's.

    Args:
        text: An id, its beginning or end, or a URL.
        api: The API to ask.

    Raises:
        RunNotFoundError: No run fits, or several do.
    """
    try:
        return full_id(text, api)
    except RunNotFoundError as not_a_run:
        try:
            group = full_id(text, api, groups=True)
        except RunNotFoundError:
            raise not_a_run from None
    raise group_for_run(group)


def group_for_run(group_id: str) -> RunNotFoundError:
    """Return the error for a group that is named where a run is meant."""
    return RunNotFoundError(
        f"{group_id} is a group of runs, not a run",
        value=group_id,
        hint=f"`kinetic runs ls --group {group_id}` lists its runs; in Python, "
        "kinetic.attach_group(id) is the group",
    )


def run_or_group_id(text: str, api: PrefectApi) -> str:
    """Complete the shortened id of a run, or else of a group.

    Args:
        text: An id, its beginning or end, or a URL.
        api: The API to ask.

    Raises:
        RunNotFoundError: None fits, or several do.
    """
    try:
        return full_id(text, api)
    except RunNotFoundError as not_a_run:
        try:
            return full_id(text, api, groups=True)
        except RunNotFoundError:
            raise not_a_run from None
