"""What is to be done next about a run that may go on one of several accelerators.

This is what a client decides, for runs whose processes Prefect workers start: of a launch it knows
what Prefect knows. `tests/unit/test_contract.py` holds the two together; the client's side is
`kinetic_flows/runs/candidates/decide.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Union

from .candidates import OUT_OF_MEMORY
from .contract import claim_object, result_object, round_end_object, round_object
from .stores import BucketStore, DirectoryStore

DISTURBED = "disturbed"
"""Cause of an end that was not the run's doing."""


class RoundState(NamedTuple):
    """A round as the store has it: what was launched, who claimed it, why it goes on elsewhere."""

    round: Mapping[str, Any]
    claim: Mapping[str, Any] | None = None
    end: Mapping[str, Any] | None = None


class Seen(NamedTuple):
    """A launch as Prefect knows it.

    Attributes:
        is_final: Whether it has ended.
        is_success: Whether it has ended well.
        cause: Why it has ended, in one word; empty for anything else.
        message: What is said of it.
        waited_seconds: For how long it has been waited for.
    """

    is_final: bool = False
    is_success: bool = False
    cause: str = ""
    message: str = ""
    waited_seconds: float = 0.0


class Situation(NamedTuple):
    """What is known of a run.

    Attributes:
        listed: What `candidates.json` says.
        rounds: Its rounds so far.
        launches: The launches of the last round, by candidate; those that are still to be started
            are left out.
        has_result: Whether it has left its result.
        now: Seconds since 1970.
    """

    listed: Mapping[str, Any]
    rounds: tuple[RoundState, ...]
    launches: Mapping[int, Seen] = {}
    has_result: bool = False
    now: float = 0.0

    def name(self, candidate: int) -> str:
        """Return what a candidate is called."""
        return str(self.listed["candidates"][candidate]["accelerator"])

    def larger_than(self, candidate: int) -> int | None:
        """Return the first in the list that has more memory than one; None where none has."""
        sizes = [each["memory_gb"] for each in self.listed["candidates"]]
        if self.listed["on_oom"] is None:
            return None
        return next((at for at, size in enumerate(sizes) if size > sizes[candidate]), None)


class Begin(NamedTuple):
    """Write the next round; it ends the run where it has no candidates."""

    round: Mapping[str, Any]


class Start(NamedTuple):
    """Start a launch of the last round."""

    candidate: int


class GiveUp(NamedTuple):
    """Take the last round's claim, so that nothing of it can begin any more."""

    claim: Mapping[str, Any]


class NoteEnd(NamedTuple):
    """Write why the run of the last round's winner goes on elsewhere."""

    end: Mapping[str, Any]


class Wait(NamedTuple):
    """Do nothing: none of the last round has begun yet."""


class Follow(NamedTuple):
    """Follow the launch that calls the function."""

    candidate: int


class Over(NamedTuple):
    """Do nothing any more: the run has ended, with its winner's process or for this reason."""

    candidate: int | None
    why: str = ""


Decision = Union[Begin, Start, GiveUp, NoteEnd, Wait, Follow, Over]  # noqa: UP007 - evaluated


def decide(known: Situation) -> Decision:
    """Return what is to be done next."""
    if not known.rounds:
        return Begin(_from_head(known, 0, ""))
    last = known.rounds[-1]
    if not last.round["candidates"]:
        before = known.rounds[-2].claim if len(known.rounds) > 1 else None
        return Over((before or {}).get("candidate"), last.round["why"])
    if last.claim is None:
        return _of_open(known, last)
    if last.claim["candidate"] is None:
        return _after_giving_up(known, last.round, last.claim)
    return _of_winner(known, last, last.claim["candidate"])


def ended_without(rounds: tuple[RoundState, ...]) -> str:
    """Return why a run ended that had no accelerator at last, with all that was tried."""
    tried = [state.round["why"] for state in rounds if state.round["why"]]
    last = rounds[-1].claim
    tried += [last["why"]] if last else []
    listed = "".join(f"\n  - {each}" for each in tried)
    return f"none of its accelerators could be had:{listed}"


