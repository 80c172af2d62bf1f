"""Sending a debugger along with a run, where its project has none."""

from __future__ import annotations

from dataclasses import replace

from kinetic_flows.core.job_parts import DebugSpec, ObjectRef
from kinetic_flows.core.object_names import wheel_object
from kinetic_flows.core.progress import Progress
from kinetic_flows.dependencies.debugger import DISTRIBUTION, debugger_wheel
from kinetic_flows.dependencies.declaration import read_declaration
from kinetic_flows.dependencies.script_settings import uv_variables
from kinetic_flows.dependencies.wheels import LocalWheel
from kinetic_flows.plans.draft import Draft
from kinetic_flows.platforms.base import Platform
from kinetic_flows.platforms.image_sources import OwnImage
from kinetic_flows.runs.job_template import Prepared
from kinetic_flows.runs.session import Session


def find_debugger(draft: Draft, session: Session) -> LocalWheel | None:
    """Return the debugger's wheel; None where the project declares the debugger itself.

    Args:
        draft: The call.
        session: Where it runs and reports.

    Raises:
        DependencyError: The project's dependencies cannot be read.
        LockError: There is no debugger to be had.
    """
    tell_without_access(session.platform, session.progress)
    home = draft.settings.home
    environ = uv_variables(draft.source, session.environ, home=home)
    if not isinstance(draft.image, OwnImage):
        declared = read_declaration(draft.source, draft.image.target, environ=environ)
        if any(line.name == DISTRIBUTION for line in declared.lines):
            return None
    return debugger_wheel(
        home=home,
        python=draft.image.python,
        project_root=draft.source.project_root,
        environ=environ,
    )


def tell_without_access(platform: Platform, progress: Progress) -> None:
    """Say beforehand that this user leads no debugger to a run, where they do not reach its pods.

    Args:
        platform: Where it runs.
        progress: Told of it.
    """
    if not platform.may_see_processes:
        progress.warning(
            "the run will wait for a debugger, and you have no access to the cluster: whoever has "
            "it can lead one there by `kinetic runs forward`, else the function is called after "
            f"{DebugSpec(wheel=None).wait_seconds:g} s"
        )


def with_debugger(prepared: Prepared, wheel: LocalWheel | None, session: Session) -> Prepared:
    """Return what runs share with how they wait for a debugger, whose wheel is in the store.

    Args:
        prepared: What they share.
        wheel: The debugger's; None where the project has it.
        session: Where they run and report.

    Raises:
        StoreError: It cannot be uploaded.
    """
    reference = None
    if wheel is not None:
        name = wheel_object(wheel.sha256, wheel.filename)
        if session.platform.store.missing([name]):
            session.platform.store.put_if_absent(name, wheel.path.read_bytes())
        reference = ObjectRef(name=name, sha256=wheel.sha256, size_bytes=wheel.size_bytes)
    spec = DebugSpec(wheel=reference)
    candidates = tuple(
        replace(each, prepared=replace(each.prepared, debug=spec)) for each in prepared.candidates
    )
    return replace(prepared, debug=spec, candidates=candidates)
