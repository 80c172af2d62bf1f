"""Rehearsing a remote function: the part that needs Prefect."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kinetic_flows.api.accelerator_names import with_accelerator
from kinetic_flows.api.drafts import shown_reading
from kinetic_flows.api.rehearsal import Rehearsal
from kinetic_flows.code.root import source_directory, working_directory
from kinetic_flows.core.functions import flow_name
from kinetic_flows.flows import rehearse as flow
from kinetic_flows.plans.draft import Call, draft_call
from kinetic_flows.plans.rehearsal_plan import (
    RehearsalPlan,
    plan_rehearsal,
    rehearsal_choice,
    rehearsal_options,
    rehearsed_accelerators,
    require_rehearsal,
)
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.runs.session import configure, open_session

if TYPE_CHECKING:
    from kinetic_flows.api.front import Opening
    from kinetic_flows.api.remote_function import RemoteFunction


def rehearse(
    opening: Opening, remote: RemoteFunction[..., Any], accelerators: Sequence[str] | None
) -> Rehearsal:
    """Compile a function's steps for accelerators that are not there.

    Args:
        opening: What it begins with.
        remote: The function.
        accelerators: What to compile for; None for what the function runs on.
    """
    plan = _decided(opening, remote, accelerators)
    environ, progress = opening.environ, opening.progress
    with open_session(plan.settings, environ, progress, plan.platform) as session:
        return Rehearsal(record=flow.rehearse(plan, session))


def _decided(
    opening: Opening, remote: RemoteFunction[..., Any], accelerators: Sequence[str] | None
) -> RehearsalPlan:
    """Decide a rehearsal, telling the person what they should know."""
    bound = remote._bound  # noqa: SLF001 - a decorated function's own
    name = flow_name(remote.fn, remote.options.name)
    require_rehearsal(name, remote.rehearsed, bound)
    options = with_accelerator(rehearsal_options(remote.options, accelerators), remote.fn)
    call = Call(
        function=remote.fn,
        args=bound,
        kwargs={},
        options=replace(options, name=name),
        may_lack_arguments=True,
        rehearsal=remote.rehearsed,
        bound=bound,
    )
    cwd, environ, progress = working_directory(), opening.environ, opening.progress
    settings = configure(
        opening.settings,
        environ,
        progress,
        remote.options.cloud,
        directory=source_directory(remote.fn, cwd),
    )
    platform = choose_platform(settings, environ)
    platform.require_login()
    with shown_reading(progress):
        found = rehearsed_accelerators(options, settings, platform)
        choice = rehearsal_choice(found[0], options, settings, platform)
        draft = draft_call(
            call, settings, platform, cwd=cwd, sys_path=sys.path, environ=environ, choice=choice
        )
        plan = plan_rehearsal(draft, environ, found)
    for notice in draft.notices:
        progress.aside(notice)
    for warning in draft.warnings:
        progress.warning(warning)
    return plan