def _of_open(known: Situation, last: RoundState) -> Decision:
    """Decide about a round that nobody has claimed."""
    places = last.round["candidates"]
    absent = [each for each in places if each not in known.launches]
    if absent:
        return Start(absent[0])
    seen = {each: known.launches[each] for each in places}
    follows = False
    if len(seen) == 1:
        ((candidate, launch),) = seen.items()
        follows = _after(known, candidate) is not None
        limit = known.listed["fallback_after_seconds"]
        reasons = {candidate: _left(launch, limit) if follows else _out(launch)}
    else:
        reasons = {each: _out(launch) for each, launch in seen.items()}
    if not all(reasons.values()):
        return Wait()
    goes_back = _may_go_back(known, last) and any(map(_is_disturbed, seen.values()))
    why = "; ".join(f"{known.name(each)}: {reason}" for each, reason in reasons.items())
    return GiveUp(make_claim(why, is_over=not (follows or goes_back), goes_back=goes_back))


def make_claim(why: str, *, is_over: bool, goes_back: bool = False) -> dict[str, Any]:
    """Return the claim of who gives a round up."""
    return {"candidate": None, "why": why, "is_over": is_over, "goes_back": goes_back}


def _after_giving_up(
    known: Situation, given_up: Mapping[str, Any], claim: Mapping[str, Any]
) -> Decision:
    """Decide what follows a round in which nothing has begun."""
    if claim.get("is_over"):
        return Over(None, claim["why"])
    if claim.get("goes_back"):
        return Begin(_back(known, given_up, claim["why"]))
    following = _after(known, given_up["candidates"][-1])
    if following is None:
        return Over(None, claim["why"])
    why = f"{claim['why']}; {known.name(following)} is tried"
    return Begin(_round(known, (following,), why, given_up["preemptions"]))


def _of_winner(known: Situation, last: RoundState, winner: int) -> Decision:
    """Decide about a run whose function one of the candidates calls, or has called."""
    launch = known.launches.get(winner)
    if launch is None or not launch.is_final:
        return Follow(winner)
    if known.has_result or launch.is_success:
        return Over(winner)
    larger = known.larger_than(winner)
    if last.end is None and launch.cause == OUT_OF_MEMORY and larger is not None:
        return NoteEnd({"cause": OUT_OF_MEMORY, "message": _said(launch)})
    name, preemptions = known.name(winner), last.round["preemptions"]
    if last.end is not None and larger is not None:
        told = last.end["message"]
        why = f"{name}: {told}; {known.name(larger)}, which has more memory, is tried"
        return Begin(_round(known, (larger,), why, preemptions))
    if _is_disturbed(launch) and _may_go_back(known, last):
        return Begin(_back(known, last.round, f"{name}: {_said(launch)}"))
    return Begin(_round(known, (), f"{name}: {_said(launch)}", preemptions))


def _may_go_back(known: Situation, last: RoundState) -> bool:
    return bool(last.round["preemptions"] < known.listed["max_preemptions"])


def _is_disturbed(launch: Seen) -> bool:
    return launch.is_final and not launch.is_success and launch.cause == DISTURBED


def _back(known: Situation, before: Mapping[str, Any], why: str) -> dict[str, Any]:
    """Return the round with which a run that was disturbed begins its list anew."""
    count, limit = before["preemptions"] + 1, known.listed["max_preemptions"]
    text = f"{why}; its list is tried from the beginning ({count} of at most {limit} times)"
    return _from_head(known, count, text)


def _from_head(known: Situation, preemptions: int, why: str) -> dict[str, Any]:
    places = _eligible(known)
    chosen = places if known.listed["strategy"] == "race" else places[:1]
    return _round(known, chosen, why, preemptions)


def _round(known: Situation, places: tuple[int, ...], why: str, preemptions: int) -> dict[str, Any]:
    return {
        "candidates": list(places),
        "why": why,
        "preemptions": preemptions,
        "began": known.now,
    }


