"""Making the plan of a call on several accelerators: one for each, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kinetic_flows.core.interruption import in_threads
from kinetic_flows.plans.candidates import drafts_of
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.planned_list import PlannedCandidate, PlannedList

if TYPE_CHECKING:
    from kinetic_flows.plans.plan import RunPlan
    from kinetic_flows.plans.planning import PlanOnOne


def plan_list(draft: Draft, plan_one: Callable[[Draft], PlanOnOne]) -> RunPlan:
    """Return the plan of a call on several accelerators: that on the first, with the others.

    Args:
        draft: The call.
        plan_one: Makes the plan on one accelerator.

    Raises:
        KineticError: The dependencies or the image of one of them cannot be.
    """
    first, *others = drafts_of(draft)
    # What is the same for all, such as the digests of data, is kept from then on.
    plans = [plan_one(first), *in_threads(plan_one, others, threads=len(others))]
    own = {
        each.plan.accelerator: tuple(
            problem for problem in each.problems if not _is_common(problem, plans)
        )
        for each in plans
    }
    remaining = [each for each in plans if not own[each.plan.accelerator]]
    chosen = (remaining or plans)[0].plan
    options = draft.call.options
    return replace(
        chosen,
        accelerator=draft.runs_on,
        warnings=tuple(dict.fromkeys(line for each in plans for line in each.plan.warnings)),
        notices=tuple(dict.fromkeys(line for each in plans for line in each.plan.notices)),
        obstacles=tuple(dict.fromkeys(_obstacles(plans, own, is_hopeless=not remaining))),
        choice=PlannedList(
            candidates=tuple(_candidate(each.plan, own) for each in plans),
            strategy=options.strategy,
            fallback_after_seconds=options.fallback_after_seconds,
            on_oom=options.on_oom,
        ),
    )


def _is_common(problem: str, plans: Sequence[PlanOnOne]) -> bool:
    return all(problem in each.plan.obstacles for each in plans)


def _obstacles(
    plans: Sequence[PlanOnOne], own: dict[str, tuple[str, ...]], *, is_hopeless: bool
) -> Iterator[str]:
    """Return what keeps the call from every accelerator."""
    for each in plans:
        name = each.plan.accelerator
        for obstacle in each.plan.obstacles:
            if _is_common(obstacle, plans):
                yield obstacle
            elif obstacle not in own[name] or is_hopeless:
                yield f"{name}: {obstacle}"


def _candidate(plan: RunPlan, own: dict[str, tuple[str, ...]]) -> PlannedCandidate:
    return PlannedCandidate(
        accelerator=plan.accelerator,
        hardware=plan.hardware,
        asks_for=plan.asks_for,
        rooms=plan.rooms,
        image=plan.image,
        cached=plan.cached,
        left_out=own[plan.accelerator],
        past=plan.past,
        cost=plan.cost,
        rehearsed=plan.rehearsed,
    )
