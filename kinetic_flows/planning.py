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

from kinetic_flows.accelerators import Accelerator, parse_accelerator
from kinetic_flows.dependencies.discovery import DependencySource, discover
from kinetic_flows.dependencies.explain import explain_change
from kinetic_flows.dependencies.identity import environment_spec
from kinetic_flows.dependencies.locking import Lock, lock_dependencies, plan_lock
from kinetic_flows.dependencies.targets import Target, local_target
from kinetic_flows.errors import ConfigurationError, UsageError, suggest
from kinetic_flows.naming import local_image_reference, run_name
from kinetic_flows.options import RunOptions
from kinetic_flows.packaging.payload import (
    Payload,
    argument_reprs,
    pack_call,
    require_same_python,
)
from kinetic_flows.packaging.root import PackageRoot, find_package_root
from kinetic_flows.packaging.snapshot import CodeSnapshot, SnapshotOptions, take_snapshot
from kinetic_flows.plan import (
    CodeSummary,
    EnvironmentSpec,
    ImageMode,
    ImageRequest,
    RunPlan,
)
from kinetic_flows.protocols import Platform, ResolvedImage
from kinetic_flows.settings import Settings, captured_environment

IMAGE_MODES: tuple[ImageMode, ...] = ("bundled", "prebuilt")


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
        given = self.options.name or getattr(self.function, "__name__", None)
        return run_name(given or type(self.function).__name__)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is decided about a call before its dependencies are locked.

    Attributes:
        call: The call.
        settings: The settings it was made under.
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


def draft_call(call: Call, settings: Settings, *, cwd: Path, sys_path: Sequence[str]) -> Draft:
    """Decide what can be decided about a call without asking anybody.

    Args:
        call: The call.
        settings: The settings in force.
        cwd: The working directory.
        sys_path: This process's `sys.path`.

    Raises:
        TypeError: The arguments do not fit the function's signature.
        KineticError: The call cannot be: the first thing found wrong.
    """
    _check_arguments(call)
    accelerator = parse_accelerator(call.options.accelerator)
    _check_accelerator(accelerator, settings)
    mode, mode_notices = _image_mode(call.options, settings)
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
    target = local_target(accelerator.category)
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
    return Draft(
        call=call,
        settings=settings,
        accelerator=accelerator,
        mode=mode,
        root=root,
        source=source,
        target=target,
        snapshot=snapshot,
        payload=payload,
        argument_reprs=argument_reprs(call.function, call.args, dict(call.kwargs)),
        notices=(*_place_notices(settings), *mode_notices),
        warnings=(
            *_place_warnings(accelerator, settings),
            *source.warnings,
            *snapshot.warnings,
            *payload.warnings,
        ),
    )


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
    reference = local_image_reference(environment.category, environment.dependency_hash)
    return ImageRequest(
        reference=reference, mode=draft.mode, dependency_hash=environment.dependency_hash
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
        accelerator=draft.accelerator.name,
        mode=draft.mode,
        image=request_image(draft, environment).reference,
        cached=image is not None,
        dependency_file=str(draft.source.path) if draft.source.path else None,
        environment=environment,
        code=CodeSummary(files=draft.snapshot.files, size_bytes=draft.snapshot.size_bytes),
        job_variables={},
        warnings=(*draft.warnings, *lock.warnings),
        why=None if image else why,
    )


def _check_arguments(call: Call) -> None:
    signature = inspect.signature(call.function)
    bind = signature.bind_partial if call.may_lack_arguments else signature.bind
    bind(*call.args, **call.kwargs)


def _check_accelerator(accelerator: Accelerator, settings: Settings) -> None:
    """Refuse to pretend that this machine is an accelerator, unless told to."""
    runs_here = settings.platform == "local"
    if runs_here and accelerator.category != "cpu" and not settings.platform_is_explicit:
        raise ConfigurationError(
            f"accelerator {accelerator.name!r} needs a cluster, and none is configured",
            value=accelerator.name,
            hint="set KINETIC_PROJECT (and KINETIC_CLUSTER, KINETIC_ZONE) to run on GKE; or set "
            "KINETIC_PLATFORM=local to run on this machine's CPU all the same",
        )


def _image_mode(options: RunOptions, settings: Settings) -> tuple[ImageMode, tuple[str, ...]]:
    """Return the image mode, and what to say about it."""
    wanted = settings.container_image or options.container_image or "bundled"
    if wanted == "bundled":
        return "bundled", ()
    if wanted == "prebuilt":
        return "prebuilt", (
            "container_image='prebuilt': on this machine it uses the same environment as bundled",
        )
    if "/" in wanted or ":" in wanted:
        raise UsageError(
            f"container_image {wanted!r} is an image, and this machine runs none",
            value=wanted,
            hint="configure a cluster (KINETIC_PROJECT) to use images, or drop container_image",
        )
    raise UsageError(
        f"container_image is {wanted!r}",
        value=wanted,
        hint=f"{suggest(wanted, IMAGE_MODES)}, or an image URI such as "
        "us-docker.pkg.dev/my-project/my-repo/my-image:v1",
    )


def _place_notices(settings: Settings) -> tuple[str, ...]:
    if settings.platform == "local" and not settings.platform_is_explicit:
        return ("no cluster is configured: running on this machine",)
    return ()


def _place_warnings(accelerator: Accelerator, settings: Settings) -> tuple[str, ...]:
    if settings.platform == "local" and accelerator.category != "cpu":
        return (f"{accelerator.name} was asked for; KINETIC_PLATFORM=local runs on the CPU here",)
    return ()
