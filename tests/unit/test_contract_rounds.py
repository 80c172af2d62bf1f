"""What a run with a list of accelerators does next: its client and its driver decide alike."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kinetic_flows.runner_image.runner import rounds as theirs

from kinetic_flows.core.candidates import Candidate, Candidates, Claim, End, Round
from kinetic_flows.core.launcher import Observation, Phase
from kinetic_flows.core.moments import duration
from kinetic_flows.runs.candidates import decide as ours
from kinetic_flows.runs.candidates.rounds import RoundState

NOW = 1_000.0
SEEN = {
    "waits": Observation(phase=Phase.PENDING),
    "waits, and says why": Observation(phase=Phase.PENDING, message="the zone has none"),
    "runs": Observation(phase=Phase.RUNNING),
    "has returned": Observation(phase=Phase.SUCCEEDED),
    "failed": Observation(phase=Phase.FAILED, message="its image is not there"),
    "was preempted": Observation(phase=Phase.FAILED, cause="preempted", message="preempted"),
    "ran out": Observation(phase=Phase.FAILED, cause="out_of_memory", message="OOMKilled"),
}

texts = st.sampled_from(["", "why"])
claims = st.none() | st.builds(
    Claim, candidate=st.none(), why=texts, is_over=st.booleans(), goes_back=st.booleans()
)


@st.composite
def situations(draw: st.DrawFn) -> ours.Situation:
    """Draw a run somewhere on its way, not always one that it could come to."""
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    listed = Candidates(
        candidates=tuple(
            Candidate(
                accelerator=f"chip-{number}",
                image={},
                job="",
                job_sha256="",
                job_variables={},
                memory_gb=size,
            )
            for number, size in enumerate(sizes)
        ),
        function="train",
        strategy=draw(st.sampled_from(["in_order", "race"])),
        fallback_after_seconds=60.0,
        on_oom=draw(st.sampled_from([None, "larger"])),
        max_preemptions=draw(st.integers(0, 2)),
    )
    rounds = tuple(draw(st.lists(_rounds(len(sizes)), max_size=3)))
    launches = {}
    for candidate in rounds[-1].round.candidates if rounds else ():
        kind = draw(st.sampled_from([None, *SEEN]))
        if kind is not None:
            waited = draw(st.sampled_from([0.0, 61.0])) if kind.startswith("waits") else 0.0
            launches[candidate] = replace(SEEN[kind], waited_seconds=waited)
    return ours.Situation(
        candidates=listed,
        rounds=rounds,
        launches=launches,
        has_result=draw(st.booleans()),
        now=NOW,
    )


def _rounds(count: int) -> st.SearchStrategy[RoundState]:
    places = st.lists(st.integers(0, count - 1), unique=True, max_size=count).map(sorted)
    begun = st.builds(Round, candidates=places.map(tuple), why=texts, preemptions=st.integers(0, 2))

    def state(begun: Round) -> st.SearchStrategy[RoundState]:
        owned = st.sampled_from(begun.candidates or (0,)).map(lambda each: Claim(candidate=each))
        ends = st.none() | st.just(End(cause="out_of_memory", message="no HBM left"))
        return st.one_of(
            st.builds(RoundState, round=st.just(begun), claim=claims),
            st.builds(RoundState, round=st.just(begun), claim=owned, end=ends),
        )

    return begun.flatmap(state)


def _to_theirs(known: ours.Situation) -> theirs.Situation:
    return theirs.Situation(
        listed=asdict(known.candidates),
        rounds=tuple(
            theirs.RoundState(
                asdict(each.round),
                asdict(each.claim) if each.claim else None,
                asdict(each.end) if each.end else None,
            )
            for each in known.rounds
        ),
        launches={place: _seen(each) for place, each in known.launches.items()},
        has_result=known.has_result,
        now=known.now,
    )


def _seen(launch: Observation) -> theirs.Seen:
    causes = {"preempted": theirs.DISTURBED, "out_of_memory": theirs.OUT_OF_MEMORY}
    return theirs.Seen(
        is_final=launch.phase.is_final,
        is_success=launch.phase is Phase.SUCCEEDED,
        cause=causes.get(launch.cause, ""),
        message=launch.message,
        waited_seconds=launch.waited_seconds,
    )


def _said(decision: Any) -> tuple[str, dict[str, Any]]:
    """Return a decision's kind and what it says, whichever side has made it."""
    fields = decision._asdict() if hasattr(decision, "_asdict") else asdict(decision)
    for part in fields.values():
        if isinstance(part, dict) and "candidates" in part:
            part["candidates"] = tuple(part["candidates"])
    return type(decision).__name__, fields


@given(situations())
def test_the_client_and_the_driver_decide_alike(known: ours.Situation) -> None:
    # Of what waits, Prefect knows no phase but that it has not ended.
    if any(launch.phase is Phase.RUNNING for launch in known.launches.values()):
        known = replace(
            known,
            launches={
                place: SEEN["waits"] if launch.phase is Phase.RUNNING else launch
                for place, launch in known.launches.items()
            },
        )
    decision = ours.decide(known)
    assert _said(theirs.decide(_to_theirs(known))) == _said(decision)
    if isinstance(decision, ours.Over) and known.rounds:
        told = theirs.ended_without(_to_theirs(known).rounds)
        assert told == ours.ended_without(known.rounds)


@pytest.mark.parametrize("seconds", [0, 5.0, 9.96, 59.7, 60.0, 61, 600.0, 3600, 3900.0, 86_400])
def test_both_say_durations_alike(seconds: float) -> None:
    assert theirs.in_words(seconds) == duration(seconds)
