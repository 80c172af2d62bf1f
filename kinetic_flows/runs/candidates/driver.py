"""Taking a run that has several candidates further: what `decide` says is to be done, is done."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from kinetic_flows.core.candidates import Candidates, Claim, Launch, Round
from kinetic_flows.core.errors import KineticError, LaunchError, RunCancelled
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Launcher, Observation, Phase
from kinetic_flows.runs.candidates.decide import (
    Begin,
    Decision,
    GiveUp,
    NoteEnd,
    Situation,
    Start,
    decide,
    is_withdrawn,
)
from kinetic_flows.runs.candidates.history import History
from kinetic_flows.runs.candidates.rounds import Rounds

STEPS = 20
"""How much is decided at one look at most; the rest at the next."""

CANCELLED = "cancelled"


class Starter(Protocol):
    """Starts launches of a run."""

    def start(self, candidates: Candidates, launch: Launch) -> None:
        """Start a launch; a repeated call starts nothing more.

        Raises:
            RunCancelled: Nobody wants the run any more.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Pauses:
    """How often is done what costs something.

    Attributes:
        read_seconds: How often the store is asked whether a candidate has begun that has a pod.
        idle_read_seconds: The same while no candidate has: only another driver can have decided
            something then.
        start_seconds: How long a launch is left alone that could not be started from here.
        withdraw_seconds: How often it is looked for launches that another driver started too late.
    """

    read_seconds: float = 0.5
    idle_read_seconds: float = 15.0
    start_seconds: float = 5.0
    withdraw_seconds: float = 15.0


