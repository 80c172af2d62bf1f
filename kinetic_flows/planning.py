"""Making the plan of one call: first what can be decided at once, then what needs the lock.

A `Draft` holds what settings, options, the function and its project decide without asking
anybody; `describe_environment` and `request_image` add what the lock decides; `plan_call` does
all of it for `train.plan()`, where the flow does it step by step in tasks.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetic_flows.accelerators import Accelerator, needs_node_pools, parse_accelerator
from kinetic_flows.dependencies.discovery import DependencySource, discover
from kinetic_flows.dependencies.explain import explain_change
from kinetic_flows.dependencies.identity import environment_spec
from kinetic_flows.dependencies.locking import Lock, lock_dependencies, plan_lock
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.naming import run_name
from kinetic_flows.options import RunOptions
from kinetic_flows.packaging.ignored_imports import ignored_import_warnings
from kinetic_flows.packaging.payload import (
    Payload,
    argument_reprs,
    pack_call,
    require_same_python,
)
from kinetic_flows.packaging.root import PackageRoot, find_package_root
from kinetic_flows.packaging.snapshot import CodeSnapshot, SnapshotOptions, take_snapshot
from kinetic_flows.places import CloudPlace, JobRequest, LocalPlace, Place
from kinetic_flows.plan import (
    CodeSummary,
    EnvironmentSpec,
    ImageMode,
    ImageRequest,
    RunPlan,
)
from kinetic_flows.protocols import ImageRegistry, Platform, ResolvedImage
from kinetic_flows.settings import Settings, captured_environment

PLANNED_RUN_ID = "00000000-0000-0000-0000-000000000000"
"""Stands for the id that a planned run has not got yet."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A function, what it is called with, and how it is to run.

    Attributes:
        function: The plain function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        options: How it is to run.
        may_lack_arguments: Whether it is only planned, so that any argument may be missing.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: RunOptions
    may_lack_arguments: bool = False

    @property
    def name(self) -> str:
        """The name of the run: the one asked for, else the function's."""
        return run_name(self.function, self.options.name)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is decided about a call before its dependencies are locked.

    Attributes:
        call: The call.
        settings: The settings it was made under.
        place: Where it will run.
        accelerator: What it runs on.
        mode: How its image comes to be.
        root: What of this machine's files is the project.
        source: What declares its dependencies.
        target: What they are locked for.
        snapshot: The project's files as they are now.
        payload: The pickled call.
        argument_reprs: The arguments as Prefect shows them.
        notices: What the person should be told.
        warnings: What may not be what the person wants.
    """

    call: Call
    settings: Settings
    place: Place
    accelerator: Accelerator
    mode: ImageMode
    root: PackageRoot
    source: DependencySource
    target: Target
    snapshot: CodeSnapshot
    payload: Payload
    argument_reprs: Mapping[str, str]
    notices: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.call.name


def draft_call(
    call: Call,
    settings: Settings,
    platform: Platform,
    *,
    cwd: Path,
    sys_path: Sequence[str],
) -> Draft:
    """Decide what can be decided about a call before its dependencies are locked.

    Args:
        call: The call.
        settings: The settings in force.
        platform: Where a base image of one's own is looked up, and what decides what a count
            of chips alone means.
        cwd: The working directory.
        sys_path: This process's `sys.path`.

    Raises:
        TypeError: The arguments do not fit the function's signature.
        KineticError: The call cannot be: the first thing found wrong.
    """
    _check_arguments(call)
    accelerator = _accelerator(call.options.accelerator, platform)
    place = place_of(settings, platform.registry)
    place.check(accelerator)
    mode = place.image_mode(settings.container_image or call.options.container_image)
    captured = captured_environment(call.options.capture_env_vars)
    root = find_package_root(
        call.function, override=settings.package_root, cwd=cwd, sys_path=sys_path
    )
    source = discover(
        requirements=call.options.requirements,
        entry_file=root.entry_file,
        start=root.entry_file.parent if root.entry_file else cwd,
        home_directory=Path.home(),
    )
    target = place.target(accelerator)
    require_same_python(f"{sys.version_info.major}.{sys.version_info.minor}", target.python)
    payload = pack_call(
        call.function, call.args, dict(call.kwargs), environment=captured, root=root
    )
    snapshot = take_snapshot(
        root.path,
        cache_home=settings.home,
        options=SnapshotOptions(
            max_size_bytes=settings.max_code_size_bytes,
            default_excludes=not settings.no_default_excludes,
        ),
    )
    advice = place.advise(accelerator, mode)
    return Draft(
        call=call,
        settings=settings,
        place=place,
        accelerator=accelerator,
        mode=mode,
        root=root,
        source=source,
        target=target,
        snapshot=snapshot,
        payload=payload,
        argument_reprs=argument_reprs(call.function, call.args, dict(call.kwargs)),
        notices=advice.notices,
        warnings=(
            *advice.warnings,
            *snapshot.warnings,
            *ignored_import_warnings(snapshot),
            *payload.warnings,
        ),
    )


def place_of(settings: Settings, registry: ImageRegistry) -> Place:
    """Return where the settings say that functions run.

    Args:
        settings: The settings in force.
        registry: Where a base image of one's own is looked up.

    Raises:
        ConfigurationError: Google Cloud was chosen and is not configured.
    """
    if settings.platform == "local":
        return LocalPlace(is_explicit=settings.platform_is_explicit)
    return CloudPlace(cloud=settings.required_cloud(), registry=registry)


def lock_draft(
    draft: Draft, platform: Platform, environ: Mapping[str, str], *, upgrade: bool = False
) -> Lock:
    """Lock the dependencies of a call, and store the lock for everyone.

    Args:
        draft: The call.
        platform: Whose store keeps locks.
        environ: Variables for uv.
        upgrade: Whether to resolve again and replace the stored lock.

    Raises:
        DependencyError: The dependencies cannot be read or resolved.
    """
    return lock_dependencies(
        draft.source,
        draft.target,
        store=platform.store,
        home=draft.settings.home,
        environ=environ,
        upgrade=upgrade,
    )


def describe_environment(draft: Draft, lock: Lock) -> EnvironmentSpec:
    """Return what the environment of a call contains, and its identity."""
    return environment_spec(lock.text, draft.target)


def request_image(draft: Draft, environment: EnvironmentSpec) -> ImageRequest:
    """Return the image a call needs, by the name that its content gives it."""
    reference = draft.place.image_reference(environment)
    return ImageRequest(
        reference=reference, mode=draft.mode, dependency_hash=environment.dependency_hash
    )


def job_request(draft: Draft, run_id: str, image: ResolvedImage) -> JobRequest:
    """Return what is to be started for one run of a call."""
    return JobRequest(
        run_id=run_id,
        name=draft.name,
        image=image,
        accelerator=draft.accelerator,
        mode=draft.mode,
        options=draft.call.options,
    )


def plan_call(draft: Draft, platform: Platform, environ: Mapping[str, str]) -> RunPlan:
    """Decide the rest of a call and return all of it; nothing outside this machine changes.

    Args:
        draft: What is decided already.
        platform: Whose store and registry are read.
        environ: Variables for uv.

    Raises:
        KineticError: The dependencies or the image cannot be.
    """
    home = draft.settings.home
    lock = plan_lock(draft.source, draft.target, store=platform.store, home=home, environ=environ)
    environment = describe_environment(draft, lock)
    request = request_image(draft, environment)
    return assemble_plan(draft, lock, environment, platform.registry.resolve(request.reference))


def assemble_plan(
    draft: Draft, lock: Lock, environment: EnvironmentSpec, image: ResolvedImage | None
) -> RunPlan:
    """Put the parts of a plan together.

    Args:
        draft: What was decided at once.
        lock: The locked dependencies.
        environment: What the image contains.
        image: The image, when it exists.
    """
    why = explain_change(
        home=draft.settings.home,
        project_root=draft.source.project_root,
        environment=environment,
    )
    return RunPlan(
        name=draft.name,
        platform=draft.settings.platform,
        accelerator=str(draft.accelerator),
        mode=draft.mode,
        image=request_image(draft, environment).reference,
        cached=image is not None,
        dependency_file=str(draft.source.path) if draft.source.path else None,
        dependency_source=draft.source.label,
        environment=environment,
        code=CodeSummary(files=draft.snapshot.files, size_bytes=draft.snapshot.size_bytes),
        job_variables=(
            draft.place.job_variables(job_request(draft, PLANNED_RUN_ID, image)) if image else {}
        ),
        filtered=lock.filtered,
        warnings=(
            *draft.warnings,
            *(line for line in lock.warnings if line not in lock.filtered),
        ),
        why=None if image else why,
    )


def _accelerator(text: str, platform: Platform) -> Accelerator:
    """Read an accelerator's name; the cluster is asked only what the name leaves open."""
    pools = platform.launcher.node_pools() if needs_node_pools(text) else None
    return parse_accelerator(text, pools=pools)


def _check_arguments(call: Call) -> None:
    signature = inspect.signature(call.function)
    bind = signature.bind_partial if call.may_lack_arguments else signature.bind
    bind(*call.args, **call.kwargs)
