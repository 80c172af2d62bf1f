"""The runs of a map: the state of each input, and groups that another process launched."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from kinetic_flows.clients.prefect.api import RunQuery, RunRecord
from kinetic_flows.clients.prefect.labels import INDEX_LABEL
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.run_ids import short_id
from kinetic_flows.core.signals import cause_in_words
from kinetic_flows.runs.cancel import cancel
from kinetic_flows.runs.leaving import tell_left
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import synced_record, ticket_of

RETRIED_STATES = frozenset({"FAILED", "CRASHED"})

LAUNCHING = "Launching"
NOT_LAUNCHED = "Not launched"
COMPLETED = "COMPLETED"
REFRESH_SECONDS = 1.0
RUNS_PER_SECOND = 500
"""How many runs may be read a second: a large group is looked at less often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MapItem:
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


class GroupState:
    """The items of one group; safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: dict[int, MapItem] = {}
        self._ended: list[MapItem] = []
        self._ended_indices: set[int] = set()
        self._failure: BaseException | None = None
        self._is_over = False

    def put(self, item: MapItem) -> None:
        """Take an item's new state; it has not ended."""
        with self._changed:
            self._items[item.index] = item

    def end(self, item: MapItem) -> None:
        """Note that an item has ended for good; nothing happens when that is known."""
        with self._changed:
            if item.index not in self._ended_indices:
                self._items[item.index] = item
                self._ended.append(item)
                self._ended_indices.add(item.index)
                self._changed.notify_all()

    def close(self, failure: BaseException | None = None) -> None:
        """Take note that the group is over: no item changes any more.

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
        """Whether the group is over: no item changes any more."""
        return self._is_over

    @property
    def failure(self) -> BaseException | None:
        """Why the group itself failed; None when it did not."""
        return self._failure

    @property
    def items(self) -> list[MapItem]:
        """Every item that is known, by its place."""
        with self._changed:
            return [self._items[index] for index in sorted(self._items)]

    def ended(self, position: int) -> list[MapItem]:
        """Return those that have ended, in that order, from a position on."""
        with self._changed:
            return self._ended[position:]

    def is_ended(self, index: int) -> bool:
        """Whether an item has ended for good."""
        return index in self._ended_indices

    def counts(self) -> dict[str, int]:
        """Return how many items are in each state, the most frequent first."""
        return dict(Counter(item.state for item in self.items).most_common())


def is_group(record: RunRecord) -> bool:
    """Whether a flow run is one above the runs of a group."""
    # A function's run has its name in a label, and may have any parameters.
    told = {"function", "max_concurrent", "retries"} <= record.parameters.keys()
    return told and not record.function


class AttachedGroup:
    """Follows a group by its flow runs.

    Args:
        record: The flow run above them.
        open_session: Opens a session in the thread that calls it.
    """

    def __init__(
        self, record: RunRecord, open_session: Callable[[], AbstractContextManager[Session]]
    ) -> None:
        self.state = GroupState()
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
        """Read the group's flow runs; set final states that are not set yet."""
        if self.state.is_over:
            return
        # The flow run above first: when it is over, no run follows that is not seen below.
        launches_no_more = session.api.read_run(self._id).is_final
        runs: dict[int, list[RunRecord]] = {}
        for record in session.api.find_runs(RunQuery(parent=self._id)):
            place = str(record.labels.get(INDEX_LABEL, ""))
            # Other flow runs below the group's are no inputs of it.
            if place.isdecimal():
                runs.setdefault(int(place), []).append(record)
        self._size = sum(map(len, runs.values()))
        is_over = launches_no_more
        for index, tries in runs.items():
            newest = max(tries, key=lambda record: record.created)
            newest = synced_record(newest, ticket_of(newest), session.platform, session.api)
            item = _map_item(index, newest, len(tries))
            goes_on = not launches_no_more and is_retried(newest, len(tries), self._retries)
            if newest.is_final and not goes_on:
                self.state.end(item)
            else:
                self.state.put(item)
                is_over = False
        if is_over:
            self.state.close()

    def cancel(self) -> None:
        """Have its launcher launch nothing more, and cancel what runs."""
        with self._open_session() as session:
            session.api.set_state(self._id, "CANCELLING", message="cancelled by a client")
            self.refresh(session)
            for item in self.state.items:
                if item.ticket and not self.state.is_ended(item.index):
                    cancel(item.ticket, session)
            self.refresh(session)

    def interrupt(self, interruption: BaseException) -> None:
        """Tell that the runs go on: nothing was launched from here."""
        tell_left(
            f"{cause_in_words(interruption)}: the runs of group {self._id} go on, "
            f"`kinetic runs cancel {short_id(self._id)}` ends them"
        )


def is_retried(record: RunRecord, tries: int, retries: int) -> bool:
    """Whether a group that launches on launches an input once more.

    Args:
        record: The input's newest run.
        tries: How many runs the input has had.
        retries: How many more than one it may have.
    """
    return record.state_type in RETRIED_STATES and tries <= retries


def _map_item(index: int, record: RunRecord, tries: int) -> MapItem:
    seconds = None
    if record.started and record.ended:
        seconds = (record.ended - record.started).total_seconds()
    return MapItem(
        index=index,
        arguments=", ".join(f"{name}={value}" for name, value in record.parameters.items()),
        ticket=ticket_of(record),
        state=record.state_name,
        state_type=record.state_type,
        seconds=seconds,
        tries=tries,
    )
