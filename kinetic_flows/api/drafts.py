"""What is decided of a call of a remote function before anything is done; no Prefect is needed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kinetic_flows.code.root import working_directory
from kinetic_flows.core.home import usable_home
from kinetic_flows.core.progress import Progress
from kinetic_flows.core.settings.settings import load_settings, process_environment
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.plans.call_plans import plan_call
from kinetic_flows.plans.draft import Call, Draft, draft_call
from kinetic_flows.plans.plan import RunPlan
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.runs.session import configure

if TYPE_CHECKING:
    from kinetic_flows.api.remote_function import RemoteFunction


def draft(
    remote: RemoteFunction[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    may_lack_arguments: bool = False,
) -> tuple[Draft, Progress]:
    """Decide what can be decided at once, telling the person what they should know.

    Args:
        remote: The function.
        args: Its positional arguments, the bound ones included.
        kwargs: Its keyword arguments.
        may_lack_arguments: Whether arguments may be left out.
    """
    cwd = working_directory()
    call = Call(
        function=remote.fn,
        args=args,
        kwargs=dict(kwargs),
        options=remote.options,
        may_lack_arguments=may_lack_arguments,
    )
    progress = terminal_progress(quiet=load_settings().quiet)
    environ = process_environment()
    settings = configure(environ, progress, remote.options.cloud)
    platform = choose_platform(settings, environ)
    drafted = draft_call(call, settings, platform, cwd=cwd, sys_path=sys.path)
    for notice in drafted.notices:
        progress.notice(notice)
    for warning in drafted.warnings:
        progress.warning(warning)
    return drafted, progress


def plan(
    remote: RemoteFunction[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> RunPlan:
    """Decide everything about a call and do nothing of it."""
    with usable_home():
        drafted, _ = draft(remote, args, kwargs, may_lack_arguments=True)
        return plan_call(drafted, process_environment())