def _eligible(known: Situation) -> tuple[int, ...]:
    """Return the candidates that have more memory than each that had too little."""
    sizes = [each["memory_gb"] for each in known.listed["candidates"]]
    too_small = [
        sizes[state.claim["candidate"]]
        for state in known.rounds
        if state.end is not None and state.claim and state.claim["candidate"] is not None
    ]
    limit = max(too_small, default=-1)
    return tuple(at for at, size in enumerate(sizes) if size > limit)


def _after(known: Situation, candidate: int) -> int | None:
    """Return which candidate is tried after another one; None where that was the last."""
    return next((place for place in _eligible(known) if place > candidate), None)


def _out(launch: Seen) -> str:
    """Say why a launch cannot begin any more; empty where it can."""
    return _said(launch) if launch.is_final else ""


def _left(launch: Seen, limit_seconds: float) -> str:
    """Say why a launch is not waited for any longer; empty where it is."""
    if launch.is_final or launch.waited_seconds < limit_seconds:
        return _out(launch)
    why = f" ({launch.message})" if launch.message else ""
    return f"nothing in {in_words(limit_seconds)}{why}"


def _said(launch: Seen) -> str:
    return launch.message or "its process ended"


def in_words(seconds: float) -> str:
    """Return a duration as people say it: `4.0 s`, `12 s`, `10 min`, `1 h 5 min`."""
    whole = round(seconds)
    if seconds < 9.95:
        text = f"{seconds:.1f} s"
    elif whole < 60:
        text = f"{whole} s"
    elif whole < 3600:
        text = f"{whole // 60} min {whole % 60} s"
    else:
        text = f"{whole // 3600} h {whole % 3600 // 60} min"
    return text[:-4] if text.endswith(" 0 s") else text[:-6] if text.endswith(" 0 min") else text


class Rounds:
    """The rounds of a run in the store, where everything that is decided is an object made once.

    Args:
        store: Where its objects are.
        run_id: The run's id.
    """

    def __init__(self, store: DirectoryStore | BucketStore, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        self._known: list[RoundState] = []

    def read(self) -> tuple[RoundState, ...]:
        """Return the rounds as they are now."""
        for number, state in enumerate(self._known):
            self._known[number] = self._rest(number, state)
        while (begun := self._json(round_object(self._run_id, len(self._known)))) is not None:
            self._known.append(self._rest(len(self._known), RoundState(begun)))
        return tuple(self._known)

    def has_result(self) -> bool:
        """Whether the run has left its result."""
        return self._store.has(result_object(self._run_id))

    def begin(self, number: int, begun: Mapping[str, Any]) -> bool:
        """Begin a round, unless somebody has; return whether it was begun with this."""
        return self._write(round_object(self._run_id, number), begun)

    def claim(self, number: int, claim: Mapping[str, Any]) -> bool:
        """Take a round's claim, unless somebody has it; return whether it was taken."""
        return self._write(claim_object(self._run_id, number), claim)

    def end(self, number: int, end: Mapping[str, Any]) -> None:
        """Say why the run goes on elsewhere, unless its runner has."""
        self._write(round_end_object(self._run_id, number), end)

    def _rest(self, number: int, state: RoundState) -> RoundState:
        claim, end = state.claim, state.end
        if claim is None:
            claim = self._json(claim_object(self._run_id, number))
        if claim is not None and claim["candidate"] is not None and end is None:
            end = self._json(round_end_object(self._run_id, number))
        return RoundState(state.round, claim, end)

    def _write(self, name: str, what: Mapping[str, Any]) -> bool:
        data = json.dumps(dict(what), sort_keys=True, separators=(",", ":")).encode()
        return self._store.put_if_absent(name, data)

    def _json(self, name: str) -> dict[str, Any] | None:
        data = self._store.read(name)
        if data is None:
            return None
        found: dict[str, Any] = json.loads(data)
        return found
