"""What is decided about a run with several accelerators, and the words in which people read it."""

from __future__ import annotations

from typing import Any

from candidate_world import listed
from kinetic_flows.core.candidates import Candidates, Claim, End, Launch, Round
from kinetic_flows.core.launcher import Observation, Phase
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
    is_withdrawn,
)
from kinetic_flows.runs.candidates.rounds import RoundState
from kinetic_flows.runs.candidates.shown import shown_pending

THREE = listed(16, 32, 64, max_preemptions=1)
PREEMPTED = Observation(phase=Phase.FAILED, cause="preempted", message="Google took its VM")
STOCK_OUT = Observation(phase=Phase.PENDING, cause="cloud_capacity", message="the zone has none")


def waiting(seconds: float, **fields: Any) -> Observation:
    """Return a launch that has waited so long."""
    return Observation(phase=Phase.PENDING, waited_seconds=seconds, **fields)


def begun(*places: int, why: str = "", preemptions: int = 0, **fields: Any) -> RoundState:
    """Return a round of these candidates."""
    return RoundState(round=Round(candidates=places, why=why, preemptions=preemptions), **fields)


def decided(
    *rounds: RoundState,
    of: Candidates = THREE,
    has_result: bool = False,
    **launches: Observation,
) -> Decision:
    """Return what is decided about launches `c0`, `c1` of the last round."""
    seen = {int(name[1:]): launch for name, launch in launches.items()}
    known = Situation(candidates=of, rounds=rounds, launches=seen, has_result=has_result)
    return decide(known)


def given_up(decision: Decision) -> Claim:
    assert isinstance(decision, GiveUp)
    return decision.claim


def following(decision: Decision) -> Round:
    assert isinstance(decision, Begin)
    return decision.round


def test_in_order_the_first_is_launched_and_in_a_race_all() -> None:
    assert following(decided()).candidates == (0,)
    race = listed(16, 16, 16, strategy="race")
    assert following(decided(of=race)).candidates == (0, 1, 2)
    assert decided(begun(0, 1, 2), of=race, c1=waiting(1)) == Start(candidate=0)


def test_one_that_waits_is_left_when_its_time_is_over_and_at_once_when_it_cannot_be_had() -> None:
    assert decided(begun(0), c0=waiting(599)) == Wait()
    late = decided(begun(0), c0=waiting(600, message="the autoscaler adds a node"))
    why = "chip-0: nothing in 10 min (the autoscaler adds a node)"
    assert given_up(late) == Claim(candidate=None, why=why)
    assert given_up(decided(begun(0), c0=STOCK_OUT)).why == "chip-0: the zone has none"
    never = waiting(1, cause="no_node_pool", message="no such pool", is_lasting=True)
    assert given_up(decided(begun(0), c0=never)).why == "chip-0: no such pool"
    then = following(decided(begun(0, claim=Claim(candidate=None, why="chip-0: none"))))
    assert (then.candidates, then.why) == ((1,), "chip-0: none; chip-1 is tried")


def test_one_that_has_its_nodes_or_is_not_heard_of_is_not_left() -> None:
    assert decided(begun(0), c0=waiting(1e6, is_placed=True)) == Wait()
    assert decided(begun(0), c0=waiting(1e6, is_outdated=True)) == Wait()
    assert decided(begun(0), c0=Observation(phase=Phase.RUNNING)) == Wait()


def test_the_last_is_waited_for_as_a_run_with_one_accelerator_is() -> None:
    assert decided(begun(2), c2=waiting(1e6)) == Wait()
    assert decided(begun(2), c2=STOCK_OUT) == Wait()
    gone = Observation(phase=Phase.FAILED, message="it did not start within 3600 seconds")
    claim = given_up(decided(begun(0), begun(2, why="chip-0: none; chip-2 is tried"), c2=gone))
    assert claim.is_over
    rounds = (
        begun(0),
        begun(2, why="chip-0: none; chip-2 is tried", claim=claim),
    )
    assert decided(*rounds, c2=gone) == Over(candidate=None, why=claim.why)
    assert ended_without(rounds) == (
        "none of its accelerators could be had:\n"
        "  - chip-0: none; chip-2 is tried\n"
        "  - chip-2: it did not start within 3600 seconds"
    )


