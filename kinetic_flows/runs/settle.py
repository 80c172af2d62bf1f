"""Settling runs: making Prefect's states agree with what happened to processes and results.

A run's own runner reports its end. Where it could not (it was killed, or the API was out of
its reach) or where nobody watched, this is what sets the final state: for a waiting client,
for whoever attaches or lists runs, and for every new call on the same machine.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from socket import gethostname

from kinetic_flows.clients.prefect.api import PrefectApi, RunQuery, RunRecord
from kinetic_flows.clients.prefect.records import environment_of
from kinetic_flows.core.errors import KineticError, ObjectRefusedError, PrefectUnreachable
from kinetic_flows.core.job import ResultEnvelope, ResultStatus, RunTicket
from kinetic_flows.core.naming import (
    CACHED_FROM_LABEL,
    DISPATCH_LABEL,
    FUNCTION_LABEL,
    GROUP_FLOW,
    PARENT_FLOW,
    PLACE_LABEL,
    RUN_KEY_VARIABLE,
    STORE_LABEL,
)
from kinetic_flows.core.protocols import Observation, Phase, Platform
from kinetic_flows.runs.results import (
    LOG_TAIL_LINES,
    crash_error,
    failure_summary,
    read_result,
    value_summary,
)
from kinetic_flows.runs.worker_runs import processes_of, seconds_in_state

logger = logging.getLogger(__name__)

LAUNCH_GRACE_SECONDS = 120.0
"""How long a Pending run without a process is left to the client that is launching it."""

CANCEL_PATIENCE_SECONDS = 30.0
"""How long a run's own runner, or whoever follows it, is left to act on a cancellation."""

STOP_GRACE_SECONDS = 15.0
"""Time between SIGTERM and SIGKILL for a run that is stopped here."""

ABANDONED_SECONDS = 600.0
"""How long after the end of its last run a flow run of a client that lives has ended, too."""

UNFINISHED = ("PENDING", "RUNNING", "CANCELLING")
"""State types of runs that have been made and are not over."""

STATE_OF_STATUS: dict[ResultStatus, str] = {
    "returned": "COMPLETED",
    "raised": "FAILED",
    "unpicklable": "FAILED",
    "timed_out": "FAILED",
    "cancelled": "CANCELLED",
    "crashed": "CRASHED",
}


def ticket_of(record: RunRecord) -> RunTicket:
    """Return what is needed to follow a run, from what Prefect keeps of it."""
    key = str(environment_of(record.job_variables).get(RUN_KEY_VARIABLE) or "")
    by_worker = record.deployment_id or record.labels.get(DISPATCH_LABEL) == "worker"
    return RunTicket(
        run_id=record.id,
        name=str(record.labels.get(FUNCTION_LABEL) or record.name),
        run_key=key,
        result_run_id=str(record.labels.get(CACHED_FROM_LABEL) or "") or None,
        dispatch="worker" if by_worker else "client",
        place=str(record.labels.get(PLACE_LABEL) or record.job_variables.get("namespace") or ""),
    )


def settle(
    platform: Platform, api: PrefectApi, run: RunTicket, *, is_launched: bool = False
) -> ResultEnvelope | None:
    """Settle a run whose process has ended; nothing happens while it lives.

    Args:
        platform: Where it was launched.
        api: Where its state is kept.
        run: The run.
        is_launched: Whether it is known to have been launched, so that a process that is not
            there is gone; else another client may be about to start it.

    Returns:
        Its result envelope; None when it left none, or is not over.

    Raises:
        ObjectRefusedError: Its result is not genuine; its state says so too.
    """
    observation = processes_of(platform, api, run).observe(run.run_id)
    if not observation.phase.is_final and not observation.is_outdated:
        return None
    try:
        envelope = read_result(platform.store, run)
    except ObjectRefusedError as refusal:
        api.set_state(run.run_id, "CRASHED", message=refusal.message)
        raise
    if envelope is None and not observation.phase.is_final:
        return None
    if envelope is None:
        _settle_without_result(api, run, observation, is_launched=is_launched)
    else:
        status = envelope.header.status
        summary = value_summary if status == "returned" else failure_summary
        api.set_state(run.run_id, STATE_OF_STATUS[status], message=summary(envelope.header))
    return envelope


@dataclass(frozen=True, kw_only=True)
class Reconciliation:
    """What looking after unwatched runs came to.

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
    """Settle every unfinished run of this platform, as far as its process says how.

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
    ids = tuple(run.id for run in ours)
    found = api.find_runs(RunQuery(ids=ids)) if ids else []
    return Reconciliation(looked_at=ids, ended=tuple(run.id for run in found if run.is_final))


def _look_after(
    platform: Platform, api: PrefectApi, run: RunRecord, cancel_patience_seconds: float
) -> None:
    """Settle one run; what cannot be found out of it now is left for the next time."""
    try:
        ticket = ticket_of(run)
        is_ending = run.state_type == "CANCELLING" and platform.sees(ticket.place)
        if is_ending and seconds_in_state(run) >= cancel_patience_seconds:
            processes_of(platform, api, ticket).stop(run.id, STOP_GRACE_SECONDS)
        settle(platform, api, ticket)
    except PrefectUnreachable:
        raise
    except KineticError as error:
        _name_once(run.id, error.message)
    except Exception as error:  # noqa: BLE001 - whatever it is about this one run
        _name_once(run.id, f"{type(error).__name__}: {error}")


_named: set[str] = set()


def _name_once(run_id: str, why: str) -> None:
    """Say that a run cannot be judged; the others can."""
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
        for flow in (PARENT_FLOW, GROUP_FLOW)
        for parent in api.find_runs(RunQuery(flow=flow, state_types=("RUNNING",)))
    ]
    for parent in running:
        runs = api.find_runs(RunQuery(parent=parent.id))
        ours = all(run.labels.get(STORE_LABEL) == label for run in runs)
        over = all(run.is_final and seconds_in_state(run) >= after_seconds for run in runs)
        if runs and ours and over:
            message = "the client that drove this run is gone; its runs have ended"
            if api.set_state(parent.id, "CRASHED", message=message):
                abandoned.append(parent.id)
    return tuple(abandoned)


def is_being_launched(run: RunRecord) -> bool:
    """Whether a client may still be about to start the run's process."""
    age = datetime.now(UTC) - run.created
    return run.state_type == "PENDING" and age.total_seconds() < LAUNCH_GRACE_SECONDS


def store_label(platform: Platform) -> str:
    """Name the store that a run's objects are in; a directory's name includes its machine."""
    uri = platform.store.uri
    return f"{gethostname()}:{uri}" if uri.startswith("file:") else uri


def _settle_without_result(
    api: PrefectApi, run: RunTicket, observation: Observation, *, is_launched: bool
) -> None:
    record = api.read_run(run.run_id)
    is_there = is_launched or observation.phase is not Phase.GONE
    if not is_there and is_being_launched(record):
        return
    if record.state_type == "CANCELLING":
        api.set_state(run.run_id, "CANCELLED", message="cancelled; its process is gone")
        return
    crash = crash_error(observation, run, tail_of(observation.output))
    if api.set_state(run.run_id, "CRASHED", message=crash.message):
        api.log(run.run_id, crash.message, level=logging.ERROR)


def tail_of(output: bytes) -> list[str]:
    """Return the last lines of what a process printed."""
    return output.decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]
