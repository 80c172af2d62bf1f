"""What is known of the inputs of a group: which are launched, which have ended, and how."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from kinetic_flows.core.job import RunTicket

LAUNCHING = "Launching"
NOT_LAUNCHED = "Not launched"
COMPLETED = "COMPLETED"


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
