"""Making image, requirements and code of a function's runs, at the same time."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from prefect import Task
from prefect.futures import PrefectFuture

from kinetic_flows.clients.prefect.api import short_retries
from kinetic_flows.clients.prefect.events import tell_event
from kinetic_flows.clients.prefect.flow_names import TASK_BUILD_IMAGE, TASK_UPLOAD_DEPENDENCIES
from kinetic_flows.clients.prefect.surroundings import surrounding_flow_run_id
from kinetic_flows.core.environment import EnvironmentSpec, ImageRequest
from kinetic_flows.core.errors import BuildError, ImageError, LockError
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.interruption import stoppable
from kinetic_flows.core.job_parts import RequirementsSpec
from kinetic_flows.core.launcher import Preflight
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.dependencies.installation import keep_lock, objects_of
from kinetic_flows.dependencies.locking import Lock
from kinetic_flows.flows.data_tasks import resolve_data
from kinetic_flows.flows.prepare_tasks import (
    ImageTasks,
    build_image_task,
    describe_contents,
    environment_artifact,
    preflight_task,
    publish_environment,
    reasons_to_build,
    remember_environment,
    requirements_of,
    upload_dependencies_task,
)
from kinetic_flows.flows.preparing import wait_for
from kinetic_flows.flows.step_times import timed_steps
from kinetic_flows.flows.uploads import Uploads
from kinetic_flows.images.inspection import image_from_fields
from kinetic_flows.plans.draft import Draft
from kinetic_flows.plans.look_ahead import installed_because, left_to_worker, refuse_volume
from kinetic_flows.plans.outputs import check_place
from kinetic_flows.plans.packages import Packages, PackagesVolume, WheelQuestion, decide_packages
from kinetic_flows.plans.secret_look import FoundSecrets
from kinetic_flows.platforms.image_sources import (
    DecidedBaseImage,
    DecidedOwnImage,
    DecidedProjectImage,
)
from kinetic_flows.runs.call_secrets import find_secrets
from kinetic_flows.runs.job_template import Prepared
from kinetic_flows.runs.output_lease import check_output_dir_free
from kinetic_flows.runs.session import Session

if TYPE_CHECKING:
    from kinetic_flows.flows import candidates, debugger
    from kinetic_flows.plans import rehearsed
else:
    debugger = LazyModule("kinetic_flows.flows.debugger")
    # Most calls name one accelerator.
    candidates = LazyModule("kinetic_flows.flows.candidates")
    # Few functions have a rehearsal.
    rehearsed = LazyModule("kinetic_flows.plans.rehearsed")

P = ParamSpec("P")
R = TypeVar("R")


def prepare(draft: Draft, session: Session, *, deployed: bool = False) -> Prepared:
    """Check the cluster, lock, resolve, build and upload within the flow run that is being driven.

    Args:
        draft: The call; its arguments do not matter here.
        session: Where it runs and reports.
        deployed: Whether the runs are a deployment's.

    Raises:
        OutputDirInUseError: Another run writes where the outputs are to go.
        KineticError: A step failed.
    """
    planned = time.monotonic() - draft.begun
    # Prefect may keep what a task is given until the process ends.
    draft = draft.without_arguments()
    check_place(draft)
    if draft.call.options.cache_for is None and not deployed:
        # Who is answered, or deploys, writes nothing.
        check_output_dir_free(draft.output, session)
    with timed_steps() as seconds:
        wheel = debugger.find_debugger(draft, session) if draft.call.options.debug else None
        secrets = find_secrets(draft, session, deployed=deployed)
        prepared = (
            candidates.prepare_candidates(draft, session, secrets)
            if draft.candidates
            else _prepare(draft, session, secrets)
        )
        if draft.call.options.debug:
            prepared = debugger.with_debugger(prepared, wheel, session)
    origin = draft.origin.origin() if draft.origin else None
    return replace(
        prepared,
        origin=origin,
        seconds={"plan": planned, **seconds},
        secret_values=secrets.values,
    )


def _prepare(draft: Draft, session: Session, secrets: FoundSecrets) -> Prepared:
    # With worker dispatch this machine may have no access to the cluster.
    found = _look_ahead(draft, session, secrets) if session.platform.has_preflight else None
    secrets.raise_for_problems()
    if found is None:
        refuse_volume(draft, session.platform, lambda: session.base_job_template)
    resolve_data(draft, session.progress)
    return prepare_image(draft, found, Uploads(draft, session), session)


def prepare_image(
    draft: Draft, found: Preflight | None, uploads: Uploads, session: Session
) -> Prepared:
    """Have what runs on one accelerator need, while the code is uploaded.

    Args:
        draft: The call on it.
        found: What the cluster told; None where it was not asked.
        uploads: Brings code and data.
        session: Where it runs and reports.

    Raises:
        KineticError: A step failed.
    """
    ask = ImageTasks(draft=draft, session=session)
    match draft.image.decide(ask):
        case DecidedProjectImage() as decided:
            made = _prepare_project_image(draft, decided, uploads, session)
            return _with_packages(made, decided.lock, draft)
        case DecidedBaseImage() as decided:
            wheels = WheelQuestion(home=draft.settings.home, environ=session.environ)
            packages = decide_packages(decided, found, ask, wheels)
            made = _prepare_base_image(draft, decided, packages, uploads, session)
            return _with_packages(made, decided.lock, draft)
        case DecidedOwnImage() as decided:
            with stoppable() as work, wait_for(*uploads.begin(), work=work, session=session):
                pass
            return _with_packages(Prepared(image=decided.image, code=uploads.code()), None, draft)


def _with_packages(made: Prepared, lock: Lock | None, draft: Draft) -> Prepared:
    """Note which packages runs have, so that their page can tell what a rehearsal was made of."""
    if draft.rehearsal is None:
        return made
    return replace(made, rehearsed_packages=rehearsed.packages_of(draft.image, lock))


def _look_ahead(draft: Draft, session: Session, secrets: FoundSecrets) -> Preflight | None:
    """Check that the cluster could launch the run; with worker dispatch, say that a worker will."""
    if session.platform.dispatch == "client":
        return preflight_task(draft, session, secrets.problems)
    session.progress.aside(left_to_worker(session.platform.worker_pool.name))
    return None


def _prepare_project_image(
    draft: Draft, decided: DecidedProjectImage, uploads: Uploads, session: Session
) -> Prepared:
    """Have an image that holds the project's packages."""
    environment, request = decided.environment, decided.request
    return _have_image(draft, request, decided.image, environment, environment, uploads, session)


