"""Comparing and changing stage by stage: what is looked at, done, left undone, and told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from kinetic_flows.clients.google.refusals import CloudRefusal, Reason
from kinetic_flows.core.errors import CloudError, KineticError
from kinetic_flows.platforms.gke.setup.apply import Patience, apply_all, remove_all
from kinetic_flows.platforms.gke.setup.compare import (
    compare_all,
    needed,
    plan_removal,
)
from kinetic_flows.platforms.gke.setup.model import Change, Stage, Step, Tell


def refused(reason: Reason, words: str) -> CloudRefusal:
    error = CloudRefusal(words, hint="ask for it")
    error.reason = reason
    return error


@dataclass(kw_only=True)
class Thing:
    """A resource of this test's own: there or not, and told what goes wrong with it."""

    name: str
    kind: str = "thing"
    is_there: bool = False
    is_ours: bool = True
    look: Callable[[], None] = lambda: None
    work: Callable[[], None] = lambda: None
    done: list[str] = field(default_factory=list)

    def creation(self) -> Change:
        return Change(kind=self.kind, name=self.name, action="create")

    def compare(self) -> Change:
        self.look()
        if not self.is_there:
            return self.creation()
        return Change(kind=self.kind, name=self.name, action="keep")

    def apply(self, tell: Tell) -> None:
        tell("half")
        self.work()
        self.is_there = True
        self.done.append("applied")

    def plan_removal(self, *, purge: bool) -> Change:
        self.look()
        if not self.is_there:
            return Change(kind=self.kind, name=self.name, action="keep")
        if self.is_ours or purge:
            return Change(kind=self.kind, name=self.name, action="remove")
        return Change(kind=self.kind, name=self.name, action="leave", why="it is data")

    def remove(self, tell: Tell) -> None:
        self.work()
        self.is_there = False
        self.done.append("removed")


def stage(*things: Thing, title: str = "stage") -> Stage:
    return Stage(title=title, resources=things)


def raises(*errors: KineticError) -> Callable[[], None]:
    """Return what raises these, one at a call, and then nothing."""
    left = list(errors)

    def fail() -> None:
        if left:
            raise left.pop(0)

    return fail


def always(error: KineticError) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def silent(step: Step) -> None:
    """Take no notice."""


def test_only_what_is_not_there_is_worked_on() -> None:
    there, absent = Thing(name="a", is_there=True), Thing(name="b")
    stages = (stage(there), stage(absent))
    assert apply_all(needed(compare_all(stages)), silent) == 1
    assert (there.done, absent.done) == ([], ["applied"])
    assert needed(compare_all(stages)) == ()


def test_what_cannot_be_there_yet_is_to_be_created() -> None:
    gone = always(refused("missing", "no such cluster"))
    off = always(refused("api-off", "the API is off"))
    compared = compare_all(
        (stage(Thing(name="p")), stage(Thing(name="x", look=gone), Thing(name="y", look=off)))
    )
    assert [change.action for each in compared for change in each.changes] == ["create"] * 3
    assert (
        plan_removal((stage(Thing(name="x", look=gone)),), purge=False)[0].changes[0].action
        == "keep"
    )


def test_all_that_cannot_be_looked_at_is_told_at_once() -> None:
    things = (
        Thing(name="a", look=always(CloudError("cannot get a", hint="do this"))),
        Thing(name="b", look=always(CloudError("cannot get b", hint="do that"))),
        Thing(name="c"),
    )
    with pytest.raises(CloudError) as told:
        compare_all((stage(Thing(name="p")), stage(*things)))
    assert "2 things cannot be looked at" in str(told.value)
    assert str(told.value).splitlines()[1:] == [
        "  - cannot get a",
        "    do this",
        "  - cannot get b",
        "    do that",
    ]


def test_one_reason_is_told_once_for_all_it_stops() -> None:
    things = tuple(
        Thing(name=name, look=always(refused("permission", f"cannot get {name}")))
        for name in "abcde"
    )
    with pytest.raises(CloudRefusal) as told:
        compare_all((stage(Thing(name="p")), stage(*things)))
    assert told.value.message == "cannot get a (likewise thing b, thing c, thing d and 1 more)"
    assert told.value.hint == "ask for it"


