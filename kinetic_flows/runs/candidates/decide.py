"""What is to be done next about a run that has several candidates: a function of what is known.

Whoever drives a run looks at its rounds in the store and at the launches of the last one, asks
`decide`, does that, and looks again. Each decision is carried out by writing an object that can be
written once, so that any number of drivers may do so at once, and each may stop at any moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kinetic_flows.core.candidates import Candidates, Claim, End, Launch, Round
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.core.moments import duration
from kinetic_flows.runs.candidates.rounds import RoundState

OUT_OF_MEMORY = "out_of_memory"
"""Cause of an end that a larger accelerator may do without, as observations and `End` have it."""

DISTURBED = frozenset({"preempted", "evicted", "node_lost", "no_room"})
"""Causes of ends that are not the run's doing."""

NOT_TO_BE_HAD = frozenset({"cloud_quota", "cloud_capacity"})
"""Causes of waits that may end some day, but for which nobody waits who has another choice."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What is known of a run.

    Attributes:
        candidates: The accelerators it may go on.
        rounds: Its rounds so far.
        launches: The launches of the last round by candidate, where they were looked at; those
            that nobody has started yet are left out.
        has_result: Whether it has left its result.
        now: Seconds since 1970.
    """

    candidates: Candidates
    rounds: tuple[RoundState, ...]
    launches: Mapping[int, Observation] = field(default_factory=dict)
    has_result: bool = False
    now: float = 0.0

    def name(self, candidate: int) -> str:
        """Return what a candidate is called."""
        return self.candidates.candidates[candidate].accelerator


@dataclass(frozen=True, kw_only=True)
class Begin:
    """Write the next round; it ends the run where it has no candidates."""

    round: Round


@dataclass(frozen=True, kw_only=True)
class Start:
    """Start a launch of the last round."""

    candidate: int


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """Take the last round's claim, so that nothing of it can begin any more."""

    claim: Claim