class Driver:
    """Drives one run; others may do so at the same time.

    Args:
        run: The run.
        launcher: What its processes are seen and stopped by.
        rounds: Its rounds in the store.
        starter: What starts its processes.
        history: Told what happens.
        pauses: How often is done what costs something.
    """

    def __init__(
        self,
        run: RunTicket,
        launcher: Launcher,
        rounds: Rounds,
        starter: Starter,
        history: History,
        pauses: Pauses | None = None,
    ) -> None:
        self._run = run
        self._launcher = launcher
        self._rounds = rounds
        self._starter = starter
        self._history = history
        self._pauses = pauses or Pauses()
        self.candidates: Candidates | None = None
        self.launches: dict[str, Observation] = {}
        self._started: set[str] = set()
        self._refused: dict[str, Observation] = {}
        self._not_before: dict[str, float] = {}
        self.cannot = ""
        """Why nothing can be started from here; empty where it can."""
        self._read_at = 0.0
        self._next_withdrawal = 0.0

    def drive(self) -> Decision:
        """Do all that can be done now; return what is left: to wait, to follow, or nothing.

        Raises:
            StoreError: The store does not answer.
            LaunchError: The cluster does not tell.
            ObjectRefusedError: What lists the candidates is not what the run was started with.
        """
        for _ in range(STEPS):
            decision = decide(self._look())
            if not self._do(decision):
                break
        self._withdraw()
        return decision

    def _look(self) -> Situation:
        """Look at the launches of the last round, and then at the store, where it may tell more."""
        candidates = self.candidates or self._read_candidates()
        if not self._rounds.known():
            self._read()
        while True:
            before = self._rounds.known()
            launches = self._observe_last()
            if self._is_time_to_read(launches):
                self._read()
            if self._rounds.known() == before:
                break
        is_ended = self.winner is not None and all(
            seen.phase.is_final for seen in launches.values()
        )
        return Situation(
            candidates=candidates,
            rounds=self._rounds.known(),
            launches=launches,
            has_result=is_ended and self._rounds.has_result(),
            now=time.time(),
        )

    @property
    def winner(self) -> int | None:
        """The candidate that has the last round's claim; None where none has."""
        rounds = self._rounds.known()
        return rounds[-1].winner if rounds else None

    def _read_candidates(self) -> Candidates:
        found = self._rounds.candidates(self._run.candidates)
        if found is None:
            raise LaunchError(
                f"the objects of run {self._run.run_id} are gone",
                value=self._run.run_id,
                hint="they expire after retention_days; call the function again",
            )
        self.candidates = found
        return found

    def _read(self) -> None:
        before = self._rounds.known()
        rounds = self._rounds.read()
        self._read_at = time.monotonic()
        if rounds != before:
            self._next_withdrawal = 0.0
            if self.candidates is not None:
                self._history.take(self.candidates, rounds)

    def _is_time_to_read(self, launches: dict[int, Observation]) -> bool:
        last = self._rounds.known()[-1] if self._rounds.known() else None
        if last is None or not last.round.candidates:
            return False
        if last.claim is not None:
            # Of what nobody has begun the store says no more than what is decided next.
            return last.winner is None or all(each.phase.is_final for each in launches.values())
        is_idle = all(each.phase is Phase.PENDING for each in launches.values())
        pause = self._pauses.idle_read_seconds if is_idle else self._pauses.read_seconds
        return time.monotonic() >= self._read_at + pause

    def _observe_last(self) -> dict[int, Observation]:
        """Return the launches of the last round that have been started, or of its winner."""
        rounds = self._rounds.known()
        self.launches = {}
        if not rounds:
            return {}
        last, number = rounds[-1], len(rounds) - 1
        places = last.round.candidates if last.winner is None else (last.winner,)
        found: dict[int, Observation] = {}
        for place in places:
            key = self.key(number, place)
            seen = self._refused.get(key) or self._launcher.observe(key, None)
            if seen.phase is not Phase.GONE:
                self._started.add(key)
            if key in self._started or last.winner is not None:
                found[place] = self.launches[key] = seen
        return found

    def key(self, number: int, candidate: int) -> str:
        """Return by what the launcher knows a candidate of a round."""
        return Launch(round=number, candidate=candidate).key(self._run.run_id)

    def _do(self, decision: Decision) -> bool:
        """Do what was decided; return whether there may be more to do at once."""
        number = len(self._rounds.known())
        if isinstance(decision, Begin):
            if self._rounds.begin(number, decision.round) and decision.round.candidates:
                self._history.log(decision.round.why)
        elif isinstance(decision, Start):
            return self._start(Launch(round=number - 1, candidate=decision.candidate))
        elif isinstance(decision, GiveUp):
            self._rounds.claim(number - 1, decision.claim)
        elif isinstance(decision, NoteEnd):
            self._rounds.end(number - 1, decision.end)
        else:
            return False
        self._read()
        return True

    def _start(self, launch: Launch) -> bool:
        key = launch.key(self._run.run_id)
        if time.monotonic() < self._not_before.get(key, 0.0) or self.candidates is None:
            return False
        self.cannot = ""
        try:
            self._starter.start(self.candidates, launch)
        except RunCancelled:
            self.close()
            return True
        except KineticError as error:
            if isinstance(error, LaunchError) and error.is_denial:
                self._refused[key] = Observation(
                    phase=Phase.FAILED, reason=error.message, message=error.message, is_lasting=True
                )
                return True
            name = self.candidates.candidates[launch.candidate].accelerator
            self.cannot = f"{name} cannot be started from here: {error.message}"
            self._not_before[key] = time.monotonic() + self._pauses.start_seconds
            return False
        self._started.add(key)
        return True

    def _withdraw(self) -> None:
        """Delete the launches that are not to begin any more."""
        if time.monotonic() < self._next_withdrawal:
            return
        self._next_withdrawal = time.monotonic() + self._pauses.withdraw_seconds
        # What cannot be deleted now stands down by itself, or is deleted later.
        with suppress(KineticError):
            for key in self._launcher.launches(self._run.run_id):
                launch = Launch.parse(key.removeprefix(f"{self._run.run_id}-"))
                if is_withdrawn(self._rounds.known(), launch):
                    self._launcher.discard(key)

    def close(self) -> str | None:
        """End the run's rounds; return the key of what calls the function, if anything does."""
        while True:
            rounds = self._rounds.read()
            last, number = (rounds[-1] if rounds else None), len(rounds)
            winner = last.winner if last else None
            if last is None or (winner is not None and last.round.candidates):
                over = Round(candidates=(), why=CANCELLED, began=time.time())
                is_closed = self._rounds.begin(number, over)
            elif not last.round.candidates:
                before = rounds[-2].winner if number > 1 else None
                return None if before is None else self.key(number - 2, before)
            elif last.claim is None:
                claim = Claim(candidate=None, why=CANCELLED, is_over=True)
                is_closed = self._rounds.claim(number - 1, claim)
            elif last.claim.is_over:
                return None
            else:
                over = Round(candidates=(), why=CANCELLED, began=time.time())
                is_closed = self._rounds.begin(number, over)
            if is_closed:
                self._read()
                return None if winner is None else self.key(number - 1, winner)