def test_a_race_waits_until_none_can_begin_any_more() -> None:
    race = listed(16, 16, strategy="race")
    failed = Observation(phase=Phase.FAILED, message="no image")
    assert decided(begun(0, 1), of=race, c0=failed, c1=STOCK_OUT) == Wait()
    gone = Observation(phase=Phase.GONE)
    claim = given_up(decided(begun(0, 1), of=race, c0=failed, c1=gone))
    assert claim.why == "chip-0: no image; chip-1: its Job was deleted"
    assert claim.is_over


def test_one_that_was_preempted_begins_its_list_anew_as_often_as_it_may() -> None:
    won = begun(1, claim=Claim(candidate=1))
    again = following(decided(won, c1=PREEMPTED))
    assert (again.candidates, again.preemptions) == ((0,), 1)
    assert again.why == (
        "chip-1: Google took its VM; its list is tried from the beginning (1 of at most 1 times)"
    )
    twice = begun(1, preemptions=1, claim=Claim(candidate=1))
    assert following(decided(twice, c1=PREEMPTED)).candidates == ()
    before = given_up(decided(begun(2), c2=PREEMPTED))
    assert (before.goes_back, before.is_over) == (True, False)


def test_what_has_its_result_is_over_whatever_ended_its_process() -> None:
    won = begun(1, claim=Claim(candidate=1))
    assert decided(won, c1=PREEMPTED, has_result=True) == Over(candidate=1)
    assert decided(won, c1=Observation(phase=Phase.RUNNING)) == Follow(candidate=1)


def test_out_of_memory_goes_on_with_more_of_it_and_never_with_less_again() -> None:
    larger = listed(32, 16, 64, on_oom="larger", max_preemptions=1)
    killed = Observation(phase=Phase.FAILED, cause="out_of_memory", message="killed")
    won = begun(0, claim=Claim(candidate=0))
    end = End(cause="out_of_memory", message="killed")
    assert decided(won, of=larger, c0=killed) == NoteEnd(end=end)
    noted = begun(0, claim=Claim(candidate=0), end=end)
    then = following(decided(noted, of=larger, c0=killed))
    assert then.candidates == (2,)
    assert then.why == "chip-0: killed; chip-2, which has more memory, is tried"
    back = decided(noted, begun(2, claim=Claim(candidate=2)), of=larger, c2=PREEMPTED)
    assert following(back).candidates == (2,)
    largest = decided(noted, begun(2, claim=Claim(candidate=2)), of=larger, c2=killed)
    assert following(largest).candidates == ()
    assert following(decided(won, c0=killed)).candidates == ()


def test_a_run_that_was_closed_is_over_and_ends_as_its_process_did() -> None:
    closed = begun(why="cancelled")
    won = begun(1, claim=Claim(candidate=1))
    assert decided(won, closed) == Over(candidate=1, why="cancelled")
    assert decided(closed) == Over(candidate=None, why="cancelled")


def test_launches_are_withdrawn_that_are_not_to_begin_any_more() -> None:
    race, won = begun(0, 1), begun(0, 1, claim=Claim(candidate=1))
    first, second = (Launch(round=0, candidate=place) for place in (0, 1))
    assert not is_withdrawn((race,), first)
    assert is_withdrawn((race,), first, is_over=True)
    assert [is_withdrawn((won,), each) for each in (first, second)] == [True, False]
    assert not is_withdrawn((won, begun()), second)
    assert is_withdrawn((won, begun(0)), second)
    assert not is_withdrawn((won,), Launch(round=1, candidate=0))


def test_a_run_that_waits_says_which_accelerator_waits_for_what() -> None:
    one = shown_pending(THREE, {0: waiting(1, reason="a; do b", message="a", cause="queue")}, "")
    assert (one.phase, one.reason, one.cause) == (Phase.PENDING, "chip-0: a; do b", "queue")
    several = shown_pending(THREE, {0: STOCK_OUT, 1: waiting(1, reason="c", message="c")}, "")
    assert several.reason == "chip-0: the zone has none; chip-1: c"
    assert shown_pending(THREE, {}, "it is away").reason == "it is away"
