"""Tasks that make what a run needs: preflight, lock, image, dependencies and code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

from prefect.context import TaskRunContext

from kinetic_flows.clients.prefect.build_cache import build_cache_key, upload_cache_key
from kinetic_flows.clients.prefect.flow_names import (
    ENVIRONMENT_ARTIFACT,
    TASK_BUILD_IMAGE,
    TASK_LOCK_DEPENDENCIES,
    TASK_PREFLIGHT,
    TASK_RESOLVE_IMAGE,
    TASK_UPLOAD_CODE,
    TASK_UPLOAD_DEPENDENCIES,
)
from kinetic_flows.code.runner_bundle import runner_bundle
from kinetic_flows.code.upload import code_spec, upload_code
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.display import counted
from kinetic_flows.core.environment import EnvironmentSpec, ImageRequest, size_in_words
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import CodeSpec
from kinetic_flows.core.job_parts import ObjectRef, RequirementsSpec
from kinetic_flows.core.launcher import Preflight
from kinetic_flows.core.object_names import runner_object
from kinetic_flows.core.progress import Progress
from kinetic_flows.dependencies.explain import explain_change, package_table, remember
from kinetic_flows.dependencies.installation import plan_installation, upload_installation
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.dependencies.script_settings import uv_variables
from kinetic_flows.dependencies.wheels import WheelCache
from kinetic_flows.flows.defaults import own_task
from kinetic_flows.flows.engine import current_flow_run_id
from kinetic_flows.flows.steps import BuildOutput, publish_link, step
from kinetic_flows.images.base_lookup import FoundBase, WantedBase, find_base
from kinetic_flows.images.inspection import ImageReport, ImageRequirements, check_image
from kinetic_flows.plans.draft import Draft, lock_draft
from kinetic_flows.plans.look_ahead import look_ahead
from kinetic_flows.platforms.base import Platform
from kinetic_flows.platforms.image_sources import DecidedBaseImage
from kinetic_flows.runs.session import Session


class Project(TypedDict):
    """The project, as `dependencies.explain` keeps its environments."""

    home: Path
    project_root: Path


@own_task(TASK_LOCK_DEPENDENCIES)
def lock_dependencies_task(
    draft: Draft,
    environ: Mapping[str, str],
    progress: Progress,
    base: ResolvedImage | None = None,
) -> Lock:
    """Resolve the project's dependencies, or find the lock that somebody resolved before."""
    with step(progress, TASK_LOCK_DEPENDENCIES) as current:
        lock = lock_draft(draft, environ, base=base)
        for warning in lock.warnings:
            current.warn(warning)
        how = "stored lock" if lock.from_cache else "resolved"
        lean = ", for the lean base" if lock.target.variant == "lean" else ""
        current.finish(
            f"{draft.source.label}: {counted(len(lock.packages), 'package')} ({how}){lean}",
            "cached" if lock.from_cache else "done",
        )
        return lock


@own_task(TASK_RESOLVE_IMAGE)
def resolve_image_task(
    request: ImageRequest, platform: Platform, progress: Progress
) -> ResolvedImage | None:
    """Ask the registry whether the image exists."""
    with step(progress, TASK_RESOLVE_IMAGE) as current:
        resolved = platform.registry.resolve(request.reference)
        is_there = "exists" if resolved else "has to be built"
        current.finish(f"{request.reference} {is_there}", "passed")
        return resolved


@own_task(TASK_RESOLVE_IMAGE)
def resolve_base_image_task(
    wanted: WantedBase, platform: Platform, progress: Progress
) -> FoundBase:
    """Ask the registry for the base image, which has to exist and to fit."""
    with step(progress, TASK_RESOLVE_IMAGE) as current:
        base = find_base(platform.registry, wanted)
        for warning in base.warnings:
            current.warn(warning)
        current.finish(f"{base.reference} is {base.image.digest}", "passed")
        return base


