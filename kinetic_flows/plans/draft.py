"""Making the plan of one call, first half: what can be decided at once.

A `Draft` holds what settings, options, the function and its project decide without asking
anybody. What has to be locked and looked up, its image source decides: for `train.plan()` (`plan`)
and, step by step in tasks, for the call (`flows/prepare`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kinetic_flows.code.call_names import call_name
from kinetic_flows.code.data.sources import DataSources
from kinetic_flows.code.ignored_imports import ignored_import_warnings
from kinetic_flows.code.origin import OriginReader
from kinetic_flows.code.payload import Payload, argument_reprs, pack_call, require_same_python
from kinetic_flows.code.root import PackageRoot, find_package_root
from kinetic_flows.code.selection import imported_files
from kinetic_flows.code.snapshot import CodeSnapshot, SnapshotOptions, take_snapshot
from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.accelerators.runtime import require_runtime
from kinetic_flows.core.captured import capture_variables
from kinetic_flows.core.data import Data
from kinetic_flows.core.environment import ImageMode
from kinetic_flows.core.errors import DependencyError, UsageError
from kinetic_flows.core.functions import flow_name
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job_parts import OutputSpec, PackagesSpec, RehearsalSpec
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.settings.accelerator_names import names_in_words
from kinetic_flows.core.settings.settings import Settings
from kinetic_flows.dependencies.base_locks import make_base_lock
from kinetic_flows.dependencies.discovery import DependencySource, discover
from kinetic_flows.dependencies.locking import Lock, Locker
from kinetic_flows.dependencies.missing_imports import Shipped, describe, missing_imports
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.plans.accelerators import Choice, choose
from kinetic_flows.plans.call_arguments import check_arguments, check_rehearsal
from kinetic_flows.plans.data import data_of, open_sources
from kinetic_flows.plans.image_notices import image_notices
from kinetic_flows.plans.outputs import output_spec
from kinetic_flows.plans.secrets import hidden_values, masked, shown_arguments
from kinetic_flows.plans.shipped_data import shipped_twice
from kinetic_flows.platforms.base import JobRequest, Platform
from kinetic_flows.platforms.image_sources import ImageSource, OwnImage, known_packages


@dataclass(frozen=True, kw_only=True)
class Call:
    """A function, what it is called with, and how it is to run.

    Attributes:
        function: The plain function.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        options: How it is to run.
        may_lack_arguments: Whether it is only planned, so that any argument may be missing.
        rehearsal: What names the steps that the function compiles; None for nothing.
        bound: Arguments that come first in every call of the function: the instance of a method.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    options: RunOptions
    may_lack_arguments: bool = False
    rehearsal: Callable[..., Any] | None = None
    bound: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The name of its flow: the one asked for, else the function's."""
        return flow_name(self.function, self.options.name)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """What is decided about a call before its dependencies are locked.

    Attributes:
        call: The call.
        settings: The settings it was made under.
        platform: Where it will run.
        accelerator: What it runs on; of several the first.
        image: Where its image for that comes from.
        root: What of this machine's files is the project.
        source: What declares its dependencies.
        snapshot: The project's files as they are now.
        captured: Variables that every call takes along.
        hidden: Secret values that nothing shows of its arguments.
        payload: The pickled call.
        argument_reprs: The arguments as Prefect shows them.
        notices: What the person should be told.
        warnings: What may not be what the person wants.
        output: Where its run's outputs go; None for a directory of its own.
        begun: When it was begun, in seconds of the monotonic clock.
        origin: Finds out where the call comes from meanwhile; None when that is not to be told.
        sources: Where the data of the function's calls comes from.
        candidates: All accelerators that its run may go on, in the order of preference; empty
            where there is one.
        left_out: Which accelerators of the list it cannot go on, and why, a sentence each.
        compiles_for: What its function, a rehearsal, is compiled for; None for any other.
    """

    call: Call
    settings: Settings
    platform: Platform
    accelerator: Accelerator
    image: ImageSource
    root: PackageRoot
    source: DependencySource
    snapshot: CodeSnapshot
    captured: Mapping[str, str] = field(repr=False)
    hidden: tuple[str, ...] = field(repr=False)
    payload: Payload
    sources: DataSources
    argument_reprs: Mapping[str, str]
    notices: tuple[str, ...]
    warnings: tuple[str, ...]
    output: OutputSpec | None = None
    begun: float = field(default_factory=time.monotonic)
    origin: OriginReader | None = None
    candidates: tuple[Accelerator, ...] = ()
    left_out: tuple[str, ...] = ()
    compiles_for: RehearsalSpec | None = None

    @property
    def runs_on(self) -> str:
        """What it runs on, as people read it: one name, or several with `or` between them."""
        return names_in_words(tuple(map(str, self.candidates or (self.accelerator,))))

    @property
    def name(self) -> str:
        """The name of its flow: the function's, or the one asked for."""
        return self.call.name

    @property
    def rehearsal(self) -> Callable[..., Any] | None:
        """What names the steps that the function compiles; None for nothing."""
        return self.call.rehearsal

    @property
    def data(self) -> tuple[Data, ...]:
        """The data of the call, and behind it that of its volumes, as its job has them."""
        return data_of(self.payload.data, self.call.options)

    def without_arguments(self) -> Draft:
        """Return it without its arguments and their memory, for steps that need neither."""
        return replace(
            self,
            call=replace(self.call, args=(), kwargs={}),
            payload=replace(self.payload, content=b"", pieces=()),
        )

    @property
    def run_name(self) -> str:
        """The name of its run: the function and its arguments, as far as they are short."""
        shown = shown_arguments(self.call.args, self.call.kwargs, self.hidden)
        return masked(call_name(self.name, self.call.function, *shown), self.hidden)

    @property
    def mode(self) -> ImageMode:
        """How its image comes to be."""
        return self.image.mode