def test_nothing_else_is_looked_at_where_the_project_cannot_be_used() -> None:
    looked: list[str] = []
    project = Thing(name="p", look=always(CloudError("no project p")))
    with pytest.raises(CloudError, match="no project p"):
        compare_all((stage(project), stage(Thing(name="x", look=lambda: looked.append("x")))))
    assert looked == []


def test_an_error_lets_its_stage_finish_and_stops_the_next() -> None:
    first = Thing(name="first")
    bad = Thing(name="bad", work=always(CloudError("it is full", hint="ask for more")))
    good, later = Thing(name="good"), Thing(name="later")
    with pytest.raises(CloudError) as told:
        apply_all((stage(first), stage(bad, good), stage(later)), silent)
    assert (first.is_there, good.is_there, later.is_there) == (True, True, False)
    assert str(told.value) == (
        "it is full (2 done before it stay as they are)\n"
        "  hint: ask for more; then run the same command again: it goes on from here"
    )


def test_run_again_it_goes_on_from_there() -> None:
    flaky = Thing(name="flaky", work=raises(CloudError("it failed half way")))
    good, later = Thing(name="good"), Thing(name="later")
    stages = (stage(flaky, good), stage(later))
    with pytest.raises(CloudError):
        apply_all(needed(compare_all(stages)), silent)
    apply_all(needed(compare_all(stages)), silent)
    assert (flaky.done, good.done, later.done) == (["applied"], ["applied"], ["applied"])


def test_an_api_that_was_turned_on_just_now_is_asked_again() -> None:
    off = refused("api-off", "it is off")
    slow = Thing(name="slow", work=raises(off, off))
    steps: list[Step] = []
    apply_all((stage(slow),), steps.append, patience=Patience(api_pauses_seconds=(0.0, 0.0)))
    assert slow.is_there
    assert [step.text for step in steps if "turned on" in step.text] == [
        "its API is being turned on"
    ] * 2


def test_an_api_that_stays_off_is_told() -> None:
    off = Thing(name="off", work=always(refused("api-off", "the API is off")))
    with pytest.raises(CloudRefusal, match="the API is off"):
        apply_all((stage(off),), silent, patience=Patience(api_pauses_seconds=(0.0,)))


def test_every_step_is_told_in_its_order() -> None:
    steps: list[Step] = []
    bad = Thing(name="b", work=always(CloudError("it is full")))
    with pytest.raises(CloudError):
        apply_all((stage(Thing(name="a")), stage(bad)), steps.append)
    assert [f"{step} ({step.state})" for step in steps] == [
        "thing a: begun (begun)",
        "thing a: half (going)",
        "thing a: done (done)",
        "thing b: begun (begun)",
        "thing b: half (going)",
        "thing b: it is full (failed)",
    ]


def test_resources_of_a_stage_are_worked_on_together() -> None:
    together = threading.Barrier(3, timeout=30)
    things = [Thing(name=name, work=lambda: together.wait() and None) for name in "abc"]
    apply_all((stage(*things),), silent)
    assert all(thing.is_there for thing in things)


def test_removal_goes_backwards_and_leaves_what_is_not_ours() -> None:
    order: list[str] = []
    cluster = Thing(name="cluster", is_there=True)
    bucket = Thing(name="bucket", is_there=True, is_ours=False)
    pool = Thing(name="pool", is_there=True)
    for thing in (cluster, bucket, pool):
        thing.work = lambda name=thing.name: order.append(name)
    stages = (stage(bucket), stage(cluster), stage(pool))
    planned = plan_removal(stages, purge=False)
    assert [change.action for each in planned for change in each.changes] == [
        *("remove", "remove"),
        "leave",
    ]
    assert remove_all(needed(planned), silent) == 2
    assert order == ["pool", "cluster"]
    assert remove_all(needed(plan_removal(stages, purge=True)), silent) == 1
    assert needed(plan_removal(stages, purge=True)) == ()