@own_task(TASK_RESOLVE_IMAGE)
def resolve_own_image_task(
    reference: str, required: ImageRequirements, platform: Platform, progress: Progress
) -> ImageReport:
    """Ask the registry for the person's own image, which has to exist and to fit."""
    with step(progress, TASK_RESOLVE_IMAGE) as current:
        report = check_image(platform.registry, reference, required)
        for warning in report.warnings:
            current.warn(warning)
        config = report.image.config
        size = f", {size_in_words(config.size_bytes)}" if config else ""
        current.finish(f"{reference} is {report.image.digest}{size}", "passed")
        return report


@dataclass(frozen=True, kw_only=True)
class ImageTasks:
    """Asks in tasks of the flow run that is being driven.

    Attributes:
        draft: The call.
        session: Where it runs and reports.
    """

    draft: Draft
    session: Session

    def lock(self, base: ResolvedImage | None = None) -> Lock:
        """Lock the call's packages, and store the lock for everyone."""
        return lock_dependencies_task(self.draft, self.session.environ, self.session.progress, base)

    def resolve(self, request: ImageRequest) -> ResolvedImage | None:
        """Look for the project's image; None when it has to be built."""
        return resolve_image_task(request, self.session.platform, self.session.progress)

    def find_base(self, wanted: WantedBase) -> FoundBase:
        """Look for a base image, which has to be there."""
        return resolve_base_image_task(wanted, self.session.platform, self.session.progress)

    def check(self, reference: str, required: ImageRequirements) -> ImageReport:
        """Look at an image of the person's own, which has to be there and to fit."""
        session = self.session
        return resolve_own_image_task(reference, required, session.platform, session.progress)


@own_task(TASK_UPLOAD_CODE)
def upload_code_task(draft: Draft, store: ArtifactStore, progress: Progress) -> CodeSpec:
    """Upload the packs of the project's code that the store does not have, and the runner."""
    with step(progress, TASK_UPLOAD_CODE) as current:
        bundle = runner_bundle()
        store.put_if_absent(runner_object(bundle.sha256), bundle.data)
        uploaded = upload_code(draft.snapshot, store, home=draft.settings.home)
        for warning in uploaded.warnings:
            progress.warning(warning)
        sent = uploaded.snapshot
        current.finish(
            f"{counted(sent.files, 'file')}, {size_in_units(sent.size_bytes)}; "
            f"{size_in_units(uploaded.bytes_uploaded)} new",
            "done" if uploaded.bytes_uploaded else "cached",
        )
        return code_spec(sent, draft.root)


def environment_artifact(
    environment: EnvironmentSpec, draft: Draft, reasons: tuple[str, ...]
) -> dict[str, Any]:
    """Describe the packages of an environment, and its changes since the last one.

    To be taken before the environment is made: from then on it is its own nearest earlier one.

    Args:
        environment: The environment.
        draft: The call that it is for.
        reasons: What `reasons_to_build` says of it.

    Returns:
        The arguments of `publish_environment`.
    """
    project = _project(draft)
    changes = [f"`{reason}`" for reason in reasons]
    return {
        "table": [dict(row) for row in package_table(environment=environment, **project)],
        "description": "\n- ".join(
            [f"Environment `{environment.dependency_hash}` of {draft.source.label}\n", *changes]
        ),
    }


def describe_contents(environment: EnvironmentSpec, draft: Draft) -> str:
    """Say in one line how many packages an environment has, and which file declares them."""
    packages = counted(len(environment.packages), "package")
    return f"{packages} from {draft.source.label}, `{environment.dependency_hash}`"


def reasons_to_build(environment: EnvironmentSpec, draft: Draft) -> tuple[str, ...]:
    """Say which packages are new in an environment; to be asked before it is made."""
    return tuple(map(str, explain_change(environment=environment, **_project(draft))))


def publish_environment(artifact: dict[str, Any], session: Session) -> None:
    """Show an environment in Prefect, on the run that is being driven."""
    session.api.publish_table(current_flow_run_id(), ENVIRONMENT_ARTIFACT, **artifact)


