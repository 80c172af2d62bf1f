"""Comparing what is wanted with what is there: everything at once, and changing nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from kinetic_flows.clients.google.refusals import CloudRefusal
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.platforms.gke.setup.failures import Failure, failed
from kinetic_flows.platforms.gke.setup.model import Change, Resource, Stage

THREADS = 12
"""How many resources are looked at at a time."""

NOT_THERE = ("api-off", "missing")
"""Why something cannot be looked at because it cannot be there."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A stage, and what is to be done in it.

    Attributes:
        stage: The stage.
        changes: What is to be done about each of its resources, in their order.
    """

    stage: Stage
    changes: tuple[Change, ...]

    @property
    def is_needed(self) -> bool:
        """Whether something is to be done."""
        return any(change.is_needed for change in self.changes)

    def needed(self) -> Stage:
        """Return the stage with those of its resources only about which something is done."""
        both = zip(self.stage.resources, self.changes, strict=True)
        left = tuple(resource for resource, change in both if change.is_needed)
        return Stage(title=self.stage.title, resources=left)


def compare_all(stages: Sequence[Stage]) -> tuple[Compared, ...]:
    """Look at everything, and return what is to be done.

    The first stage says whether the project can be used at all, so it is looked at before the
    others, which are looked at together.

    Raises:
        CloudError: Something cannot be looked at; all that cannot is told at once.
        KineticError: The one thing that cannot be looked at.
    """
    first = _together(stages[:1], _compare)
    return first + _together(stages[1:], _compare)


def plan_removal(stages: Sequence[Stage], *, purge: bool) -> tuple[Compared, ...]:
    """Look at everything, and return what is removed and what is left, in the order of removal.

    Args:
        stages: What there may be, in the order in which it is made.
        purge: Whether what holds people's data is removed, too.

    Raises:
        CloudError: Something cannot be looked at; all that cannot is told at once.
        KineticError: The one thing that cannot be looked at.
    """
    look = partial(_plan_removal, purge=purge)
    first = _together(stages[:1], look)
    return tuple(reversed(first + _together(stages[1:], look)))


def needed(compared: Iterable[Compared]) -> tuple[Stage, ...]:
    """Return what is to be done: stages of resources that are not as wanted."""
    return tuple(each.needed() for each in compared if each.is_needed)


def _compare(resource: Resource) -> Change:
    try:
        return resource.compare()
    except CloudRefusal as error:
        if error.reason not in NOT_THERE:
            raise
        return resource.creation()


def _plan_removal(resource: Resource, *, purge: bool) -> Change:
    try:
        return resource.plan_removal(purge=purge)
    except CloudRefusal as error:
        if error.reason not in NOT_THERE:
            raise
        return Change(kind=resource.kind, name=resource.name, action="keep")


def _together(stages: Sequence[Stage], look: Callable[[Resource], Change]) -> tuple[Compared, ...]:
    resources = [resource for stage in stages for resource in stage.resources]
    found = in_threads(partial(_caught, look), resources, threads=THREADS)
    failures = [
        Failure(kind=resource.kind, name=resource.name, error=each)
        for resource, each in zip(resources, found, strict=True)
        if isinstance(each, KineticError)
    ]
    if failures:
        raise failed("cannot be looked at", failures)
    changes = iter([each for each in found if isinstance(each, Change)])
    return tuple(
        Compared(stage=stage, changes=tuple(next(changes) for _ in stage.resources))
        for stage in stages
    )


def _caught(look: Callable[[Resource], Change], resource: Resource) -> Change | KineticError:
    try:
        return look(resource)
    except KineticError as error:
        return error