def draft_call(
    call: Call,
    settings: Settings,
    platform: Platform,
    *,
    cwd: Path,
    sys_path: Sequence[str],
    environ: Mapping[str, str],
    choice: Choice | None = None,
) -> Draft:
    """Decide what can be decided about a call before its dependencies are locked.

    Args:
        call: The call.
        settings: The settings in force.
        platform: Where it will run.
        cwd: The working directory.
        sys_path: This process's `sys.path`.
        environ: Variables to take along.
        choice: What it runs on, and where its image comes from; None for what its options say.

    Raises:
        TypeError: The arguments do not fit the function's signature.
        KineticError: The call cannot be: the first thing found wrong.
    """
    begun = time.monotonic()
    check_arguments(call)
    check_rehearsal(call)
    choice = choice or choose(call.options, settings, platform)
    image = choice.image
    output = output_spec(call, settings, platform)
    secrets = call.options.secrets or {}
    captured = capture_variables(call.options.capture_env_vars, secrets, environ)
    hidden = hidden_values(captured.values, secrets, environ)
    root = find_package_root(
        call.function, override=settings.package_root, cwd=cwd, sys_path=sys_path
    )
    origin = None if settings.no_origin else OriginReader(root)
    source = discover(
        requirements=call.options.requirements,
        entry_file=root.entry_file,
        start=root.entry_file.parent if root.entry_file else cwd,
        home_directory=Path.home(),
    )
    require_same_python(f"{sys.version_info.major}.{sys.version_info.minor}", image.python)
    payload = pack_call(call.function, call.args, dict(call.kwargs), root=root)
    snapshot = take_snapshot(
        root.path,
        cache_home=settings.home,
        options=SnapshotOptions(
            max_size_bytes=settings.max_code_size_bytes,
            default_excludes=not settings.no_default_excludes,
        ),
        only=imported_files(root) if root.no_project else None,
    )
    return Draft(
        call=call,
        settings=settings,
        platform=platform,
        accelerator=choice.accelerator,
        image=image,
        root=root,
        source=source,
        snapshot=snapshot,
        captured=captured.values,
        hidden=hidden,
        payload=payload,
        sources=open_sources(payload.data, call.options, settings, platform, environ),
        argument_reprs=_shown_arguments(call, hidden),
        notices=(
            *choice.told.notices,
            *root.notices(),
            *image_notices(image, source),
        ),
        warnings=(
            *choice.told.warnings,
            *captured.warnings,
            *snapshot.warnings,
            *ignored_import_warnings(snapshot),
            *shipped_twice(data_of(payload.data, call.options), snapshot),
            *payload.warnings,
            *call.options.warnings(choice.most_hosts(platform)),
        ),
        output=output,
        begun=begun,
        origin=origin,
        candidates=choice.candidates,
    )


