"""Driving a run that may go on one of several accelerators, where Prefect workers start processes.

This is the process that the worker starts for the run itself: it needs no chips and calls no
function. It has a launch started for each accelerator that is tried, follows who claims the run,
and ends when the run has its result. Everything it decides is an object in the store, so it may be
ended at any moment, and goes on where it was when it is started again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from .candidates import LAUNCH_VARIABLE
from .contract import (
    EXIT_BAD_LAUNCH,
    EXIT_OBJECT_REFUSED,
    EXIT_RETURNED,
    EXIT_TERMINATED,
    Fault,
    StoreAway,
    candidates_object,
)
from .fetching import fetch
from .identity import LAUNCHED_RUN_VARIABLE, RUN_KEY_VARIABLE, run_key
from .interrupts import Interrupts
from .launches import FINAL, Launches, Planned
from .output import Output
from .prefect_api import TIMEOUT_SECONDS, ApiError, PrefectApi
from .reporter import Reporter
from .rounds import (
    Begin,
    Follow,
    GiveUp,
    NoteEnd,
    Over,
    Rounds,
    RoundState,
    Situation,
    Start,
    decide,
    ended_without,
    in_words,
    make_claim,
)
from .stores import open_store

LOOK_SECONDS = 0.25
LAST_LOOK_SECONDS = 5.0
"""How often servers are asked at first, and while nothing happens for long."""

CANCELLED = "the run was cancelled"


class Told(NamedTuple):
    """What a driver has said so far: of which rounds, of whose claim, and of what keeps it."""

    rounds: set[int]
    claims: set[int]
    trouble: set[str]


class Driver:
    """Drives one run.

    Args:
        job: The job of the driver, which names its run.
        environ: This process's environment.
        store_uri: Where the run's objects are.
        client: The bootstrap's storage client.
    """

    def __init__(
        self, job: Mapping[str, Any], environ: Mapping[str, str], store_uri: str, client: Any
    ) -> None:
        spec = job["prefect"]
        if not spec:
            raise Fault(EXIT_BAD_LAUNCH, "the job of a driver must name a Prefect API")
        self._run_id: str = job["run_id"]
        self._name: str = job["name"]
        self._run_key = run_key(environ)
        store = open_store(store_uri, client)
        data = fetch(store, job["drives"])
        self._listed: dict[str, Any] = _read(data)
        # Clients look for it there, under the run's own id.
        store.put_if_absent(candidates_object(self._run_id), data)
        self._rounds = Rounds(store, self._run_id)
        self._api = PrefectApi(spec["api_url"], self._run_id, environ)
        self._launches = Launches(self._api, self._run_id)
        self._interrupts = Interrupts()
        self._output = Output(self._on_entry)
        self._reporter = Reporter(self._api, self._interrupts.wake, self._output.say)
        self._told = Told(set(), set(), set())
        self._has_recalled = False
        self._pause = LOOK_SECONDS

    def run(self) -> int:
        """Drive the run to its end; return this process's exit code."""
        self._interrupts.install()
        self._interrupts.hold()
        self._reporter.start()
        try:
            while (code := self._looked()) is None:
                self._interrupts.wait_until(time.monotonic() + self._pause)
                self._pause = min(1.1 * self._pause, LAST_LOOK_SECONDS)
        finally:
            self._reporter.finish(None)
        return code

    def _looked(self) -> int | None:
        """Do what is to be done next; servers that do not answer are asked again."""
        try:
            code = self._look()
        except (ApiError, StoreAway) as error:
            self._say_once(f"waiting for an answer: {error}")
            return EXIT_TERMINATED if self._interrupts.is_terminated else None
        self._told.trouble.clear()
        return code

    def _look(self) -> int | None:
        """Do what is to be done next; return the exit code where that was the last of it."""
        found = self._api.read_state_of(self._run_id, TIMEOUT_SECONDS)
        # A run that somebody has deleted has no end but this one.
        state = "CANCELLING" if found is None else found.get("type")
        rounds = self._known_rounds()
        if state in FINAL or self._rounds.has_result():
            self._withdraw(rounds, keep=_winner(rounds))
            return EXIT_RETURNED
        if state == "CANCELLING":
            return self._cancel(rounds, is_deleted=found is None)
        if self._interrupts.is_terminated:
            # Kubernetes starts it again, and it goes on from what the store says.
            return EXIT_TERMINATED
        return self._go_on(rounds)

    def _known_rounds(self) -> tuple[RoundState, ...]:
        """Return the rounds; what was there when this process started was told by another."""
        rounds = self._rounds.read()
        if not self._has_recalled:
            self._launches.recall(_keys(rounds))
            self._told.rounds.update(range(len(rounds)))
            self._told.claims.update(at for at, each in enumerate(rounds) if each.claim)
            self._has_recalled = True
        self._tell(rounds)
        return rounds

    def _go_on(self, rounds: tuple[RoundState, ...]) -> int | None:
        while True:
            known = self._situation(rounds)
            decision = decide(known)
            if isinstance(decision, Over):
                return self._end(known, decision)
            if isinstance(decision, Start):
                self._launches.start(self._planned(len(rounds) - 1, decision.candidate))
                continue
            if isinstance(decision, Begin):
                self._rounds.begin(len(rounds), decision.round)
            elif isinstance(decision, GiveUp):
                self._rounds.claim(len(rounds) - 1, decision.claim)
            elif isinstance(decision, NoteEnd):
                self._rounds.end(len(rounds) - 1, decision.end)
            elif isinstance(decision, Follow):
                self._withdraw(rounds, keep=decision.candidate)
                return None
            else:
                return None
            rounds = self._known_rounds()

    def _situation(self, rounds: tuple[RoundState, ...]) -> Situation:
        launches = {}
        if rounds:
            number, last = len(rounds) - 1, rounds[-1]
            waited = max(time.time() - last.round["began"], 0.0)
            for candidate in last.round["candidates"]:
                key = f"r{number}c{candidate}"
                has_won = last.claim is not None and last.claim["candidate"] == candidate
                if has_won or self._launches.is_started(key):
                    launches[candidate] = self._launches.see(key)._replace(waited_seconds=waited)
        return Situation(
            self._listed, rounds, launches, has_result=self._rounds.has_result(), now=time.time()
        )

    def _planned(self, number: int, candidate: int) -> Planned:
        chosen, key = self._listed["candidates"][candidate], f"r{number}c{candidate}"
        variables = dict(chosen["job_variables"])
        variables["env"] = {
            **(variables.get("env") or {}),
            RUN_KEY_VARIABLE: self._run_key,
            LAUNCHED_RUN_VARIABLE: self._run_id,
            LAUNCH_VARIABLE: key,
        }
        return Planned(key, f"{self._name} on {chosen['accelerator']} ({key})", variables)

    # What is over

    def _withdraw(self, rounds: tuple[RoundState, ...], keep: int | None) -> None:
        """Cancel the launches of the last rounds but for the one that calls the function."""
        kept = f"r{len(rounds) - 1}c{keep}"
        for key in _keys(rounds):
            if key != kept and self._launches.is_started(key):
                self._launches.cancel(key, "withdrawn: the run goes on elsewhere, or is over")

    def _cancel(self, rounds: tuple[RoundState, ...], *, is_deleted: bool) -> int | None:
        """Have nothing of a run begin that is to be cancelled, or wait for what has begun."""
        number = len(rounds) - 1
        if number < 0:
            # Nothing of it can begin: another process would find the round given up.
            begun = {"candidates": [], "why": CANCELLED, "preemptions": 0, "began": time.time()}
            self._rounds.begin(0, begun)
        elif rounds[-1].claim is None:
            self._rounds.claim(number, make_claim(CANCELLED, is_over=True))
        rounds = self._rounds.read()
        winner = _winner(rounds)
        if winner is not None and not self._launches.see(f"r{len(rounds) - 1}c{winner}").is_final:
            # It sees that itself, and says how it has ended.
            return EXIT_TERMINATED if self._interrupts.is_terminated else None
        self._withdraw(rounds, keep=None)
        if not is_deleted:
            self._api.set_state("CANCELLED", "Cancelled", CANCELLED, TIMEOUT_SECONDS)
        return EXIT_RETURNED

    def _end(self, known: Situation, over: Over) -> int:
        """Report the end of a run whose processes have not."""
        self._withdraw(known.rounds, keep=over.candidate)
        if known.has_result:
            return EXIT_RETURNED
        why = over.why if over.candidate is not None else ended_without(known.rounds)
        if why:
            self._output.say(why)
            self._api.set_state("CRASHED", "Crashed", why, TIMEOUT_SECONDS)
        return EXIT_RETURNED

    # What is told

    def _tell(self, rounds: tuple[RoundState, ...]) -> None:
        for number, state in enumerate(rounds):
            if number not in self._told.rounds:
                self._told.rounds.add(number)
                self._pause = LOOK_SECONDS
                self._tell_round(number, state)
            if state.claim is not None and number not in self._told.claims:
                self._told.claims.add(number)
                self._tell_claim(state)

    def _tell_round(self, number: int, state: RoundState) -> None:
        names = [self._accelerator(each) for each in state.round["candidates"]]
        if names and state.round["why"]:
            self._output.say(state.round["why"])
        if len(names) > 1:
            self._output.say(f"race: {', '.join(names)} are asked for at once")
        elif names and not number:
            self._output.say(f"{names[0]} is asked for first")

    def _tell_claim(self, state: RoundState) -> None:
        winner = state.claim["candidate"] if state.claim else None
        if winner is None:
            return
        others = [self._accelerator(each) for each in state.round["candidates"] if each != winner]
        if others:
            seconds = max(round(time.time() - state.round["began"]), 0)
            verb = "is" if len(others) == 1 else "are"
            after = f"{self._accelerator(winner)} was first after {in_words(seconds)}"
            self._output.say(f"race: {after}; {', '.join(others)} {verb} withdrawn")

    def _accelerator(self, candidate: int) -> str:
        return str(self._listed["candidates"][candidate]["accelerator"])

    def _say_once(self, message: str) -> None:
        if message not in self._told.trouble:
            self._told.trouble.add(message)
            self._output.say(message)

    def _on_entry(self, text: str, level: int, logger: str) -> None:
        self._reporter.entry(text, level, logger)


def _keys(rounds: tuple[RoundState, ...]) -> list[str]:
    """Return what the launches of some rounds are called."""
    return [
        f"r{number}c{candidate}"
        for number, state in enumerate(rounds)
        for candidate in state.round["candidates"]
    ]


def _winner(rounds: tuple[RoundState, ...]) -> int | None:
    if not rounds or rounds[-1].claim is None or rounds[-1].end is not None:
        return None
    winner: int | None = rounds[-1].claim["candidate"]
    return winner


def _read(data: bytes) -> dict[str, Any]:
    try:
        listed = json.loads(data)
        if listed["version"] == 1 and listed["candidates"]:
            return dict(listed)
    except (ValueError, KeyError, TypeError):
        pass
    message = "what lists the accelerators of the run is of another version than this runner"
    raise Fault(EXIT_OBJECT_REFUSED, message)
