"""Flow runs get the states that their results and processes say, and why a run is Crashed.

A run's own runner reports its end. Where it could not (its pod was killed, or the API was out of
its reach), the next client that waits for the run, attaches to it or lists runs sets the final
state, and so does every first call of a process and the flow `kinetic-reconcile`.

Every state Crashed that a client sets is set by `crash`:

| cause | found by |
|---|---|
| the process ended without a result (`results.crash_error` says how) | `sync_state` |
| the runner wrote that the function's process had died | `sync_state` |
| the result in the store is not genuine | `sync_state` |
| the process could not be started | `launch` |
| the client that drove a flow run above runs has died | `ledger`, `reconcile` |
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from socket import gethostname

from kinetic_flows.clients.prefect.api import PrefectApi, RunRecord
from kinetic_flows.clients.prefect.events import EventKind, tell_event
from kinetic_flows.clients.prefect.labels import (
    CACHED_FROM_LABEL,
    CACHED_KEY_LABEL,
    CANDIDATES_LABEL,
    DISPATCH_LABEL,
    LAUNCHED_LABEL,
    PLACE_LABEL,
    PREPARING,
    SLICES_LABEL,
    STORE_LABEL,
)
from kinetic_flows.clients.prefect.records import environment_of
from kinetic_flows.core.envelope import OUT_OF_MEMORY, ResultEnvelope, ResultHeader, ResultStatus
from kinetic_flows.core.errors import ObjectRefusedError
from kinetic_flows.core.job import RUN_KEY_VARIABLE, RunTicket
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.core.run_keys import masked_key
from kinetic_flows.core.streams import RESULT_LOGGER, LogEntry, shown_text
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.results import (
    LOG_TAIL_LINES,
    crash_error,
    failure_summary,
    read_result,
    value_summary,
)
from kinetic_flows.runs.worker_runs import processes_of

LAUNCH_GRACE_SECONDS = 120.0
"""How long a Pending run without a process is left to the client that is launching it."""

WORTH_EXPLAINING: frozenset[ResultStatus] = frozenset({"crashed", "timed_out"})
"""Statuses of results of which the cluster may know more than the run itself."""

STATE_OF_STATUS: Mapping[ResultStatus, str] = {
    "returned": "COMPLETED",
    "raised": "FAILED",
    "unpicklable": "FAILED",
    "timed_out": "FAILED",
    "cancelled": "CANCELLED",
}

EVENT_OF_CAUSE: Mapping[str, EventKind] = {
    "out_of_memory": "oom",
    "preempted": "preempted",
    "evicted": "preempted",
    "node_lost": "preempted",
}
"""Events of processes that could not tell how they ended, by an observation's cause."""


def ticket_of(record: RunRecord) -> RunTicket:
    """Return what is needed to follow a run, from what Prefect keeps of it."""
    key = str(environment_of(record.job_variables).get(RUN_KEY_VARIABLE) or "")
    masked = str(record.labels.get(CACHED_KEY_LABEL) or "")
    by_worker = record.deployment_id or record.labels.get(DISPATCH_LABEL) == "worker"
    return RunTicket(
        run_id=record.id,
        name=record.shown_name,
        run_key=masked_key(masked, key) if masked else key,
        result_run_id=str(record.labels.get(CACHED_FROM_LABEL) or "") or None,
        dispatch="worker" if by_worker else "client",
        function=record.function,
        candidates=str(record.labels.get(CANDIDATES_LABEL) or ""),
        slices=int(record.labels.get(SLICES_LABEL) or 1),
        place=str(record.labels.get(PLACE_LABEL) or record.job_variables.get("namespace") or ""),
    )


