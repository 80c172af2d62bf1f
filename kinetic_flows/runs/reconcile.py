"""Reconciling Prefect's states with processes and results, for runs that no client waits for.

The first session of a process does it, every listing of runs, and the flow `kinetic-reconcile`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery, RunRecord
from kinetic_flows.clients.prefect.flow_names import GROUP_FLOW, PARENT_FLOW, REHEARSE_FLOW
from kinetic_flows.clients.prefect.labels import CANDIDATES_LABEL, STORE_LABEL
from kinetic_flows.core.errors import KineticError, PrefectUnreachable
from kinetic_flows.core.job import CANCEL_GRACE_SECONDS
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.cancel import CANCEL_PATIENCE_SECONDS
from kinetic_flows.runs.settle import crash, store_label, sync_state, ticket_of
from kinetic_flows.runs.worker_runs import processes_of, seconds_in_state

logger = logging.getLogger(__name__)

ABANDONED_SECONDS = 600.0
"""How long after the end of its last run a flow run of a client that lives has ended, too."""

UNFINISHED = ("PENDING", "RUNNING", "CANCELLING")
"""State types of runs that have been made and are not over."""


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """Which runs were reconciled.

    Attributes:
        looked_at: Ids of the runs that were not over before.
        ended: Ids of those of them that are over now.
    """

    looked_at: tuple[str, ...]
    ended: tuple[str, ...]


def reconcile(
    platform: Platform,
    api: PrefectApi,
    *,
    cancel_patience_seconds: float = CANCEL_PATIENCE_SECONDS,
) -> Reconciliation:
    """Set the state of every unfinished run of this platform, as far as its process tells it.

    A run whose process has ended gets the state that its result or its end tells; one that has
    waited too long for its pod is given up; one whose cancellation nobody has acted on is
    stopped.

    Args:
        platform: Only runs whose objects are in its store are touched.
        api: Where states are kept.
        cancel_patience_seconds: How long a run is left to act on its cancellation by itself.
    """
    unfinished = api.find_runs(RunQuery(state_types=UNFINISHED))
    label = store_label(platform)
    ours = [run for run in unfinished if run.labels.get(STORE_LABEL) == label]
    for run in ours:
        _look_after(platform, api, run, cancel_patience_seconds)
    if any(run.labels.get(CANDIDATES_LABEL) for run in ours):
        withdraw_launches(platform)
    ids = tuple(run.id for run in ours)
    found = api.find_runs(RunQuery(ids=ids)) if ids else []
    return Reconciliation(looked_at=ids, ended=tuple(run.id for run in found if run.is_final))


def _look_after(
    platform: Platform, api: PrefectApi, run: RunRecord, cancel_patience_seconds: float
) -> None:
    """Set one run's state; a run whose process or result cannot be read now is left as it is."""
    try:
        ticket = ticket_of(run)
        is_ending = run.state_type == "CANCELLING" and platform.sees(ticket.place)
        if is_ending and seconds_in_state(run) >= cancel_patience_seconds:
            processes_of(platform, api, ticket).stop(run.id, CANCEL_GRACE_SECONDS)
        sync_state(platform, api, ticket)
    except PrefectUnreachable:
        raise
    except KineticError as error:
        _name_once(run.id, error.message)
    except Exception as error:  # noqa: BLE001 - whatever it is about this one run
        _name_once(run.id, f"{type(error).__name__}: {error}")


def withdraw_launches(platform: Platform) -> None:
    """Delete the launches of candidates that no driver has withdrawn, where that can be done."""
    from kinetic_flows.runs.candidates.left_over import withdraw_left_over

    try:
        withdraw_left_over(platform)
    except KineticError as error:
        logger.warning("launches that were withdrawn are left as they are: %s", error.message)


_named: set[str] = set()


def _name_once(run_id: str, why: str) -> None:
    """Log once that a run's state could not be found out."""
    if run_id not in _named:
        _named.add(run_id)
        logger.warning("run %s cannot be settled now, and is left as it is: %s", run_id, why)


def crash_abandoned_parents(
    platform: Platform, api: PrefectApi, *, after_seconds: float = ABANDONED_SECONDS
) -> tuple[str, ...]:
    """End flow runs of clients that are gone, whose runs have all ended; return their ids.

    A client ends its own flow run seconds after the last of its runs. The ledger of clients
    finds those that died on this machine; this finds them wherever they ran.

    Args:
        platform: Only flow runs are touched whose runs' objects are all in its store.
        api: Where states are kept.
        after_seconds: How long ago the last of its runs must have ended.
    """
    label = store_label(platform)
    abandoned = []
    running = [
        parent
        for flow in (PARENT_FLOW, GROUP_FLOW, REHEARSE_FLOW)
        for parent in api.find_runs(RunQuery(flow=flow, state_types=("RUNNING",)))
    ]
    for parent in running:
        runs = api.find_runs(RunQuery(parent=parent.id))
        ours = all(run.labels.get(STORE_LABEL) == label for run in runs)
        over = all(run.is_final and seconds_in_state(run) >= after_seconds for run in runs)
        if runs and ours and over:
            cause = "the client that drove this run is gone; its runs have ended"
            if crash(api, parent.id, cause):
                abandoned.append(parent.id)
    return tuple(abandoned)
