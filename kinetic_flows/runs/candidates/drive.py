"""Driving a run that has several candidates, whenever somebody looks at it.

Whoever observes such a run drives it: a client that waits, a sweep, the flow `kinetic-reconcile`.
What is to be done `decide` says; here it is done.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.core.candidates import Candidates, Claim, Launch, Round
from kinetic_flows.core.errors import KineticError, LaunchError, StoreError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.candidates.decide import (
    Begin,
    Decision,
    Follow,
    GiveUp,
    NoteEnd,
    Over,
    Situation,
    Start,
    Wait,
    decide,
    ended_without,
)
from kinetic_flows.runs.candidates.history import History
from kinetic_flows.runs.candidates.rounds import Rounds
from kinetic_flows.runs.candidates.shown import shown_pending
from kinetic_flows.runs.candidates.starting import CandidateStarter

READ_SECONDS = 0.5
"""How often the store is asked whether a candidate has begun, while the pods of one run."""

IDLE_READ_SECONDS = 15.0
"""The same while none has a pod that runs: then only another driver can have decided something."""

START_SECONDS = 5.0
"""How long a launch is left alone that could not be started from here."""

WITHDRAW_SECONDS = 15.0
"""How often it is looked for launches that another driver has started too late."""

STEPS = 20
"""How much is decided at one look at most; the rest at the next."""

CANCELLED = "cancelled"


class CandidateRuns:
    """The processes of one run that has several candidates, as if it had one process.

    Args:
        platform: Where it runs.
        api: Where its state is kept.
        run: The run.
    """

    def __init__(self, platform: Platform, api: PrefectApi, run: RunTicket) -> None:
        self._platform = platform
        self._launcher = platform.launcher
        self._run = run
        self._rounds = Rounds(platform.store, run.run_id)
        self._starter = CandidateStarter(platform, api, run)
        self._history = History(api, run.run_id, self._rounds)
        self._candidates: Candidates | None = None
        self._launches: dict[str, Observation] = {}
        self._started: set[str] = set()
        self._refused: dict[str, Observation] = {}
        self._not_before: dict[str, float] = {}
        self._cannot = self._away = ""
        self._next_read = 0.0
        self._next_withdrawal = 0.0
        self._output_of = ""
        self._output_from = 0
        self._output_to = 0

    def observe(self, run_id: str, position: int | None = 0) -> Observation:  # noqa: ARG002 - its own
        """Take the run further, and say where it is; output is that of the one that has begun.

        Args:
            run_id: The run's id.
            position: Where to read on; None to read nothing.

        Raises:
            LaunchError: The cluster does not tell.
            ObjectRefusedError: What lists its candidates is not what it was started with.
        """
        self._away = ""
        try:
            decision = self._drive()
        except StoreError as error:
            decision = self._without_store(error)
        seen = self._seen(decision, position)
        return replace(seen, told=self._history.news())

    def begin(self) -> None:
        """Start the first round.

        Raises:
            LaunchError: Nothing of it can be started.
        """
        decision = self._drive()
        if isinstance(decision, Over) and decision.candidate is None:
            raise LaunchError(self._why_over(decision), value=self._run.run_id)
        if self._cannot and not self._launches:
            raise LaunchError(self._cannot, value=self._run.run_id)

    def stop(self, run_id: str, grace_seconds: float) -> None:
        """Have nothing of the run begin any more, and stop what has.

        Raises:
            LaunchError: The cluster refuses, or cannot be reached.
        """
        winner = self._close()
        for key in self._launcher.launches(run_id):
            if key != winner:
                self._launcher.discard(key)
        if winner is not None:
            self._launcher.stop(winner, grace_seconds)

    def discard(self, run_id: str) -> None:
        """Remove the Jobs of the run, which has ended."""
        for key in self._launcher.launches(run_id):
            self._launcher.discard(key)

    # Driving

    def _drive(self) -> Decision:
        for _ in range(STEPS):
            decision = decide(self._look())
            if not self._do(decision):
                break
        self._withdraw()
        return decision

    def _look(self) -> Situation:
        """Look at the launches of the last round, and then at the store, where it may tell more."""
        candidates = self._candidates or self._read_candidates()
        if not self._rounds.known():
            self._read()
        while True:
            before = self._rounds.known()
            launches = self._observe_last()
            if self._is_time_to_read(launches):
                self._read()
            if self._rounds.known() == before:
                break
        is_ended = self._winner is not None and all(
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
    def _winner(self) -> int | None:
        """The candidate that has the last round's claim; None where none has."""
        rounds = self._rounds.known()
        return rounds[-1].winner if rounds else None

    def _without_store(self, error: StoreError) -> Decision:
        """Return what to show while the store does not answer, and nothing can be decided."""
        self._away = error.message
        return Wait() if self._winner is None else Follow(candidate=self._winner)

    def _read_candidates(self) -> Candidates:
        found = self._rounds.candidates(self._run.candidates)
        if found is None:
            raise LaunchError(
                f"the objects of run {self._run.run_id} are gone",
                value=self._run.run_id,
                hint="they expire after retention_days; call the function again",
            )
        self._candidates = found
        return found

    def _read(self) -> None:
        before = self._rounds.known()
        rounds = self._rounds.read()
        self._next_read = time.monotonic() + READ_SECONDS
        if rounds != before:
            self._next_withdrawal = 0.0
            if self._candidates is not None:
                self._history.take(self._candidates, rounds)

    def _is_time_to_read(self, launches: dict[int, Observation]) -> bool:
        last = self._rounds.known()[-1] if self._rounds.known() else None
        if last is None or not last.round.candidates:
            return False
        if last.claim is not None:
            # Of what nobody has begun the store says no more than what is decided next.
            return last.winner is None or all(each.phase.is_final for each in launches.values())
        is_idle = all(each.phase is Phase.PENDING for each in launches.values())
        pause = IDLE_READ_SECONDS - READ_SECONDS if is_idle else 0.0
        return time.monotonic() >= self._next_read + pause

    def _observe_last(self) -> dict[int, Observation]:
        """Return the launches of the last round that have been started, or of its winner."""
        rounds = self._rounds.known()
        self._launches = {}
        if not rounds:
            return {}
        last, number = rounds[-1], len(rounds) - 1
        places = last.round.candidates if last.winner is None else (last.winner,)
        found: dict[int, Observation] = {}
        for place in places:
            key = self._key(number, place)
            seen = self._refused.get(key) or self._launcher.observe(key, None)
            if seen.phase is not Phase.GONE:
                self._started.add(key)
            if key in self._started or last.winner is not None:
                found[place] = self._launches[key] = seen
        return found

    def _key(self, number: int, candidate: int) -> str:
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
        if time.monotonic() < self._not_before.get(key, 0.0) or self._candidates is None:
            return False
        self._cannot = ""
        try:
            self._starter.start(self._candidates, launch)
        except KineticError as error:
            if isinstance(error, LaunchError) and error.is_denial:
                self._refused[key] = Observation(
                    phase=Phase.FAILED, reason=error.message, message=error.message, is_lasting=True
                )
                return True
            name = self._candidates.candidates[launch.candidate].accelerator
            self._cannot = f"{name} cannot be started from here: {error.message}"
            self._not_before[key] = time.monotonic() + START_SECONDS
            return False
        self._started.add(key)
        return True

    def _withdraw(self) -> None:
        """Delete the launches that are not to begin any more."""
        if time.monotonic() < self._next_withdrawal:
            return
        self._next_withdrawal = time.monotonic() + WITHDRAW_SECONDS
        # What cannot be deleted now stands down by itself, or is deleted later.
        with suppress(KineticError):
            for key in self._launcher.launches(self._run.run_id):
                if self._is_withdrawn(key):
                    self._launcher.discard(key)

    def _is_withdrawn(self, key: str) -> bool:
        rounds = self._rounds.known()
        launch = Launch.parse(key.removeprefix(f"{self._run.run_id}-"))
        if launch.round >= len(rounds):
            # Somebody knows more than is known here.
            return False
        state = rounds[launch.round]
        follows = rounds[launch.round + 1 :]
        if any(each.round.candidates for each in follows):
            return True
        return state.claim is not None and state.winner != launch.candidate

    def _close(self) -> str | None:
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
                return None if before is None else self._key(number - 2, before)
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
                return None if winner is None else self._key(number - 1, winner)

    # What is shown

    def _seen(self, decision: Decision, position: int | None) -> Observation:
        if isinstance(decision, Follow):
            seen = self._output(decision.candidate, position)
            # What follows its end is decided at the next look.
            return replace(seen, phase=Phase.RUNNING) if seen.phase.is_final else seen
        if isinstance(decision, Over):
            return self._ended(decision, position)
        return self._pending(position)

    def _pending(self, position: int | None) -> Observation:
        rounds, candidates = self._rounds.known(), self._candidates
        if candidates is None or not rounds:
            return Observation(phase=Phase.PENDING, reason=self._away, position=position or 0)
        number = len(rounds) - 1
        launches = {
            place: self._launches[key]
            for place in rounds[-1].round.candidates
            if (key := self._key(number, place)) in self._launches
        }
        seen = shown_pending(candidates, launches, self._away or self._cannot)
        return replace(seen, position=position or 0)

    def _output(self, candidate: int, position: int | None) -> Observation:
        """Observe a candidate's process, whose output follows that of the one before."""
        rounds = self._rounds.known()
        number = max(at for at, state in enumerate(rounds) if state.winner == candidate)
        key = self._key(number, candidate)
        if position is None:
            return self._launcher.observe(key, None)
        if key != self._output_of:
            self._output_of, self._output_from = key, position
        seen = self._launcher.observe(key, max(position - self._output_from, 0))
        return replace(seen, position=self._output_from + seen.position)

    def _ended(self, over: Over, position: int | None) -> Observation:
        if over.candidate is not None:
            seen = self._output(over.candidate, position)
            if seen.phase is not Phase.GONE or not over.why:
                return seen
            return replace(seen, phase=Phase.FAILED, reason=over.why)
        why = self._why_over(over)
        return Observation(
            phase=Phase.FAILED, reason=why, is_lasting=why != CANCELLED, position=position or 0
        )

    def _why_over(self, over: Over) -> str:
        return over.why if over.why == CANCELLED else ended_without(self._rounds.known())
