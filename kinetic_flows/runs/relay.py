"""Telling Prefect of a run whose own process cannot reach its API: the client does that.

That is how it is for most people on their first day: the cluster is Google's, and the Prefect
server a background process of their own machine.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from kinetic_flows.core.errors import PrefectServerError, PrefectUnreachable
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.core.streams import EntryReader, LogEntry
from kinetic_flows.runs.prefect_lines import is_of_run
from kinetic_flows.runs.session import Session

SEND_SECONDS = 1.0
AWAY_SECONDS = 5.0
"""How long Prefect is left alone when it could not be told something."""

REPORTING_SECONDS = 10.0
"""How long a run that runs is left to say so itself, where it may be able to."""

LONGEST_LINE_CHARACTERS = 20_000
MAX_WAITING_ENTRIES = 20_000


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """What is sent at once; sent again, it has the same time, by which readers know it."""

    at: datetime
    entries: list[LogEntry]


class Relay:
    """Sends a run's state Running and its output to Prefect, where the run cannot do so itself.

    Args:
        run: The run.
        session: Where it runs and reports.
        is_needed: False for a run that tells of itself; None to find that out: a run that still
            is Pending when its process has run for a while does not.
    """

    def __init__(self, run: RunTicket, session: Session, *, is_needed: bool | None) -> None:
        self._run = run
        self._session = session
        self._reader = EntryReader()
        self._entries: list[LogEntry] = []
        self._batches: deque[_Batch] = deque()
        self._running_since: float | None = None
        self._is_told = False
        self._next = 0.0
        self.is_needed = is_needed

    def take(self, seen: Observation) -> None:
        """Take an observation of the run; send its state and its log now and then."""
        if self.is_needed is False:
            return
        self._entries += self._reader.take(seen.output)
        now = time.monotonic()
        if self._running_since is None and seen.phase is Phase.RUNNING:
            self._running_since = now
        if self._running_since is None:
            return
        if self.is_needed is None and now - self._running_since >= REPORTING_SECONDS:
            self._decide()
        if self.is_needed and now >= self._next:
            self._send()

    def finish(self) -> None:
        """Send the rest of its log."""
        if self.is_needed is None:
            self._decide()
        if self.is_needed:
            self._entries += self._reader.end()
            self._send()

    def _decide(self) -> None:
        """Find out whether the run has told of itself; an API that is away is asked again."""
        api, run_id = self._session.api, self._run.run_id
        try:
            is_pending = api.read_run(run_id).state_type == "PENDING"
            # Its lines may come before its state.
            self.is_needed = is_pending and not any(
                is_of_run(line.logger) for line in api.logs(run_id)
            )
        except PrefectServerError:
            # Nor could the run tell anything.
            self._running_since = time.monotonic()

    def _send(self) -> None:
        """Tell what was not told yet; while the API is away, that is kept."""
        self._next = time.monotonic() + SEND_SECONDS
        self._make_batch()
        try:
            self._tell()
        except PrefectUnreachable:
            # What is monitored goes on: its output is on the terminal, its result in the store.
            self._next += AWAY_SECONDS
        except PrefectServerError:
            # It would refuse them again.
            self._is_told = True
            self._batches.clear()

    def _tell(self) -> None:
        api, run_id = self._session.api, self._run.run_id
        if not self._is_told:
            api.set_state(run_id, "RUNNING")
            self._is_told = True
        while self._batches:
            api.log(run_id, *self._batches[0].entries, at=self._batches[0].at)
            self._batches.popleft()

    def _make_batch(self) -> None:
        """Put the newest entries behind those that wait, of which the oldest are given up."""
        entries = [piece for entry in self._entries for piece in _pieces(entry)]
        self._entries = []
        if entries:
            self._batches.append(_Batch(at=datetime.now(UTC), entries=entries))
        waiting = sum(len(batch.entries) for batch in self._batches)
        while waiting > MAX_WAITING_ENTRIES and len(self._batches) > 1:
            waiting -= len(self._batches.popleft().entries)


def _pieces(entry: LogEntry) -> list[LogEntry]:
    """Cut an entry into pieces that Prefect takes."""
    size = LONGEST_LINE_CHARACTERS
    if len(entry.text) <= size:
        return [entry]
    return [
        replace(entry, text=entry.text[at : at + size]) for at in range(0, len(entry.text), size)
    ]


def relay_for(run: RunTicket, session: Session) -> Relay:
    """Return the relay of a run's state and output.

    Args:
        run: The run.
        session: Where it runs and reports.
    """
    # A worker names an API to the runs it starts that they can reach.
    if run.dispatch == "worker":
        return Relay(run, session, is_needed=False)
    can_report = session.runs_report
    return Relay(run, session, is_needed=None if can_report is None else not can_report)
