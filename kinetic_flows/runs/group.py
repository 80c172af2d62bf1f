"""What is known of the inputs of a group: which are launched, which have ended, and how."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from kinetic_flows.clients.prefect.api import RunQuery, RunRecord
from kinetic_flows.core.errors import ObjectRefusedError
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.naming import INDEX_LABEL
from kinetic_flows.runs.cancel import cancel
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import settle, ticket_of
from kinetic_flows.runs.worker_runs import processes_of

LAUNCHING = "Launching"
NOT_LAUNCHED = "Not launched"
COMPLETED = "COMPLETED"
REFRESH_SECONDS = 1.0
RUNS_PER_SECOND = 500
"""How many runs may be read a second: a large group is looked at less often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One input of a group.

    Attributes:
        index: Its place among the inputs, from 0.
        arguments: The arguments, shortened.
        ticket: Its newest run; None before it is launched.
        state: Name of its run's state, as Prefect names it.
        state_type: Type of that state; empty before there is a run.
        seconds: How long its run took; None while that is not known.
        tries: How many runs of it were launched.
        error: Why it could not be launched; None when it could.
    """

    index: int
    arguments: str = ""
    ticket: RunTicket | None = None
    state: str = LAUNCHING
    state_type: str = ""
    seconds: float | None = None
    tries: int = 1
    error: Exception | None = None

    @property
    def has_failed(self) -> bool:
        """Whether it has ended without a value; to be asked of one that has ended."""
        return self.state_type != COMPLETED


class Roster:
    """The members of one group; safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._members: dict[int, Member] = {}
        self._ended: list[Member] = []
        self._ended_indices: set[int] = set()
        self._failure: BaseException | None = None
        self._is_over = False

    def put(self, member: Member) -> None:
        """Note what is new of a member that has not ended."""
        with self._changed:
            self._members[member.index] = member

    def end(self, member: Member) -> None:
        """Note that a member has ended for good; nothing happens when that is known."""
        with self._changed:
            if member.index not in self._ended_indices:
                self._members[member.index] = member
                self._ended.append(member)
                self._ended_indices.add(member.index)
                self._changed.notify_all()

    def close(self, failure: BaseException | None = None) -> None:
        """Note that nothing more will happen.

        Args:
            failure: Why the group itself failed; None when it did not.
        """
        with self._changed:
            self._failure = self._failure or failure
            self._is_over = True
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until something has ended, but no longer than a limit."""
        with self._changed:
            if not self._is_over:
                self._changed.wait(seconds)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self._is_over

    @property
    def failure(self) -> BaseException | None:
        """Why the group itself failed; None when it did not."""
        return self._failure

    @property
    def members(self) -> list[Member]:
        """Every member that is known, by its place."""
        with self._changed:
            return [self._members[index] for index in sorted(self._members)]

    def ended(self, position: int) -> list[Member]:
        """Return those that have ended, in that order, from a position on."""
        with self._changed:
            return self._ended[position:]

    def is_ended(self, index: int) -> bool:
        """Whether a member has ended for good."""
        return index in self._ended_indices

    def counts(self) -> dict[str, int]:
        """Return how many members are in each state, the most frequent first."""
        return dict(Counter(member.state for member in self.members).most_common())


def is_group(record: RunRecord) -> bool:
    """Whether a flow run is one above the runs of a group."""
    return {"function", "max_concurrent", "retries"} <= record.parameters.keys()


class AttachedGroup:
    """Follows a group by its flow runs.

    Args:
        record: The flow run above them.
        open_session: Opens a session in the thread that calls it.
    """

    def __init__(
        self, record: RunRecord, open_session: Callable[[], AbstractContextManager[Session]]
    ) -> None:
        self.roster = Roster()
        self._id = record.id
        retries = record.parameters.get("retries")
        self._retries = retries if isinstance(retries, int) else 0
        self._open_session = open_session
        self._size = 0

    def wait(self, seconds: float) -> None:
        """Look again after a while, which is longer for a large group."""
        pause(max(seconds, REFRESH_SECONDS, self._size / RUNS_PER_SECOND))
        with self._open_session() as session:
            self.refresh(session)

    def refresh(self, session: Session) -> None:
        """Learn what has become of the group."""
        if self.roster.is_over:
            return
        # The flow run above first: when it is over, no run follows that is not seen below.
        launches_no_more = session.api.read_run(self._id).is_final
        runs: dict[int, list[RunRecord]] = {}
        for record in session.api.find_runs(RunQuery(parent=self._id)):
            place = str(record.labels.get(INDEX_LABEL, ""))
            # Whatever else somebody has put below the group's flow run is no input of it.
            if place.isdecimal():
                runs.setdefault(int(place), []).append(record)
        self._size = sum(map(len, runs.values()))
        is_over = launches_no_more
        for index, tries in runs.items():
            newest = max(tries, key=lambda record: record.created)
            newest = newest if newest.is_final else _settled(newest, session)
            member = _member(index, newest, len(tries))
            may_be_retried = len(tries) <= self._retries and not launches_no_more
            if newest.is_final and not (member.has_failed and may_be_retried):
                self.roster.end(member)
            else:
                self.roster.put(member)
                is_over = False
        if is_over:
            self.roster.close()

    def cancel(self) -> None:
        """Have its launcher launch nothing more, and cancel what runs."""
        with self._open_session() as session:
            session.api.set_state(self._id, "CANCELLING", message="cancelled by a client")
            self.refresh(session)
            for member in self.roster.members:
                if member.ticket and not self.roster.is_ended(member.index):
                    cancel(member.ticket, session)
            self.refresh(session)

    def abandon(self) -> None:
        """Nothing is launched from here."""


def _settled(record: RunRecord, session: Session) -> RunRecord:
    """Settle a run whose process may be gone; return what is known of it then."""
    ticket = ticket_of(record)
    processes = processes_of(session.platform, session.api, ticket)
    seen = processes.observe(record.id, None)
    if not seen.phase.is_final and not seen.is_outdated:
        return record
    try:
        settle(session.platform, session.api, ticket)
    except ObjectRefusedError:
        # Its state says so now; whoever asks for its result is told.
        return session.api.read_run(record.id)
    return session.api.read_run(record.id)


def _member(index: int, record: RunRecord, tries: int) -> Member:
    seconds = None
    if record.started and record.ended:
        seconds = (record.ended - record.started).total_seconds()
    return Member(
        index=index,
        arguments=", ".join(f"{name}={value}" for name, value in record.parameters.items()),
        ticket=ticket_of(record),
        state=record.state_name,
        state_type=record.state_type,
        seconds=seconds,
        tries=tries,
    )
