"""Making what runs of a function need: their environment and their code, at the same time."""

from __future__ import annotations

from kinetic_flows.launching import Prepared
from kinetic_flows.naming import TASK_BUILD_IMAGE
from kinetic_flows.planning import Draft, describe_environment, request_image
from kinetic_flows.protocols import ResolvedImage
from kinetic_flows.session import Session
from kinetic_flows.tasks.environment import (
    build_image_task,
    environment_artifact,
    lock_dependencies_task,
    publish_environment,
    resolve_image_task,
)
from kinetic_flows.tasks.launching import upload_code_task
from kinetic_flows.tasks.preflight import preflight_task


def prepare(draft: Draft, session: Session) -> Prepared:
    """Check the cluster, lock, resolve, build and upload within the flow run that is being driven.

    Args:
        draft: The call; its arguments do not matter here.
        session: Where it runs and reports.

    Raises:
        KineticError: A step failed.
    """
    platform, progress = session.platform, session.progress
    if draft.place.has_preflight:
        preflight_task(draft, session)
    lock = lock_dependencies_task(draft, platform, session.environ, progress)
    environment = describe_environment(draft, lock)
    request = request_image(draft, environment)
    found = resolve_image_task(request, platform, progress)
    artifact = environment_artifact(environment, draft)
    # Prefect's cache answers for a build; only the registry knows whether it is still there.
    build = build_image_task if found else build_image_task.with_options(refresh_cache=True)
    building = build.submit(request, environment, draft, platform, progress)
    uploading = upload_code_task.submit(draft, platform.store, progress)
    publish_environment(artifact)
    made = building.result()
    if building.state.name == "Cached":
        progress.step(TASK_BUILD_IMAGE, "cached", request.reference)
    return Prepared(image=found or ResolvedImage(**made), code=uploading.result())