def remember_environment(environment: EnvironmentSpec, draft: Draft) -> None:
    """Note an environment for later explanations."""
    remember(environment=environment, **_project(draft))


def _project(draft: Draft) -> Project:
    return Project(home=draft.settings.home, project_root=draft.source.project_root)


def _build_cache_key(_context: TaskRunContext, parameters: dict[str, Any]) -> str:
    request: ImageRequest = parameters["request"]
    return build_cache_key(request.reference, request.dependency_hash or "")


@own_task(TASK_BUILD_IMAGE, cached_by=_build_cache_key)
def build_image_task(
    request: ImageRequest,
    environment: EnvironmentSpec,
    reasons: tuple[str, ...],
    platform: Platform,
    progress: Progress,
) -> dict[str, Any]:
    """Build the image, or wait for whoever is building it; cached on the dependency hash."""
    with step(progress, TASK_BUILD_IMAGE) as current:
        for reason in reasons:
            current.log(f"because: {reason}")
        output = BuildOutput(current)
        image = platform.builder.build(request, environment, output.line, on_build=output.announce)
        publish_link(platform.image_page(image.reference), f"The image {image.reference}")
        current.finish(f"{image.reference} with {counted(len(environment.packages), 'package')}")
        return asdict(image)


@own_task(TASK_PREFLIGHT)
def preflight_task(draft: Draft, session: Session, problems: tuple[str, ...] = ()) -> Preflight:
    """Ask the cluster everything that a launch depends on, at once; tell further problems, too.

    Raises:
        LaunchError: The launch could not succeed: every reason is listed.
    """
    with step(session.progress, TASK_PREFLIGHT) as current:
        template = session.base_job_template
        found = look_ahead(draft, session.platform, template, session.api.url)
        for warning in found.warnings:
            current.warn(warning)
        replace(found, problems=(*problems, *found.problems)).raise_for_problems()
        current.finish(f"the cluster is ready for {draft.accelerator}", "passed")
        return found


def _upload_cache_key(_context: TaskRunContext, parameters: dict[str, Any]) -> str:
    decided: DecidedBaseImage = parameters["decided"]
    store: ArtifactStore = parameters["store"]
    return upload_cache_key(
        store.uri, decided.environment.dependency_hash, all_wheels=decided.ship_wheels
    )


@own_task(TASK_UPLOAD_DEPENDENCIES, cached_by=_upload_cache_key)
def upload_dependencies_task(
    decided: DecidedBaseImage,
    draft: Draft,
    store: ArtifactStore,
    environ: Mapping[str, str],
    progress: Progress,
) -> dict[str, Any]:
    """Upload the lock and the wheels that a run needs; cached on the dependency hash."""
    with step(progress, TASK_UPLOAD_DEPENDENCIES) as current:
        target, home = decided.lock.target, draft.settings.home
        cache = WheelCache(
            target=target,
            project_root=draft.source.project_root,
            home=home,
            environ=uv_variables(draft.source, environ, home=home),
        )
        installation = plan_installation(
            decided.lock.packages,
            target,
            decided.image,
            home=home,
            ship=cache.ship if decided.ship_wheels else None,
        )
        upload = upload_installation(installation, store)
        size = sum(item.size_bytes for item in installation.wheels)
        current.finish(
            f"{counted(len(installation.packages), 'package')}, "
            f"{len(installation.wheels)} as wheels ({size_in_units(size)}); "
            f"{size_in_units(upload.bytes_uploaded)} new",
            "done" if upload.bytes_uploaded else "cached",
        )
        return asdict(upload.spec)


def requirements_of(result: Mapping[str, Any]) -> RequirementsSpec:
    """Return the requirements from the task's result, which Prefect keeps as JSON."""
    return RequirementsSpec(
        lock=ObjectRef(**result["lock"]),
        wheels=tuple(ObjectRef(**item) for item in result["wheels"]),
        constraints=result["constraints"],
        offline=result["offline"],
    )
