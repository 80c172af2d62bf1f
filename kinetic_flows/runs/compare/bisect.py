"""Which change between a good and a bad run moved a value, found out by running mixtures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from kinetic_flows.clients.prefect.labels import BISECT_LABEL, bisect_tag
from kinetic_flows.clients.prefect.records import RunQuery, RunRecord
from kinetic_flows.clients.prefect.timings import timings_of
from kinetic_flows.core.errors import KineticError, RunCancelled, RunError, UsageError
from kinetic_flows.core.job import RunTicket, canonical_json, sha256_hex
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.signals import interruption_in
from kinetic_flows.runs.cancel import cancel
from kinetic_flows.runs.compare.changes import Change, Side, by_kind, changes_between, side_of
from kinetic_flows.runs.compare.judge import Judge, Outcome
from kinetic_flows.runs.compare.mixed_packages import MixedPackages
from kinetic_flows.runs.compare.mixtures import Mixture, Mixtures
from kinetic_flows.runs.compare.search import Verdict, most_runs, next_step
from kinetic_flows.runs.compare.subject import look_at
from kinetic_flows.runs.results import read_result
from kinetic_flows.runs.session import Session
from kinetic_flows.runs.settle import ticket_of
from kinetic_flows.runs.wait import wait_for_run

GIVEN_UP = ("CANCELLED", "CANCELLING", "CRASHED")
"""States of a mixture's run that tells nothing of the mixture: it is run again."""

