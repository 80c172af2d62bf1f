"""Telling people which accelerators a run has tried, and which one it has got."""

from __future__ import annotations

import time
from contextlib import suppress

from kinetic_flows.clients.prefect.api import PrefectApi
from kinetic_flows.clients.prefect.labels import ACCELERATOR_LABEL, IMAGE_LABEL
from kinetic_flows.core.candidates import Candidates, Round
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.moments import duration
from kinetic_flows.runs.candidates.rounds import Rounds, RoundState


class History:
    """What has happened to a run, for its client's terminal, its log and its labels.

    Args:
        api: Where its log is.
        run_id: The run's id.
        rounds: Its rounds.
    """

    def __init__(self, api: PrefectApi, run_id: str, rounds: Rounds) -> None:
        self._api = api
        self._run_id = run_id
        self._rounds = rounds
        self._begun = 0
        self._won: set[int] = set()
        self._news: list[str] = []
        self.runs_on = ""
        """What the run has begun on last; empty before it has begun."""

    def news(self) -> tuple[str, ...]:
        """Return what has happened since the last call, in sentences."""
        news, self._news = tuple(self._news), []
        return news

    def log(self, text: str) -> None:
        """Have the run's log say something; whoever has decided it does so, once."""
        if text:
            with suppress(KineticError):
                self._api.log(self._run_id, text)

    def take(self, candidates: Candidates, rounds: tuple[RoundState, ...]) -> None:
        """Take the rounds as they are now."""
        for number, state in enumerate(rounds):
            if number >= self._begun and state.round.candidates and state.round.why:
                self._news.append(state.round.why)
            if state.winner is not None and number not in self._won:
                self._won.add(number)
                self._take_winner(candidates, number, state.round, state.winner)
        self._begun = len(rounds)

    def _take_winner(self, candidates: Candidates, number: int, begun: Round, winner: int) -> None:
        """Tell what the run runs on; of several drivers one says so in its log."""
        won = candidates.candidates[winner]
        self.runs_on = won.accelerator
        labels = {ACCELERATOR_LABEL: won.accelerator, IMAGE_LABEL: won.image["reference"]}
        text = _won(candidates, begun, winner)
        if text:
            self._news.append(text)
        if self._rounds.is_told(number):
            return
        with suppress(KineticError):
            self._api.add_labels(self._run_id, labels)
            if self._rounds.tell(number):
                self.log(text)


def _won(candidates: Candidates, begun: Round, winner: int) -> str:
    """Say who won a race; empty where nobody else was launched."""
    names = {place: candidates.candidates[place].accelerator for place in begun.candidates}
    others = ", ".join(name for place, name in names.items() if place != winner)
    if not others:
        return ""
    after = duration(max(time.time() - begun.began, 0.0))
    are = "are" if len(names) > 2 else "is"
    return f"race: {names[winner]} was first after {after}; {others} {are} withdrawn"
