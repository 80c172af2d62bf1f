"""Every interleaving of drivers, runners and a cluster, of a run with several accelerators."""

from __future__ import annotations

import json
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from candidate_world import ADriver, World, listed
from kinetic_flows.core.candidates import Candidates
from kinetic_flows.core.launcher import Phase
from kinetic_flows.core.object_names import result_object, round_object

DRIVERS = 3
STEPS_TO_THE_END = 400
GOES_ON = 10
"""How much likelier it is that a driver goes on than that it is killed."""

OFTEN = {"starts": 4, "waited": 4, "claims": 3, "preempted": 3, "returns": 1, "raises": 1}
"""How likely the steps of runners and Jobs are, so that much happens before the run ends."""

GOES_WELL = ("is gone", "leaves", "returns", "calls", "claims", "starts")
"""What happens in the end, when nothing goes wrong any more."""

LISTS = st.builds(
    listed,
    st.sampled_from((16, 32)),
    st.sampled_from((16, 32)),
    st.sampled_from((16, 64)),
    strategy=st.sampled_from(("in_order", "race")),
    on_oom=st.sampled_from((None, "larger")),
    max_preemptions=st.integers(0, 2),
)


def choices_of(
    world: World, drivers: list[ADriver], *, cancels: bool
) -> list[tuple[str, Callable[[], None]]]:
    """Return what may happen next, by name."""
    found: list[tuple[str, Callable[[], None]]] = []
    for number, driver in enumerate(drivers):
        found += [(f"driver {number} goes on", driver.go_on)] * GOES_ON
        found += [(f"driver {number} hears", driver.hear)] * 2
        found.append((f"driver {number} is killed", lambda at=number: renew(world, drivers, at)))
        if cancels:
            found.append((f"driver {number} cancels", lambda d=driver: d.go_on(stops=True)))
    found += [step for step in world.steps() for _ in range(OFTEN.get(step[0].split()[-1], 2))]
    away = not world.is_store_away
    found.append((f"store away: {away}", lambda: vars(world).update(is_store_away=away)))
    return found


def renew(world: World, drivers: list[ADriver], at: int) -> None:
    """Kill a driver; another client comes in its place."""
    drivers[at].die()
    drivers[at] = ADriver(world, sees_late=bool(at))


def end(world: World, drivers: list[ADriver]) -> None:
    """Let everybody go on in turn, and the function return, until the run has ended."""
    world.is_store_away = False
    for _ in range(STEPS_TO_THE_END):
        for driver in drivers:
            driver.hear()
            driver.finish()
        if all(driver.seen and driver.seen.phase.is_final for driver in drivers):
            return
        steps = dict(world.steps())
        good = [name for name in steps if name.split(" ", 1)[1] in GOES_WELL]
        if good:
            steps[good[0]]()
    raise AssertionError(f"the run has not ended: {[driver.seen for driver in drivers]}")


def what_is_left(world: World) -> list[str]:
    """Return the Jobs that have not ended when everything that is being deleted is gone."""
    for job in world.jobs.values():
        if job.is_deleting:
            job.phase, job.is_deleting = "gone", False
    return [str(job.launch) for job in world.jobs.values() if job.lives]


@settings(max_examples=4 * settings().max_examples)
@given(LISTS, st.lists(st.integers(0, 10_000), max_size=120), st.booleans())
def test_one_calls_the_function_and_the_run_ends_with_nothing_left(
    candidates: Candidates, choices: list[int], cancels: bool
) -> None:
    world = World(candidates)
    drivers = [ADriver(world, sees_late=bool(at)) for at in range(DRIVERS)]
    for choice in choices:
        possible = choices_of(world, drivers, cancels=cancels)
        possible[choice % len(possible)][1]()
    end(world, drivers)
    assert not what_is_left(world)
    # As everybody sees it, who looks at any time later.
    late = ADriver(world)
    late.finish()
    assert late.seen is not None
    assert late.seen.phase.is_final
    if not cancels:
        for number in world.moved_on:
            begun = json.loads(world.objects[round_object(world.run_id, number + 1)])
            assert begun["candidates"], "it was to go on elsewhere, and has not"
    phases = {driver.seen.phase for driver in (*drivers, late) if driver.seen}
    if result_object(world.run_id) in world.objects:
        return
    assert len(phases) == 1


def test_who_looks_at_a_run_that_nobody_wants_any_more_launches_nothing() -> None:
    world = World(listed(16, 32))
    first, late = ADriver(world), ADriver(world)
    first.finish()
    assert [str(job.launch) for job in world.jobs.values()] == ["r0c0"]
    world.is_wanted = False
    (job,) = world.jobs.values()
    job.cause = "no_node_pool"
    late.finish()
    assert late.seen
    assert (late.seen.phase, late.seen.reason) == (Phase.FAILED, "cancelled")
    assert [str(job.launch) for job in world.jobs.values()] == ["r0c0"]
    assert not what_is_left(world)