def _mount_packages(
    draft: Draft,
    decided: DecidedBaseImage,
    volume: PackagesVolume,
    uploads: Uploads,
    session: Session,
) -> Prepared:
    """Have an image that holds what the base image lacks, to be mounted."""
    content, environment = volume.environment, decided.environment
    made = _have_image(draft, volume.request, volume.image, content, environment, uploads, session)
    return replace(made, image=decided.image, packages=volume.mounted(made.image))


def _have_image(
    draft: Draft,
    request: ImageRequest,
    found: ResolvedImage | None,
    content: EnvironmentSpec,
    environment: EnvironmentSpec,
    uploads: Uploads,
    session: Session,
) -> Prepared:
    """Have an image made, unless it is there, while the code is uploaded.

    Args:
        draft: The call.
        request: The image.
        found: The image, if it is there.
        content: What it holds.
        environment: What the run has, with what another image holds of it.
        uploads: Brings code and data.
        session: Where it runs and reports.
    """
    platform, progress = session.platform, session.progress
    reasons = reasons_to_build(environment, draft)
    artifact = environment_artifact(environment, draft, reasons)
    # Prefect's cache answers for a build; only the registry knows whether it is still there.
    build = _shared(build_image_task, session, refresh_cache=found is None)
    with stoppable() as work:
        building = build.submit(request, content, reasons, platform, progress)
        with wait_for(*uploads.begin(), building, work=work, session=session):
            publish_environment(artifact, session)
    made = building.result()
    if building.state.name == "Cached":
        progress.step(TASK_BUILD_IMAGE, "cached", request.reference)
    else:
        remember_environment(environment, draft)
    image = found or image_from_fields(made)
    if found is None:
        keep_lock(content, platform.store)
        _tell_built(image, environment, reasons, session)
    return Prepared(
        image=image,
        code=uploads.code(),
        environment=describe_contents(environment, draft),
        built_because=() if found else reasons,
    )