def with_arguments(
    draft: Draft, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, piece_bytes: int
) -> Draft:
    """Return the draft of the same function called with other arguments.

    Args:
        draft: A call of it.
        args: The positional arguments.
        kwargs: The keyword arguments.
        piece_bytes: From which size on parts of the call become pieces that calls share.

    Raises:
        UnpicklableError: An argument cannot be pickled.
    """
    call = replace(draft.call, args=args, kwargs=kwargs)
    payload = pack_call(call.function, args, dict(kwargs), root=draft.root, piece_bytes=piece_bytes)
    reprs = _shown_arguments(call, draft.hidden)
    output = output_spec(call, draft.settings, draft.platform)
    return replace(draft, call=call, payload=payload, argument_reprs=reprs, output=output)


def _shown_arguments(call: Call, hidden: tuple[str, ...]) -> dict[str, str]:
    shown = argument_reprs(call.function, *shown_arguments(call.args, call.kwargs, hidden))
    return {name: masked(text, hidden) for name, text in shown.items()}


def lock_draft(
    draft: Draft,
    environ: Mapping[str, str],
    *,
    upgrade: bool = False,
    write: bool = True,
    base: ResolvedImage | None = None,
) -> Lock:
    """Lock the dependencies of a call.

    Args:
        draft: The call; the store of its platform keeps locks.
        environ: Variables for uv.
        upgrade: Whether to resolve again and replace the stored lock.
        write: Whether to store the lock for everyone.
        base: The base image, in prebuilt mode; None where it was not looked up.

    Raises:
        UsageError: The call runs in an image of the person's own, which is not looked into.
        DependencyError: The dependencies cannot be read or resolved, or lack what is imported
            and the settings refuse that.
        AcceleratorError: They do not know the accelerator.
    """
    target = _locked_target(draft)
    locker = Locker(
        store=draft.platform.store,
        home=draft.settings.home,
        environ=environ,
        trust=draft.platform.store_trust,
    )
    lock = locker.lock(draft.source, target, upgrade=upgrade, write=write)
    versions = {package.name: package.version for package in lock.packages}
    require_runtime(str(draft.accelerator), target.needs, versions)
    if target.made_base_lock and write:
        make_base_lock(target.category, target.python, locker, write=True)
    return _with_missing_imports(draft, lock, base)


def _with_missing_imports(draft: Draft, lock: Lock, base: ResolvedImage | None) -> Lock:
    """Return a lock that warns of what the call imports and its environment lacks for certain.

    Args:
        draft: The call.
        lock: Its lock.
        base: The base image, in prebuilt mode; None where it was not looked up.

    Raises:
        DependencyError: There is such an import, and the settings refuse it.
    """
    known = known_packages(draft.image, base, lock.target)
    if known is None:
        return lock
    shipped = Shipped(
        function=draft.call.function,
        root=draft.root,
        snapshot=draft.snapshot,
        modules=draft.payload.modules,
    )
    packages = {*known, *(item.name for item in lock.packages)}
    found = missing_imports(shipped, packages, home=draft.settings.home)
    sentences = tuple(describe(item, draft.source) for item in found)
    if found and draft.settings.strict_imports:
        raise DependencyError(
            "; ".join(sentences),
            value=tuple(item.module for item in found),
            hint="unset KINETIC_STRICT_IMPORTS to be warned only",
        )
    return replace(lock, warnings=(*lock.warnings, *sentences))


def _locked_target(draft: Draft) -> Target:
    """Return what a call's dependencies are locked for.

    Raises:
        UsageError: The call runs in an image of the person's own, which is not looked into.
    """
    if isinstance(draft.image, OwnImage):
        raise UsageError(
            f"{draft.name} runs in the image {draft.image.reference}, which has its own packages",
            value=draft.image.reference,
            hint="drop container_image (or KINETIC_CONTAINER_IMAGE) to have dependencies locked",
        )
    return draft.image.target


def job_request(
    draft: Draft, run_id: str, image: ResolvedImage, packages: PackagesSpec | None = None
) -> JobRequest:
    """Return what is to be started for one run of a call.

    Args:
        draft: The call.
        run_id: The run's id; empty for runs whose ids a Prefect worker will know.
        image: The image it runs in.
        packages: The project's packages where they are mounted; None where they are not.
    """
    return JobRequest(
        run_id=run_id,
        name=draft.name,
        image=image,
        accelerator=draft.accelerator,
        mode=draft.mode,
        options=draft.call.options,
        packages=packages,
    )
