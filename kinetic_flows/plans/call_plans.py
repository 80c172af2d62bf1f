"""Making the plan of one call, second half: what has to be locked and looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.errors import KineticError
from kinetic_flows.core.image_registry import ImageRegistry, ResolvedImage
from kinetic_flows.dependencies.explain import explain_change
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.images.base_lookup import find_base
from kinetic_flows.images.inspection import check_image
from kinetic_flows.plans.draft import (
    Draft,
    job_request,
    locked_target,
    locker_of,
    require_known_chip,
    with_missing_imports,
)
from kinetic_flows.plans.plan import CodeSummary, RunPlan
from kinetic_flows.platforms.image_sources import BaseImage, OwnImage, ProjectImage

PLANNED_RUN_ID = "00000000-0000-0000-0000-000000000000"
"""Stands for the id that a planned run has not got yet."""


@dataclass(frozen=True, kw_only=True)
class PlannedImage:
    """What a plan says of the image.

    Attributes:
        reference: The name it has or will get.
        image: The image; None when it has to be built.
        environment: The project's packages; None when they do not count.
        filtered: Requirements that are left out, a sentence each.
        warnings: What the person should know, a sentence each.
        why: What makes the environment new, a line each; None when it need not be built.
    """

    reference: str
    image: ResolvedImage | None
    environment: EnvironmentSpec | None = None
    filtered: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    why: tuple[str, ...] | None = None


def plan_call(draft: Draft, environ: Mapping[str, str]) -> RunPlan:
    """Decide the rest of a call and return all of it; nothing outside this machine changes.

    Args:
        draft: What is decided already.
        environ: Variables for uv.

    Raises:
        KineticError: The dependencies or the image cannot be.
    """
    planned = _plan_image(draft, environ)
    image = planned.image
    return RunPlan(
        name=draft.name,
        platform=draft.platform.name,
        accelerator=str(draft.accelerator),
        mode=draft.mode,
        build_step=draft.image.build_step,
        packages_come=draft.image.packages_come,
        image=planned.reference,
        digest=image.digest if image else None,
        size_bytes=image.config.size_bytes if image and image.config else None,
        cached=image is not None,
        dependency_file=str(draft.source.path) if draft.source.path else None,
        dependency_source=draft.source.label,
        environment=planned.environment,
        code=CodeSummary(files=draft.snapshot.files, size_bytes=draft.snapshot.size_bytes),
        job_variables=(
            draft.platform.job_variables(job_request(draft, PLANNED_RUN_ID, image)) if image else {}
        ),
        filtered=planned.filtered,
        warnings=(*draft.warnings, *planned.warnings),
        obstacles=_obstacles(draft),
        why=planned.why,
    )


def _obstacles(draft: Draft) -> tuple[str, ...]:
    """Ask the cluster what speaks against a launch; a plan does without an answer."""
    platform = draft.platform
    if not platform.has_preflight:
        return ()
    needs = platform.launch_needs(draft.accelerator, draft.mode, draft.call.options)
    try:
        is_launched_here = platform.dispatch == "client"
        return platform.launcher.preflight(needs).problems if is_launched_here else ()
    except KineticError as error:
        return (f"the cluster cannot be asked: {error.message}",)


def _plan_image(draft: Draft, environ: Mapping[str, str]) -> PlannedImage:
    match draft.image:
        case ProjectImage():
            return _plan_project_image(draft, draft.image, environ)
        case BaseImage():
            return _plan_base_image(draft, draft.image, environ)
        case OwnImage():
            return _plan_own_image(draft.image, draft.platform.registry)


def _plan_project_image(
    draft: Draft, source: ProjectImage, environ: Mapping[str, str]
) -> PlannedImage:
    lock = _lock(draft, environ)
    environment = source.environment(lock)
    reference = source.request(environment).reference
    image = draft.platform.registry.resolve(reference)
    why = explain_change(
        home=draft.settings.home, project_root=draft.source.project_root, environment=environment
    )
    return PlannedImage(
        reference=reference,
        image=image,
        environment=environment,
        filtered=lock.filtered,
        warnings=_warnings_of(lock),
        why=None if image else why,
    )


def _plan_base_image(draft: Draft, source: BaseImage, environ: Mapping[str, str]) -> PlannedImage:
    base = find_base(draft.platform.registry, source.wanted)
    lock = _lock(draft, environ, base.image)
    if lock.target.variant != source.wanted.variant:
        base = find_base(draft.platform.registry, source.wanted_for(lock))
    return PlannedImage(
        reference=base.reference,
        image=base.image,
        environment=source.environment(lock, base.image),
        filtered=lock.filtered,
        warnings=(*base.warnings, *_warnings_of(lock)),
    )


def _plan_own_image(source: OwnImage, registry: ImageRegistry) -> PlannedImage:
    report = check_image(registry, source.reference, source.wanted)
    return PlannedImage(reference=source.reference, image=report.image, warnings=report.warnings)


def _lock(
    draft: Draft,
    environ: Mapping[str, str],
    base: ResolvedImage | None = None,
) -> Lock:
    lock = locker_of(draft, environ).lock(draft.source, locked_target(draft), write=False)
    require_known_chip(draft, lock)
    return with_missing_imports(draft, lock, base)


def _warnings_of(lock: Lock) -> tuple[str, ...]:
    """Return a lock's warnings without what is told as left out."""
    return tuple(line for line in lock.warnings if line not in lock.filtered)
