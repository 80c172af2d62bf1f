"""What a plan says of the directory of outputs: whether another run writes there."""

from __future__ import annotations

from dataclasses import replace

from kinetic_flows.clients.prefect.history import briefly
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.output_dirs import fields_of
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.plan import RunPlan
from kinetic_flows.runs.output_lease import OutputLeases


def planned_use(draft: Draft, plan: RunPlan) -> RunPlan:
    """Return a plan that says which other run writes where its outputs would go.

    Args:
        draft: The call.
        plan: Its plan; where it names no Prefect API, nobody is asked.
    """
    spec = draft.output
    if spec is None or fields_of(spec.place) or plan.prefect_api is None:
        return plan
    try:
        with briefly(plan.prefect_api) as api:
            writer = OutputLeases(draft.platform, api, only_looks=True).writer(spec.place)
    except KineticError as error:
        told = f"nobody knows whether another run writes to {spec.place}: {error.message}"
        return replace(plan, warnings=(*plan.warnings, told))
    if writer is None:
        return plan
    if spec.in_use == "wait":
        return replace(plan, notices=(*plan.notices, f"it would wait for {writer}"))
    told = f"{writer} writes to {spec.place}, and has not ended"
    return replace(plan, obstacles=(*plan.obstacles, told))
