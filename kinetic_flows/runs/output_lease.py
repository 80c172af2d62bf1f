"""Which run writes to an output directory that is named: of two live ones, one.

An object in the store names the run that has a directory. Nobody has to give it back: it is free
as soon as that run is over, which whoever comes next finds out. It is taken by the client, before
the run is launched, and by the run itself (`runner_image/runner/output_leases.py`), which also
finds out that it lost the directory while nobody heard of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from socket import gethostname
from typing import Any
from uuid import UUID

from kinetic_flows.clients.prefect.api import PrefectApi, RunRecord
from kinetic_flows.clients.prefect.flow_names import TASK_LAUNCH_ACCELERATOR
from kinetic_flows.clients.prefect.labels import LAUNCHED_LABEL
from kinetic_flows.core.artifact_store import StoredObject
from kinetic_flows.core.errors import (
    ObjectNotFoundError,
    OutputDirInUseError,
    RunCancelled,
    RunNotFoundError,
)
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.job_parts import OutputSpec
from kinetic_flows.core.object_names import output_lease_object, result_object
from kinetic_flows.core.output_dirs import fields_of
from kinetic_flows.core.run_ids import short_id
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.cancel import CANCELLED_STATES
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import (
    LAUNCH_GRACE_SECONDS,
    is_being_launched,
    is_preparing,
    synced_record,
    ticket_of,
)
from kinetic_flows.runs.worker_runs import processes_of

FIRST_LOOK_SECONDS = 0.5
LAST_LOOK_SECONDS = 10.0

SIGN_OF_LIFE_SECONDS = 30.0
"""How often a run that waits says that its client is there; see `settle.is_being_launched`."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """A run that has not ended, and writes to a directory.

    Attributes:
        run_id: Its id.
        name: What it is called.
        state: Its state in Prefect; `unknown` where this API does not know the run.
        api_url: The Prefect API that knows it.
    """

    run_id: str
    name: str
    state: str
    api_url: str

    def __str__(self) -> str:
        return f"run {short_id(self.run_id)} of {self.name} ({self.state})"


class OutputLeases:
    """Who writes where, as a store and a Prefect API have it.

    Args:
        platform: Where runs go.
        api: Where their states are.
        only_looks: Whether to set no states of runs whose processes are gone.
    """

    def __init__(self, platform: Platform, api: PrefectApi, *, only_looks: bool = False) -> None:
        self._only_looks = only_looks
        self._platform = platform
        self._store = platform.store
        self._api = api

    def writer(self, directory: str) -> Writer | None:
        """Return the run that writes to a directory; None where none does."""
        lease = self._read(directory)
        return self._alive(lease, "") if lease else None

    def take(self, spec: OutputSpec, ticket: RunTicket) -> Writer | None:
        """Take a directory for a run; return who has it already.

        Args:
            spec: The directory.
            ticket: The run.
        """
        name = output_lease_object(spec.place)
        while True:
            lease = self._read(spec.place)
            writer = self._alive(lease, ticket.run_id) if lease else None
            if writer is not None:
                return writer
            generation = lease.generation if lease else None
            data = _document(spec.place, ticket, self._api.url)
            if self._store.replace_if_unchanged(name, data, generation) is not None:
                return None

    def _read(self, directory: str) -> StoredObject | None:
        try:
            return self._store.get(output_lease_object(directory))
        except ObjectNotFoundError:
            return None

    def _alive(self, lease: StoredObject, own: str) -> Writer | None:
        """Return the run that a lease names; None when it is over, or the own one."""
        found = _content(lease)
        run_id = str(found.get("run_id", ""))
        if run_id in ("", own) or not self._store.missing([result_object(run_id)]):
            return None
        try:
            record = self._api.read_run(run_id)
        except RunNotFoundError:
            return _unknown_writer(found) if self._may_live(found) else None
        if _is_left(record, found):
            return None
        if self._only_looks and not record.is_final:
            run = ticket_of(record)
            if run.has_candidates and run.dispatch == "client":
                # Whoever observes it takes it further.
                return _writer(record, self._api)
            seen = processes_of(self._platform, self._api, run)
            if seen.observe(run_id, None).phase.is_final and not is_being_launched(record):
                return None
            return _writer(record, self._api)
        return writer_of(record, self._platform, self._api)

    def _may_live(self, found: Mapping[str, Any]) -> bool:
        """Whether a run whose flow run this API does not know may have a process."""
        platform = self._platform
        if found.get("api_url") == self._api.url:
            # It was deleted there. What a worker has started is not seen everywhere.
            if found.get("dispatch") == "worker" and platform.worker_processes is None:
                return False
        elif found.get("host") != gethostname():
            return True
        if not platform.may_see_processes:
            return True
        run_id, launcher = str(found["run_id"]), platform.launcher
        keys = (run_id, *launcher.launches(run_id))
        return not all(launcher.observe(key, None).phase.is_final for key in keys)


def writer_of(record: RunRecord, platform: Platform, api: PrefectApi) -> Writer | None:
    """Return a run as one that writes; None when it is over.

    Args:
        record: Its flow run.
        platform: Where it was launched.
        api: Where its state is kept; it is set where its process is gone.
    """
    record = synced_record(record, ticket_of(record), platform, api)
    if record.is_final and not record.is_guessed:
        return None
    return _writer(record, api)


def _writer(record: RunRecord, api: PrefectApi) -> Writer:
    return Writer(
        run_id=record.id, name=record.shown_name, state=record.state_name, api_url=api.url
    )


def _unknown_writer(found: Mapping[str, Any]) -> Writer:
    told = {name: str(found.get(name, "")) for name in ("run_id", "name", "api_url")}
    return Writer(**told, state="unknown")


def _is_left(record: RunRecord, found: Mapping[str, Any]) -> bool:
    """Whether the client has died that took a run's directory, which it launches right after."""
    if not is_preparing(record):
        return False
    try:
        taken = datetime.fromisoformat(str(found.get("taken", "")))
    except ValueError:
        return False
    return (datetime.now(UTC) - taken).total_seconds() > LAUNCH_GRACE_SECONDS


