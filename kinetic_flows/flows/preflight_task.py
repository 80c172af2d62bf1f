"""The task that finds out whether a run could be launched, before anything is made for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kinetic_flows.clients.prefect.flow_names import TASK_PREFLIGHT
from kinetic_flows.core.errors import LaunchError, suggest
from kinetic_flows.core.settings.pool_variables import unknown_variables
from kinetic_flows.flows.own_tasks import own_task
from kinetic_flows.flows.steps import step
from kinetic_flows.plans.draft import Draft
from kinetic_flows.runs.session import Session


@own_task(TASK_PREFLIGHT)
def preflight_task(draft: Draft, session: Session) -> None:
    """Ask the cluster everything that a launch depends on, at once.

    Raises:
        LaunchError: The launch could not succeed: every reason is listed.
    """
    with step(session.progress, TASK_PREFLIGHT) as current:
        platform, options = session.platform, draft.call.options
        template = session.job_template or platform.worker_pool.template()
        _refuse_unknown(platform.chosen_variables(options), template)
        found = platform.launcher.preflight(
            platform.launch_needs(draft.accelerator, draft.mode, options, template, session.api.url)
        )
        for warning in found.warnings:
            current.warn(warning)
        found.raise_for_problems()
        current.finish(f"the cluster is ready for {draft.accelerator}")


def _refuse_unknown(chosen: Mapping[str, Any], template: Mapping[str, Any]) -> None:
    known = (template.get("variables") or {}).get("properties") or {}
    for name in unknown_variables(chosen, template):
        raise LaunchError(
            f"the work pool's template has no variable {name!r}, which job_variables sets",
            value=name,
            hint=suggest(name, known),
        )