MOST_BROKEN = 10
"""How many mixtures that cannot be judged are run before it is left at several changes."""


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A mixture that was run.

    Attributes:
        count: How many of the changes it has.
        shown: What came of it, in a few characters.
        verdict: What that is like.
        run_ids: Its runs; none for one that could not be made.
        is_known: Whether an earlier bisection had run it.
    """

    count: int
    shown: str
    verdict: Verdict
    run_ids: tuple[str, ...] = ()
    is_known: bool = False


@dataclass(frozen=True, kw_only=True)
class Bisection:
    """What a search has found out.

    Attributes:
        changes: What differs, in the order in which it was taken over.
        replays: The mixtures that were run, in this order.
        found: The change that moved the value, or several of which mixtures do not run; none
            where the value comes from something else.
    """

    changes: tuple[Change, ...]
    replays: tuple[Replayed, ...] = ()
    found: tuple[Change, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BisectPlan:
    """A search that can begin.

    Attributes:
        good: The good run.
        bad: The bad run.
        changes: What differs, in the order in which it is taken over.
        packages: What mixes packages; None where they are taken as a whole.
    """

    good: Side
    bad: Side
    changes: tuple[Change, ...]
    packages: MixedPackages | None

    @property
    def most_runs(self) -> int:
        """How many mixtures are run at most, where each of them has a value."""
        return most_runs([len(each) for each in by_kind(self.changes).values()])

    @property
    def key(self) -> str:
        """What tells its mixtures from those of other runs."""
        ends = [self.good.subject.record.id, self.bad.subject.record.id]
        return sha256_hex(canonical_json(ends))

    def boundaries(self) -> list[int]:
        """Return after how many changes each kind of them is taken over as a whole."""
        counts = [0]
        for each in by_kind(self.changes).values():
            counts.append(counts[-1] + len(each))
        return counts


def outcome_of(record: RunRecord, session: Session) -> Outcome:
    """Return what came of a run that has ended.

    Raises:
        ObjectRefusedError: Its result is not genuine.
    """
    ticket = ticket_of(record)
    envelope = read_result(session.platform.store, ticket)
    return Outcome(ticket, envelope, timings_of(record).get("run"))


def plan_bisect(good: RunRecord, bad: RunRecord, session: Session) -> BisectPlan:
    """Find out what could have moved a value, and how many runs it takes to tell.

    Args:
        good: The good run's flow run.
        bad: The bad run's.
        session: Where they ran, and mixtures will.

    Raises:
        RunNotFoundError: What one of them was started with has expired.
        ConfigurationError: They ran elsewhere than runs do that are started here.
        UsageError: They have not ended, are of two functions, or nothing differs.
    """
    for record in (good, bad):
        if not record.is_final:
            raise UsageError(
                f"run {record.id} has not ended: it is {record.state_name}",
                value=record.id,
                hint=f"wait for it: kinetic runs result {record.id}",
            )
    sides = [side_of(look_at(each, session), session) for each in (good, bad)]
    if sides[0].job.name != sides[1].job.name:
        names = " and ".join(each.job.name for each in sides)
        raise UsageError(
            f"the runs are of two functions: {names}",
            value=names,
            hint="name two runs of one function",
        )
    packages = MixedPackages.of(sides[0], sides[1], session)
    changes = changes_between(sides[0], sides[1], by_package=packages is not None)
    if not changes:
        raise UsageError(
            f"nothing differs between {good.id} and {bad.id} that could be taken apart",
            value=[good.id, bad.id],
            hint="what they come to differs by itself, or by what they read from elsewhere",
        )
    return BisectPlan(good=sides[0], bad=sides[1], changes=changes, packages=packages)


@dataclass(kw_only=True)
class BisectRun:
    """Runs mixtures until the change is found.

    Attributes:
        plan: What to search.
        judge: Tells good from bad.
        session: Where mixtures run.
        repeats: How often each mixture is run; the value in their middle counts.
        on_start: Told of each mixture before it is run, by how many changes it has, and with its
            run once that is there.
        on_end: Told of each mixture that was run.
    """

    plan: BisectPlan
    judge: Judge
    session: Session
    repeats: int = 1
    on_start: Callable[[int, RunTicket | None], None] = lambda _count, _ticket: None
    on_end: Callable[[Replayed], None] = lambda _replayed: None
    _replays: list[Replayed] = field(default_factory=list)
    _known: dict[int, Verdict] = field(default_factory=dict)

    def run(self) -> Bisection:
        """Search; an interruption cancels the run that is waited for, and the next search goes on.

        Raises:
            KineticError: A run could not be started, or Prefect does not answer.
        """
        plan = self.plan
        with ExitStack() as open_until:
            mixtures = Mixtures(
                plan.good,
                plan.bad,
                plan.changes,
                self.session,
                packages=plan.packages,
                key=plan.key,
                open_until=open_until,
            )
            good, bad = self._search(plan.boundaries(), mixtures)
            if not self._is_confirmed(good, bad, mixtures):
                return self._found(())
            good, bad = self._search(range(good, bad + 1), mixtures)
            return self._found(plan.changes[good:bad])

    def _found(self, changes: Sequence[Change]) -> Bisection:
        replays = tuple(self._replays)
        return Bisection(changes=self.plan.changes, replays=replays, found=tuple(changes))

    def _search(self, points: Sequence[int], mixtures: Mixtures) -> tuple[int, int]:
        while True:
            step = next_step(points, self._known)
            broken = sum(each is Verdict.BROKEN for each in self._known.values())
            if step.next is None or broken > MOST_BROKEN:
                return step.good, step.bad
            self._replay(step.next, mixtures)

    def _is_confirmed(self, good: int, bad: int, mixtures: Mixtures) -> bool:
        """Whether both ends of what is left are what they are said to be, when they are run."""
        for count, wanted in ((good, Verdict.GOOD), (bad, Verdict.BAD)):
            if count not in self._known and self._replay(count, mixtures) is not wanted:
                return False
        return True

    def _replay(self, count: int, mixtures: Mixtures) -> Verdict:
        self.on_start(count, None)
        try:
            mixture = mixtures.with_first(count, lambda _line: None)
        except KineticError as error:
            shown = error.message.partition("\n")[0]
            replayed = Replayed(count=count, shown=shown, verdict=Verdict.BROKEN)
        else:
            replayed = self._outcomes(count, mixture, mixtures)
        self._known[count] = replayed.verdict
        self._replays.append(replayed)
        self.on_end(replayed)
        return replayed.verdict

    def _outcomes(self, count: int, mixture: Mixture, mixtures: Mixtures) -> Replayed:
        earlier = self._earlier(mixture, mixtures)
        outcomes = [self._awaited(ticket_of(record)) for record in earlier]
        while len(outcomes) < self.repeats:
            outcomes.append(self._started(count, mixture, mixtures))
        return Replayed(
            count=count,
            shown=self.judge.shown(outcomes),
            verdict=self.judge.verdict(outcomes),
            run_ids=tuple(each.run_id for each in outcomes),
            is_known=len(earlier) == self.repeats,
        )

    def _earlier(self, mixture: Mixture, mixtures: Mixtures) -> list[RunRecord]:
        """Return runs of the same mixture that an earlier search has started."""
        found = self.session.api.find_runs(RunQuery(tag=bisect_tag(mixtures.key)))
        usable = [
            record
            for record in reversed(found)
            if record.labels.get(BISECT_LABEL) == mixture.identity
            and record.state_type not in GIVEN_UP
        ]
        return usable[: self.repeats]

    def _started(self, count: int, mixture: Mixture, mixtures: Mixtures) -> Outcome:
        name = f"bisect {count}/{len(self.plan.changes)} of {self.plan.bad.job.name}"
        told: list[RunTicket] = []

        def note(ticket: RunTicket) -> None:
            told.append(ticket)
            self.on_start(count, ticket)

        try:
            ticket = mixtures.start(mixture, name, note)
            return self._awaited(ticket, is_launched=ticket.dispatch == "client")
        except BaseException as error:
            if interruption_in(error) is not None and told:
                cancel(told[-1], self.session)
            raise

    def _awaited(self, ticket: RunTicket, *, is_launched: bool = False) -> Outcome:
        """Wait for a run's end.

        Args:
            ticket: The run.
            is_launched: Whether its process was started from here.

        Raises:
            RunCancelled: Somebody cancelled it.
        """
        try:
            envelope = wait_for_run(ticket, self.session, NullProgress(), is_launched=is_launched)
        except RunCancelled:
            raise
        except RunError:
            return Outcome(ticket, None, None)
        if envelope.header.status == "cancelled":
            raise RunCancelled(f"run {ticket.run_id} was cancelled", value=ticket.run_id)
        record = self.session.api.read_run(ticket.run_id)
        return Outcome(ticket, envelope, timings_of(record).get("run"))