@dataclass(frozen=True, kw_only=True)
class NoteEnd:
    """Write why the run of the last round's winner goes on elsewhere."""

    end: End


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Do nothing: none of the last round has begun yet."""


@dataclass(frozen=True, kw_only=True)
class Follow:
    """Follow the launch that calls the function."""

    candidate: int


@dataclass(frozen=True, kw_only=True)
class Over:
    """Do nothing any more: the run has ended.

    Attributes:
        candidate: Whose process says how; None where none was ever to call the function.
        why: Why it has ended, as people read it; empty where the process says it.
    """

    candidate: int | None
    why: str = ""


Decision = Begin | Start | GiveUp | NoteEnd | Wait | Follow | Over


def decide(known: Situation) -> Decision:
    """Return what is to be done next."""
    if not known.rounds:
        return Begin(round=_from_head(known, preemptions=0, why=""))
    last = known.rounds[-1]
    if not last.round.candidates:
        return _closed(known)
    if last.claim is None:
        return _of_open(known, last)
    if last.claim.candidate is None:
        return _after_giving_up(known, last.round, last.claim)
    return _of_winner(known, last, last.claim.candidate)


def ended_without(rounds: tuple[RoundState, ...]) -> str:
    """Return why a run ended that had no accelerator at last, with all that was tried."""
    tried = [state.round.why for state in rounds if state.round.why]
    last = rounds[-1].claim
    tried += [last.why] if last else []
    listed = "".join(f"\n  - {each}" for each in tried)
    return f"none of its accelerators could be had:{listed}"


def is_withdrawn(rounds: tuple[RoundState, ...], launch: Launch, *, is_over: bool = False) -> bool:
    """Whether a launch is not to begin any more, so that its Job is to go.

    Args:
        rounds: The run's rounds.
        launch: The launch.
        is_over: Whether the run has left its result.
    """
    if launch.round >= len(rounds):
        # Somebody knows more than is known here.
        return False
    state = rounds[launch.round]
    if any(each.round.candidates for each in rounds[launch.round + 1 :]):
        return True
    return state.winner != launch.candidate and (state.claim is not None or is_over)


def _closed(known: Situation) -> Over:
    """Return the end of a run whose last round is none any more."""
    before = known.rounds[-2] if len(known.rounds) > 1 else None
    winner = before.winner if before else None
    return Over(candidate=winner, why=known.rounds[-1].round.why)


def _of_open(known: Situation, last: RoundState) -> Decision:
    """Decide about a round that nobody has claimed."""
    absent = [each for each in last.round.candidates if each not in known.launches]
    if absent:
        return Start(candidate=absent[0])
    seen = {each: known.launches[each] for each in last.round.candidates}
    if len(seen) == 1:
        ((candidate, launch),) = seen.items()
        follows = _after(known, candidate) is not None
        why = _left(launch, known.candidates.fallback_after_seconds) if follows else _out(launch)
        if not why:
            return Wait()
        reasons = {candidate: why}
    else:
        reasons = {each: _out(launch) for each, launch in seen.items()}
        if not all(reasons.values()):
            return Wait()
        follows = False
    goes_back = _may_go_back(known, last) and any(map(_is_disturbed, seen.values()))
    why = "; ".join(f"{known.name(each)}: {reason}" for each, reason in reasons.items())
    is_over = not (follows or goes_back)
    return GiveUp(claim=Claim(candidate=None, why=why, is_over=is_over, goes_back=goes_back))


def _after_giving_up(known: Situation, given_up: Round, claim: Claim) -> Decision:
    """Decide what follows a round in which nothing has begun."""
    if claim.is_over:
        return Over(candidate=None, why=claim.why)
    if claim.goes_back:
        return Begin(round=_back(known, given_up, claim.why))
    following = _after(known, given_up.candidates[-1])
    if following is None:
        return Over(candidate=None, why=claim.why)
    why = f"{claim.why}; {known.name(following)} is tried"
    return Begin(round=_round(known, (following,), why, given_up.preemptions))


def _of_winner(known: Situation, last: RoundState, winner: int) -> Decision:
    """Decide about a run whose function one of the candidates calls, or has called."""
    launch = known.launches.get(winner)
    if launch is None or not launch.phase.is_final:
        return Follow(candidate=winner)
    if known.has_result or launch.phase is Phase.SUCCEEDED:
        return Over(candidate=winner)
    larger = known.candidates.larger_than(winner) if known.candidates.on_oom else None
    if last.end is None and launch.cause == OUT_OF_MEMORY and larger is not None:
        return NoteEnd(end=End(cause=OUT_OF_MEMORY, message=_said(launch)))
    name, preemptions = known.name(winner), last.round.preemptions
    if last.end is not None and larger is not None:
        why = f"{name}: {last.end.message}; {known.name(larger)}, which has more memory, is tried"
        return Begin(round=_round(known, (larger,), why, preemptions))
    if _is_disturbed(launch) and _may_go_back(known, last):
        return Begin(round=_back(known, last.round, f"{name}: {_said(launch)}"))
    return Begin(round=_round(known, (), f"{name}: {_said(launch)}", preemptions))


def _may_go_back(known: Situation, last: RoundState) -> bool:
    return last.round.preemptions < known.candidates.max_preemptions


def _is_disturbed(launch: Observation) -> bool:
    return launch.phase is Phase.FAILED and launch.cause in DISTURBED


def _back(known: Situation, before: Round, why: str) -> Round:
    """Return the round with which a run that was disturbed begins its list anew."""
    count, limit = before.preemptions + 1, known.candidates.max_preemptions
    text = f"{why}; its list is tried from the beginning ({count} of at most {limit} times)"
    return _from_head(known, preemptions=count, why=text)


def _from_head(known: Situation, *, preemptions: int, why: str) -> Round:
    places = _eligible(known)
    chosen = places if known.candidates.strategy == "race" else places[:1]
    return _round(known, chosen, why, preemptions)


def _round(known: Situation, places: tuple[int, ...], why: str, preemptions: int) -> Round:
    return Round(candidates=places, why=why, preemptions=preemptions, began=known.now)


def _eligible(known: Situation) -> tuple[int, ...]:
    """Return the candidates that have more memory than each that had too little."""
    listed = known.candidates.candidates
    too_small = [
        listed[state.winner].memory_gb
        for state in known.rounds
        if state.winner is not None and state.end is not None
    ]
    limit = max(too_small, default=-1)
    return tuple(place for place, each in enumerate(listed) if each.memory_gb > limit)


def _after(known: Situation, candidate: int) -> int | None:
    """Return which candidate is tried after another one; None where that was the last."""
    return next((place for place in _eligible(known) if place > candidate), None)


def _out(launch: Observation) -> str:
    """Say why a launch cannot begin any more; empty where it can."""
    if not launch.phase.is_final:
        return ""
    return _said(launch) if launch.phase is not Phase.GONE else "its Job was deleted"


def _left(launch: Observation, limit_seconds: float) -> str:
    """Say why a launch is not waited for any longer where there is another choice; empty if it is.

    Args:
        launch: The launch.
        limit_seconds: For how long it is waited for, until it has its nodes.
    """
    if launch.phase is not Phase.PENDING or launch.is_outdated:
        return _out(launch)
    if launch.is_lasting or launch.cause in NOT_TO_BE_HAD:
        return _said(launch)
    if launch.is_placed or launch.waited_seconds < limit_seconds:
        return ""
    why = f" ({said})" if (said := launch.message or launch.reason) else ""
    return f"nothing in {duration(limit_seconds)}{why}"


def _said(launch: Observation) -> str:
    """Return how a launch ended, or why it waits, without what to do about it."""
    said = launch.message or launch.reason
    if said:
        return said
    code = "" if launch.exit_code is None else f" with exit code {launch.exit_code}"
    return f"its process ended{code}"
