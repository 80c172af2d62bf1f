"""The processes of a run that has several candidates, as if it had one.

Whoever observes such a run drives it: a client that waits, a sweep, the flow `kinetic-reconcile`.
"""

from __future__ import annotations

from dataclasses import replace

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.core.errors import LaunchError, RunCancelled, StoreError
from kinetic_flows.core.job import RunTicket
from kinetic_flows.core.launcher import Launcher, Observation, Phase
from kinetic_flows.platforms.base import Platform
from kinetic_flows.runs.candidates.decide import Decision, Follow, Over, Wait, ended_without
from kinetic_flows.runs.candidates.driver import CANCELLED, Driver
from kinetic_flows.runs.candidates.history import History
from kinetic_flows.runs.candidates.rounds import Rounds
from kinetic_flows.runs.candidates.shown import shown_pending
from kinetic_flows.runs.candidates.starting import CandidateStarter


class CandidateRuns:
    """The processes of one run that has several candidates.

    Args:
        run: The run.
        launcher: What its processes are seen and stopped by.
        rounds: Its rounds in the store.
        driver: What takes it further.
        history: What tells people of it.
    """

    def __init__(
        self, run: RunTicket, launcher: Launcher, rounds: Rounds, driver: Driver, history: History
    ) -> None:
        self._run = run
        self._launcher = launcher
        self._rounds = rounds
        self._driver = driver
        self._history = history
        self._away = ""
        self._output_of = ""
        self._output_from = 0

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
            decision = self._driver.drive()
        except StoreError as error:
            decision = self._without_store(error)
        seen = self._seen(decision, position)
        return replace(seen, told=self._history.news(), runs_on=self._history.runs_on)

    def begin(self) -> None:
        """Start the first round.

        Raises:
            LaunchError: Nothing of it can be started.
            RunCancelled: Nobody wants it any more.
        """
        decision = self._driver.drive()
        run_id = self._run.run_id
        if isinstance(decision, Over) and decision.why == CANCELLED:
            raise RunCancelled(f"run {run_id} was cancelled before it was launched", value=run_id)
        if isinstance(decision, Over) and decision.candidate is None:
            raise LaunchError(self._why_over(decision), value=run_id)
        if self._driver.cannot and not self._driver.launches:
            raise LaunchError(self._driver.cannot, value=run_id)

    def stop(self, run_id: str, grace_seconds: float) -> None:
        """Have nothing of the run begin any more, and stop what has.

        Raises:
            LaunchError: The cluster refuses, or cannot be reached.
        """
        winner = self._driver.close()
        for key in self._launcher.launches(run_id):
            if key != winner:
                self._launcher.discard(key)
        if winner is not None:
            self._launcher.stop(winner, grace_seconds)

    def discard(self, run_id: str) -> None:
        """Remove the Jobs of the run, which has ended."""
        for key in self._launcher.launches(run_id):
            self._launcher.discard(key)

    def _without_store(self, error: StoreError) -> Decision:
        """Return what to show while the store does not answer, and nothing can be decided."""
        self._away = error.message
        return Wait() if self._driver.winner is None else Follow(candidate=self._driver.winner)

    def _seen(self, decision: Decision, position: int | None) -> Observation:
        if isinstance(decision, Follow):
            seen = self._output(decision.candidate, position)
            # What follows its end is decided at the next look.
            return replace(seen, phase=Phase.RUNNING) if seen.phase.is_final else seen
        if isinstance(decision, Over):
            return self._ended(decision, position)
        return self._pending(position)

    def _pending(self, position: int | None) -> Observation:
        rounds, candidates = self._rounds.known(), self._driver.candidates
        if candidates is None or not rounds:
            return Observation(phase=Phase.PENDING, reason=self._away, position=position or 0)
        number = len(rounds) - 1
        launches = {
            place: self._driver.launches[key]
            for place in rounds[-1].round.candidates
            if (key := self._driver.key(number, place)) in self._driver.launches
        }
        seen = shown_pending(candidates, launches, self._away or self._driver.cannot)
        return replace(seen, position=position or 0)

    def _output(self, candidate: int, position: int | None) -> Observation:
        """Observe a candidate's process, whose output follows that of the one before."""
        rounds = self._rounds.known()
        number = max(at for at, state in enumerate(rounds) if state.winner == candidate)
        key = self._driver.key(number, candidate)
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


def candidate_runs(platform: Platform, api: PrefectApi, run: RunTicket) -> CandidateRuns:
    """Return what observes, drives and stops a run that has several candidates.

    Args:
        platform: Where it runs.
        api: Where its state is kept.
        run: The run.
    """
    rounds = Rounds(platform.store, run.run_id)
    history = History(api, run.run_id, rounds)
    starter = CandidateStarter(platform, api, run)
    driver = Driver(run, platform.launcher, rounds, starter, history)
    return CandidateRuns(run, platform.launcher, rounds, driver, history)