def take_output_dir(
    spec: OutputSpec | None,
    ticket: RunTicket,
    session: Session,
    *,
    before: RunRecord | None = None,
    gives_up: Callable[[], bool] = lambda: False,
) -> None:
    """Have a run alone write to its directory, before it is launched.

    Args:
        spec: The directory; None for one of the run's own.
        ticket: The run.
        session: Where it runs and reports.
        before: A run that writes there and took no lease for it: the one that is repeated.
        gives_up: Whether whoever wanted the run does not any more.

    Raises:
        OutputDirInUseError: Another run writes there, and is not to be waited for.
        RunCancelled: The run was cancelled while it waited.
    """
    # What its parameters decide, the run takes itself.
    if spec is None or fields_of(spec.place):
        return
    leases = OutputLeases(session.platform, session.api)

    def other() -> Writer | None:
        if before is not None:
            # Read anew each time: it may end meanwhile.
            record = session.api.read_run(before.id)
            writer = writer_of(record, session.platform, session.api)
            if writer is not None:
                return writer
        return leases.take(spec, ticket)

    writer = other()
    if writer is None:
        return
    if spec.in_use != "wait":
        raise in_use_error(spec.place, writer)
    _wait(spec, ticket, session, Waiting(writer=writer, other=other, gives_up=gives_up))


def check_output_dir_free(spec: OutputSpec | None, session: Session) -> None:
    """Refuse a directory that another run writes to, before anything is made for a run.

    Raises:
        OutputDirInUseError: Another run writes there, and is not to be waited for.
    """
    if spec is None or spec.in_use == "wait" or fields_of(spec.place):
        return
    writer = OutputLeases(session.platform, session.api).writer(spec.place)
    if writer is not None:
        raise in_use_error(spec.place, writer)


def in_use_error(
    directory: str, writer: Writer, instead: str = ", or have this wait: output_dir_in_use='wait'"
) -> OutputDirInUseError:
    """Return the error that says who writes to a directory, and what to do instead of waiting."""
    hint = f"wait for its end{instead}; `kinetic runs cancel {short_id(writer.run_id)}` ends it"
    if writer.state == "unknown":
        hint = (
            f"ask {writer.api_url} what became of it; if it is over, remove the object "
            f"{output_lease_object(directory)} from the store"
        )
    return OutputDirInUseError(
        f"{writer} writes to {directory}, and has not ended", value=directory, hint=hint
    )


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What a run waits for.

    Attributes:
        writer: Who writes to its directory now.
        other: Takes the directory, or returns who writes there.
        gives_up: Whether it need not wait any more.
    """

    writer: Writer
    other: Callable[[], Writer | None]
    gives_up: Callable[[], bool]


def _wait(spec: OutputSpec, ticket: RunTicket, session: Session, waiting: Waiting) -> None:
    """Wait until nobody writes to a directory, and take it."""
    seconds, told, signed = FIRST_LOOK_SECONDS, "", time.monotonic()
    found: Writer | None = waiting.writer
    while found is not None:
        if told != found.run_id:
            told = found.run_id
            message = f"waits for {found}, which writes to {spec.place}"
            session.progress.notice(message)
            session.progress.activity(TASK_LAUNCH_ACCELERATOR, message)
            # Prefect lets no Pending run have another message.
            session.api.log(ticket.run_id, message)
        pause(seconds)
        seconds = min(2 * seconds, LAST_LOOK_SECONDS)
        if time.monotonic() - signed > SIGN_OF_LIFE_SECONDS:
            signed = time.monotonic()
            now = datetime.now(UTC).isoformat()
            session.api.add_labels(ticket.run_id, {LAUNCHED_LABEL: now})
        own = session.api.read_run(ticket.run_id)
        if own.is_final or own.state_type in CANCELLED_STATES or waiting.gives_up():
            session.api.set_state(ticket.run_id, "CANCELLED", message="cancelled while it waited")
            raise RunCancelled(
                f"run {ticket.run_id} was cancelled while it waited for {spec.place}",
                value=ticket.run_id,
            )
        found = waiting.other()


def _document(directory: str, ticket: RunTicket, api_url: str) -> bytes:
    return json.dumps(
        {
            "run_id": ticket.run_id,
            "name": ticket.name,
            "directory": directory,
            "dispatch": ticket.dispatch,
            "api_url": api_url,
            "host": gethostname(),
            "taken": datetime.now(UTC).isoformat(),
        }
    ).encode()


def _content(lease: StoredObject) -> Mapping[str, Any]:
    """Return what a lease says; nothing where it is damaged, which leaves the directory free."""
    try:
        found = json.loads(lease.data)
        UUID(found["run_id"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}