def sync_state(
    platform: Platform, api: PrefectApi, run: RunTicket, *, is_launched: bool = False
) -> ResultEnvelope | None:
    """Set the final state of a run whose process has ended; nothing happens while it lives.

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
        crash(api, run.run_id, refusal.message)
        raise
    if envelope is None and not observation.phase.is_final:
        return None
    if envelope is None:
        is_told = _sync_without_result(api, run, observation, is_launched=is_launched)
    else:
        is_told = _sync_with_result(api, run.run_id, envelope.header)
    header = envelope.header if envelope else None
    is_kept = False
    if header.status in WORTH_EXPLAINING if header else is_told:
        from kinetic_flows.runs.insight.black_boxes import keep_facts

        # The cluster soon forgets.
        is_kept = keep_facts(platform, run)
    if is_told or is_kept:
        from kinetic_flows.runs.insight.ended_page import publish_end, publish_why
        from kinetic_flows.runs.insight.ended_run import EndedRun

        publish = publish_end if is_told else publish_why
        publish(EndedRun(run=run, platform=platform, api=api, header=header, seen=observation))
    return envelope


def synced_record(
    record: RunRecord, run: RunTicket, platform: Platform, api: PrefectApi
) -> RunRecord:
    """Return a run's flow run when its state is synced; one that has ended is not read again.

    Args:
        record: Its flow run, as it was read before.
        run: The run.
        platform: Where it was launched.
        api: Where its state is kept.
    """
    if record.is_final and not record.is_guessed:
        return record
    seen = processes_of(platform, api, run).observe(record.id, None)
    if not seen.phase.is_final and not seen.is_outdated:
        return record
    # A result that is refused makes the run Crashed; asking for it raises this.
    with suppress(ObjectRefusedError):
        sync_state(platform, api, run)
    return api.read_run(record.id)


def crash(api: PrefectApi, flow_run_id: str, cause: str) -> bool:
    """Set a flow run Crashed, which nothing else here does.

    Args:
        api: Where its state is kept.
        flow_run_id: The flow run.
        cause: What the UI shows beside the state.

    Returns:
        Whether it was set; a flow run that has ended stays as it is.
    """
    return api.set_state(flow_run_id, "CRASHED", message=cause)


def is_preparing(run: RunRecord) -> bool:
    """Whether a run's client is still making its image and code."""
    return run.state_name == PREPARING and STORE_LABEL not in run.labels


def is_being_launched(run: RunRecord) -> bool:
    """Whether a client may still be about to start the run's process."""
    if is_preparing(run):
        return True
    told = str(run.labels.get(LAUNCHED_LABEL) or "")
    age = datetime.now(UTC) - (datetime.fromisoformat(told) if told else run.created)
    return run.state_type == "PENDING" and age.total_seconds() < LAUNCH_GRACE_SECONDS


def store_label(platform: Platform) -> str:
    """Name the store that a run's objects are in; a directory's name includes its machine."""
    uri = platform.store.uri
    return f"{gethostname()}:{uri}" if uri.startswith("file:") else uri


def _sync_with_result(api: PrefectApi, run_id: str, header: ResultHeader) -> bool:
    """Set the state that fits a result; return whether it was not set before."""
    if header.status == "crashed":
        cause = failure_summary(header)
        is_set = crash(api, run_id, cause)
        if is_set and OUT_OF_MEMORY in cause:
            tell_event(api, run_id, "oom", reason=cause)
        return is_set
    summary = value_summary if header.status == "returned" else failure_summary
    name = "TimedOut" if header.status == "timed_out" else None
    message = summary(header)
    is_set = api.set_state(run_id, STATE_OF_STATUS[header.status], message=message, name=name)
    if is_set and header.status == "returned":
        api.log(run_id, LogEntry(text=message, level=logging.INFO, logger=RESULT_LOGGER))
    return is_set


def _sync_without_result(
    api: PrefectApi, run: RunTicket, observation: Observation, *, is_launched: bool
) -> bool:
    """Set the state of a run that left no result; return whether it has ended so."""
    record = api.read_run(run.run_id)
    if ticket_of(record).candidates != run.candidates:
        # It was asked about before it was launched: its processes have other names than its own.
        return False
    is_there = is_launched or observation.phase is not Phase.GONE
    if not is_there and is_being_launched(record):
        return False
    if record.state_type == "CANCELLING":
        return api.set_state(run.run_id, "CANCELLED", message="cancelled; its process is gone")
    cause = crash_error(observation, run, tail_of(observation.output)).message
    is_set = crash(api, run.run_id, cause)
    if is_set:
        api.log(run.run_id, cause, level=logging.ERROR)
        if observation.cause in EVENT_OF_CAUSE:
            kind = EVENT_OF_CAUSE[observation.cause]
            tell_event(api, run.run_id, kind, reason=cause, cause=observation.cause)
    return is_set


def tail_of(output: bytes) -> list[str]:
    """Return the last lines of what a process printed."""
    return shown_text(output).splitlines()[-LOG_TAIL_LINES:]