def _tell_built(
    image: ResolvedImage, environment: EnvironmentSpec, reasons: tuple[str, ...], session: Session
) -> None:
    """Tell Prefect that an image had to be built for the flow run that is being driven."""
    run_id = surrounding_flow_run_id()
    if run_id is None:
        return
    with short_retries(session.api_retries(1)):
        tell_event(
            session.api,
            run_id,
            "built",
            reason="; ".join(reasons),
            image=image.reference,
            packages=len(environment.packages),
        )


def _shared(cached: Task[P, R], session: Session, *, refresh_cache: bool = False) -> Task[P, R]:
    """Return a cached task whose results are shared through the cluster's bucket.

    Args:
        cached: The task.
        session: Where the run goes, which says where results are shared.
        refresh_cache: Run the task whatever the cache has.
    """
    storage = session.platform.result_storage(session.api.url)
    options: dict[str, Any] = {"result_storage": storage} if storage else {}
    if refresh_cache:
        options["refresh_cache"] = True
    return cached.with_options(**options) if options else cached


def _prepare_base_image(
    draft: Draft,
    decided: DecidedBaseImage,
    packages: Packages,
    uploads: Uploads,
    session: Session,
) -> Prepared:
    """Have the project's packages mounted, or send them along for the runner to install."""
    if packages.volume is None:
        if packages.told:
            session.progress.aside(packages.told)
        return _install_packages(draft, decided, uploads, session)
    try:
        return _mount_packages(draft, decided, packages.volume, uploads, session)
    except (ImageError, BuildError, LockError) as error:
        if decided.prebuilt == "volume":
            raise
        # Whoever may neither push nor build has them installed, as it always was.
        why = f"the image that would be mounted cannot be made: {error.message.splitlines()[0]}"
        session.progress.notice(installed_because(why))
    return _install_packages(draft, decided, uploads.again(), session)


def _install_packages(
    draft: Draft, decided: DecidedBaseImage, uploads: Uploads, session: Session
) -> Prepared:
    """Send the project's packages along for the runner to install."""
    platform, progress, environment = session.platform, session.progress, decided.environment
    artifact = environment_artifact(environment, draft, reasons_to_build(environment, draft))
    with stoppable() as work:
        upload = _shared(upload_dependencies_task, session)
        installing = upload.submit(decided, draft, platform.store, session.environ, progress)
        with wait_for(*uploads.begin(), installing, work=work, session=session):
            publish_environment(artifact, session)
    requirements = _requirements(installing, decided, draft, session)
    remember_environment(environment, draft)
    return Prepared(
        image=decided.image,
        code=uploads.code(),
        requirements=requirements,
        environment=describe_contents(environment, draft),
    )


def _requirements(
    uploading: PrefectFuture[dict[str, Any]],
    decided: DecidedBaseImage,
    draft: Draft,
    session: Session,
) -> RequirementsSpec:
    """Return the requirements of a run; upload again what the store lost since they were cached."""
    store = session.platform.store
    spec = requirements_of(uploading.result())
    if uploading.state.name != "Cached":
        return spec
    # Prefect's cache answers for an upload; only the store knows what is still there.
    if not store.missing(objects_of(spec)):
        session.progress.step(TASK_UPLOAD_DEPENDENCIES, "cached", spec.lock.name)
        return spec
    again = _shared(upload_dependencies_task, session, refresh_cache=True)
    return requirements_of(again(decided, draft, store, session.environ, session.progress))
