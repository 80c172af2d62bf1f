"""Planning a call of a remote function: the part that needs no Prefect."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kinetic_flows.api.front import Opening, open_call
from kinetic_flows.code.root import source_directory, working_directory
from kinetic_flows.core.home import usable_home
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.progress import Progress
from kinetic_flows.plans.draft import Call, Draft, draft_call
from kinetic_flows.plans.plan import RunPlan
from kinetic_flows.plans.planning import plan_call
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.runs.output_plan import planned_use
from kinetic_flows.runs.session import Session, configure, open_session

if TYPE_CHECKING:
    from kinetic_flows.api.remote_function import RemoteFunction
    from kinetic_flows.core import watched_options
else:
    # Most calls are watched by nobody.
    watched_options = LazyModule("kinetic_flows.core.watched_options")

STEP_READ = "read-project"


@dataclass(frozen=True, kw_only=True)
class Drafted:
    """What a call of a remote function works with, once it is decided.

    Attributes:
        draft: What is decided about it.
        progress: Who watches.
        environ: This process's variables, as they were when it was called.
    """

    draft: Draft
    progress: Progress
    environ: Mapping[str, str]

    def open_session(self) -> AbstractContextManager[Session]:
        """Open a session with the settings of the call."""
        return open_session(self.draft.settings, self.environ, self.progress, self.draft.platform)


def draft(
    opening: Opening,
    remote: RemoteFunction[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    may_lack_arguments: bool = False,
) -> Drafted:
    """Decide what can be decided at once, telling the person what they should know.

    Args:
        opening: What the call begins with.
        remote: The function.
        args: Its positional arguments, the bound ones included.
        kwargs: Its keyword arguments.
        may_lack_arguments: Whether arguments may be left out.
    """
    drafted = decided(opening, remote, args, kwargs, may_lack_arguments=may_lack_arguments)
    # The project's own settings may name the accelerator, and the cluster its whole name.
    opening.begin(drafted.draft.runs_on)
    _, told = watched_options.called_anew(remote.options) if _is_watched(remote) else (None, "")
    for notice in filter(None, (told, *drafted.draft.notices)):
        drafted.progress.aside(notice)
    for warning in drafted.draft.warnings:
        drafted.progress.warning(warning)
    return drafted


def decided(
    opening: Opening,
    remote: RemoteFunction[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    may_lack_arguments: bool,
    is_only_planned: bool = False,
) -> Drafted:
    """Decide what can be decided at once, and tell nothing.

    Args:
        opening: What the call begins with.
        remote: The function.
        args: Its positional arguments, the bound ones included.
        kwargs: Its keyword arguments.
        may_lack_arguments: Whether arguments may be left out.
        is_only_planned: Whether no server is started for it.
    """
    cwd, options = working_directory(), remote.options
    call = Call(
        function=remote.fn,
        args=args,
        kwargs=dict(kwargs),
        options=watched_options.called_anew(options)[0] if _is_watched(remote) else options,
        may_lack_arguments=may_lack_arguments,
        rehearsal=remote.rehearsed,
        bound=remote._bound,  # noqa: SLF001 - a decorated function's own
    )
    environ, progress = opening.environ, opening.progress
    settings = configure(
        opening.settings,
        environ,
        progress,
        remote.options.cloud,
        may_start=not is_only_planned,
        directory=source_directory(remote.fn, cwd),
    )
    platform = choose_platform(settings, environ)
    platform.require_login()
    with shown_reading(progress):
        drafted = draft_call(call, settings, platform, cwd=cwd, sys_path=sys.path, environ=environ)
    return Drafted(draft=drafted, progress=progress, environ=environ)


def _is_watched(remote: RemoteFunction[..., Any]) -> bool:
    return remote.options.debug or remote.options.profile


@contextmanager
def shown_reading(progress: Progress) -> Iterator[None]:
    """Show that the project is read."""
    progress.step(STEP_READ, "started")
    try:
        yield
    finally:
        progress.step(STEP_READ, "passed")


def plan(
    remote: RemoteFunction[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> RunPlan:
    """Decide everything about a call and do nothing of it."""
    with usable_home():
        drafted = decided(
            open_call(), remote, args, kwargs, may_lack_arguments=True, is_only_planned=True
        )
        return planned_use(drafted.draft, plan_call(drafted.draft, drafted.environ))
