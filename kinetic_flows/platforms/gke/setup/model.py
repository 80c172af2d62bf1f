"""What setting up is made of: resources that are compared with what is wanted, and changed.

A resource looks before it acts, so that doing everything again changes only what differs: that is
what a rerun after Ctrl-C, a failure half way and a second person do. Nothing is kept on this
machine of what was done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from kinetic_flows.platforms.gke.setup.prefect.prefect_place import PrefectPlace
from kinetic_flows.platforms.gke.setup.request import SetupRequest

if TYPE_CHECKING:
    from kinetic_flows.clients.google.apis import GoogleApis

Action = Literal["create", "change", "keep", "remove", "leave", "unknown"]
"""What is to be done: `keep` where it is as wanted, `leave` where it is not ours to change or to
remove, `unknown` where it cannot be looked at before something else is there."""

Tell = Callable[[str], None]
"""Told how far an action is, in a few words that need not name what it is about: `40 %`."""

State = Literal["begun", "going", "done", "failed"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What somebody wants, and what it takes to make it.

    Attributes:
        request: What they want.
        apis: Google's APIs.
        prefect: The Prefect API that was chosen; None where nothing is made in it.
    """

    request: SetupRequest
    apis: GoogleApis
    prefect: PrefectPlace | None = None


@dataclass(frozen=True, kw_only=True)
class Cost:
    """An estimate by list prices; what an account really pays is between it and Google.

    Attributes:
        monthly_usd: What it costs a month (730 hours) while nothing runs.
        hourly_usd: What it costs for each hour in which it is used at its full size, on top of
            that; None where nothing is known.
        note: What the figures are of, such as `1 x e2-standard-4`.
    """

    monthly_usd: float
    hourly_usd: float | None = 0.0
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What is to be done about one resource.

    Attributes:
        kind: What it is, in the words of its service: `node pool`, `bucket`.
        name: Its name.
        action: What is to be done.
        details: The difference, or what it will be, a line each.
        cost: What it will cost; None for nothing that can be told.
        why: Why it is left or cannot be told; empty otherwise.
    """

    kind: str
    name: str
    action: Action
    details: tuple[str, ...] = ()
    cost: Cost | None = None
    why: str = ""

    @property
    def is_needed(self) -> bool:
        """Whether something is to be done."""
        return self.action in ("create", "change", "remove", "unknown")


class Resource(Protocol):
    """Something that is wanted on Google Cloud, in the cluster or in Prefect."""

    @property
    def kind(self) -> str:
        """What it is: `node pool`."""
        ...

    @property
    def name(self) -> str:
        """Its name."""
        ...

    def creation(self) -> Change:
        """Return what is to be done where there is nothing yet, and what that costs; asks nobody.

        It is what a comparison says, too, of something that cannot be there: its API is off, or
        what it would be in is not there.
        """
        ...

    def compare(self) -> Change:
        """Look at it, and return what has to be done for it to be as wanted; changes nothing.

        Raises:
            KineticError: It cannot be looked at.
        """
        ...

    def apply(self, tell: Tell) -> None:
        """Make it as wanted, whatever it is now, and wait until it is; harmless when it is.

        An operation on its way, started by somebody or by a run of this that was interrupted, is
        waited for.

        Raises:
            KineticError: It was refused, or failed; says what and what to do.
        """
        ...

    def plan_removal(self, *, purge: bool) -> Change:
        """Look at it, and return whether it is removed or left, and why; changes nothing.

        Only what was made here, as its label or description says, is removed. Where there is
        nothing, the action is `keep`: there is nothing to be done, and nothing to be told.

        Args:
            purge: Whether what holds people's data is removed, too.

        Raises:
            KineticError: It cannot be looked at.
        """
        ...

    def remove(self, tell: Tell) -> None:
        """Remove it, and wait until it is gone; harmless when it is gone."""
        ...


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Resources that do not wait for one another; a stage waits for those before it.

    Attributes:
        title: What it is about: `APIs`, `cluster`.
        resources: What is made in it.
    """

    title: str
    resources: tuple[Resource, ...]


@dataclass(frozen=True, kw_only=True)
class Step:
    """How far the work on one resource is.

    Attributes:
        kind: What it is: `node pool`.
        name: Its name.
        state: Whether the work has begun, goes on, is done, or has failed.
        text: How far it is, in a few words; the error's words where it failed.
        seconds: Since it began.
    """

    kind: str
    name: str
    state: State
    text: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.text or self.state}"


Watch = Callable[[Step], None]
"""Told of every step; called from several threads, one at a time."""
