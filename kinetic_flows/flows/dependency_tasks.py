"""The task that sends along what a run installs when it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from prefect.context import TaskRunContext

from kinetic_flows.clients.prefect.build_cache import upload_cache_key
from kinetic_flows.clients.prefect.flow_names import TASK_UPLOAD_DEPENDENCIES
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import ObjectRef, RequirementsSpec
from kinetic_flows.core.progress import Progress
from kinetic_flows.dependencies.installation import plan_installation, upload_installation
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.dependencies.script_settings import uv_variables
from kinetic_flows.dependencies.wheels import WheelCache
from kinetic_flows.flows.own_tasks import own_task
from kinetic_flows.flows.steps import step
from kinetic_flows.plans.draft import Draft
from kinetic_flows.platforms.image_sources import BaseImage


@dataclass(frozen=True, kw_only=True)
class ToInstall:
    """What a run of a call installs, as far as it is decided.

    Attributes:
        source: The base image that is used, and what is sent along.
        base: That image as it was found.
        lock: The project's packages.
        environment: Their identity in that image.
    """

    source: BaseImage
    base: ResolvedImage
    lock: Lock
    environment: EnvironmentSpec


def _upload_cache_key(_context: TaskRunContext, parameters: dict[str, Any]) -> str:
    wanted: ToInstall = parameters["wanted"]
    store: ArtifactStore = parameters["store"]
    return upload_cache_key(
        store.uri, wanted.environment.dependency_hash, all_wheels=wanted.source.ship_wheels
    )


@own_task(TASK_UPLOAD_DEPENDENCIES, cached_by=_upload_cache_key)
def upload_dependencies_task(
    wanted: ToInstall,
    draft: Draft,
    store: ArtifactStore,
    environ: Mapping[str, str],
    progress: Progress,
) -> dict[str, Any]:
    """Upload the lock and the wheels that a run needs; cached on the dependency hash."""
    with step(progress, TASK_UPLOAD_DEPENDENCIES) as current:
        target, home = wanted.lock.target, draft.settings.home
        cache = WheelCache(
            target=target,
            project_root=draft.source.project_root,
            home=home,
            environ=uv_variables(draft.source, environ, home=home),
        )
        installation = plan_installation(
            wanted.lock.packages,
            target,
            wanted.base,
            home=home,
            ship=cache.ship if wanted.source.ship_wheels else None,
        )
        upload = upload_installation(installation, store)
        size = sum(item.size_bytes for item in installation.wheels)
        current.finish(
            f"{len(installation.packages)} packages, {len(installation.wheels)} as wheels "
            f"({size_in_units(size)}); {size_in_units(upload.bytes_uploaded)} new"
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
