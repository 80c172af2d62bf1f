"""The flow `kinetic-build-image`: base images, made at the same time, one task for each.

The command `kinetic build-image` runs it here; a deployment of it runs on a schedule. Its
parameters are names only: registry credentials are in Secret Manager.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prefect import flow, unmapped
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture

from kinetic_flows.clients.prefect import flow_names
from kinetic_flows.clients.prefect.api import connect
from kinetic_flows.core.errors import BuildError, KineticError
from kinetic_flows.core.interruption import stoppable
from kinetic_flows.core.progress import Progress
from kinetic_flows.core.settings.settings import Settings, load_settings, process_environment
from kinetic_flows.core.terminal import terminal_progress
from kinetic_flows.core.version import VERSION
from kinetic_flows.dependencies.own_wheel import own_wheel
from kinetic_flows.flows.build_image_task import (
    BaseImageFailed,
    BaseOutcome,
    build_base_image_task,
    publish_outcomes,
)
from kinetic_flows.flows.defaults import own_settings
from kinetic_flows.flows.engine import quiet_console
from kinetic_flows.images.base_image_specs import (
    CATEGORIES,
    BaseImageSpec,
    BaseImagesRequest,
    base_image_specs,
    check_categories,
    check_pythons,
    check_repository,
    check_tag,
    controller_image_spec,
)
from kinetic_flows.platforms.gke.builds.base_images import (
    BaseImagePlatform,
    needs_docker_hub,
)
from kinetic_flows.runs.ledger import ClientLedger
from kinetic_flows.runs.session import configure, prefect_api_url


class BaseImagesFailed(BuildError):
    """Some base images could not be made; `outcomes` tells of each."""

    def __init__(self, outcomes: Sequence[BaseOutcome], *, hint: str) -> None:
        failed = [outcome for outcome in outcomes if outcome.action == "failed"]
        parts = [f"{outcome.name}: {outcome.error}" for outcome in failed]
        super().__init__(
            f"{len(failed)} of {len(outcomes)} base images could not be made\n" + "\n".join(parts),
            value=[outcome.name for outcome in failed],
            hint=hint,
        )
        self.outcomes = tuple(outcomes)


@dataclass(frozen=True, kw_only=True)
class BaseImagesPlan:
    """Everything decided about one run of the flow before it starts.

    Attributes:
        request: The base images to build.
        settings: The settings in force.
        specs: The images.
        platform: Where they are built and kept.
        on_docker_hub: Whether they go to Docker Hub.
    """

    request: BaseImagesRequest
    settings: Settings
    specs: tuple[BaseImageSpec, ...]
    platform: BaseImagePlatform
    on_docker_hub: bool


@dataclass(frozen=True, kw_only=True)
class BuildImageParameters:
    """The parameters of the flow, as its own documentation tells of them; None is not given."""

    repository: str
    categories: list[str] | None = None
    tag: str | None = None
    pythons: list[str] | None = None
    dockerfile: str | None = None
    no_cache: bool = False
    controller: bool = False
    project: str | None = None
    cluster: str | None = None


def plan_base_images(
    parameters: BuildImageParameters, environ: Mapping[str, str], progress: Progress
) -> BaseImagesPlan:
    """Decide which images are built; only Prefect is asked, for a profile.

    Args:
        parameters: The flow's parameters.
        environ: This process's variables.
        progress: Told when a background Prefect server has to be started.

    Raises:
        KineticError: Something of it cannot be.
    """
    categories: Sequence[str] | None = parameters.categories
    if categories is None:
        categories = () if parameters.controller else CATEGORIES
    request = BaseImagesRequest(
        repository=check_repository(parameters.repository),
        tag=check_tag(parameters.tag or VERSION),
        version=VERSION,
        categories=check_categories(categories),
        pythons=check_pythons(parameters.pythons or (running_python(),)),
        dockerfile=Path(parameters.dockerfile) if parameters.dockerfile else None,
        from_scratch=parameters.no_cache,
    )
    specs = base_image_specs(request)
    for warning in dict.fromkeys(line for spec in specs for line in spec.warnings):
        progress.warning(warning)
    settings = _settings(parameters, environ, progress)
    if parameters.controller:
        specs += (controller_image_spec(request, *own_wheel(settings.home, environ)),)
    return BaseImagesPlan(
        request=request,
        settings=settings,
        specs=specs,
        platform=BaseImagePlatform(settings.required_cloud(), environ, settings.home),
        on_docker_hub=needs_docker_hub(request.repository),
    )


def _settings(
    parameters: BuildImageParameters, environ: Mapping[str, str], progress: Progress
) -> Settings:
    """Return the settings of Google Cloud, which builds base images wherever functions run."""
    arguments = {"project": parameters.project, "cluster": parameters.cluster}
    given = {name: value for name, value in arguments.items() if value}
    environ = {**environ, "KINETIC_PLATFORM": "gke"}
    return configure(load_settings(environ), environ, progress, given)


def running_python() -> str:
    """Return the minor version of this Python."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


@flow(
    name=flow_names.BUILD_IMAGE_FLOW,
    flow_run_name="base images to {repository}",
    version="1",
    retries=0,
    retry_delay_seconds=0,
    log_prints=False,
    persist_result=False,
)
def kinetic_build_image(
    repository: str,
    categories: list[str] | None = None,
    tag: str | None = None,
    pythons: list[str] | None = None,
    dockerfile: str | None = None,
    no_cache: bool = False,
    controller: bool = False,
    project: str | None = None,
    cluster: str | None = None,
) -> list[BaseOutcome]:
    """Make and push base images, all at the same time.

    An image whose names hold one of exactly these inputs is not made again, so that another
    run makes only what is missing.

    Args:
        repository: Where the images go, such as `us-docker.pkg.dev/my-project/kinetic-base`.
        categories: Kinds of accelerator: `cpu`, `gpu`, `tpu`, which are all by default; `gpu-lean`
            and the like for bases without a framework.
        tag: Version tag; the version of kinetic-flows by default.
        pythons: Python minor versions; the first one's images also get the plain tag.
        dockerfile: Path of a Dockerfile of your own.
        no_cache: Make what exists already, from the newest image of Python; a Dockerfile is
            built without any layer of an earlier build.
        controller: Build the image that kinetic-flows' own flows run in.
        project: Google Cloud project.
        cluster: GKE cluster, or the name of a profile.

    Returns:
        What came of each image.

    Raises:
        BaseImagesFailed: Some could not be made; the others were.
    """
    environ = process_environment()
    progress = terminal_progress(load_settings(environ).progress, environ)
    parameters = BuildImageParameters(
        repository=repository,
        categories=categories,
        tag=tag,
        pythons=pythons,
        dockerfile=dockerfile,
        no_cache=no_cache,
        controller=controller,
        project=project,
        cluster=cluster,
    )
    plan = plan_base_images(parameters, environ, progress)
    if plan.on_docker_hub:
        plan.platform.check_docker_hub()
    with _noted(plan.settings):
        outcomes = _build(plan, progress)
    publish_outcomes(outcomes)
    if any(outcome.action == "failed" for outcome in outcomes):
        raise BaseImagesFailed(outcomes, hint="run it again: what was made is not built again")
    return outcomes


def run_here(
    parameters: BuildImageParameters, environ: Mapping[str, str], progress: Progress
) -> list[BaseOutcome]:
    """Run the flow in this process.

    Raises:
        KineticError: It failed.
    """
    api_url = prefect_api_url(load_settings(environ), environ, progress)
    try:
        with connect(api_url), quiet_console(), own_settings():
            outcomes: list[BaseOutcome] = kinetic_build_image(**asdict(parameters))
    except KineticError as error:
        # Prefect's engine is no part of what went wrong.
        raise error.with_traceback(None) from None
    return outcomes


def _build(plan: BaseImagesPlan, progress: Progress) -> list[BaseOutcome]:
    with stoppable() as work:
        futures = build_base_image_task.map(
            plan.specs, platform=unmapped(plan.platform), progress=unmapped(progress)
        )
        try:
            futures.wait()
        except BaseException:
            work.stop()
            plan.platform.cancel_builds()
            raise
    return [_outcome(spec, future) for spec, future in zip(plan.specs, futures, strict=True)]


def _outcome(spec: BaseImageSpec, future: PrefectFuture[BaseOutcome]) -> BaseOutcome:
    result: Any = future.result(raise_on_failure=False)
    if isinstance(result, BaseOutcome):
        return result
    if not isinstance(result, KineticError):
        raise result if isinstance(result, BaseException) else TypeError(f"no outcome: {result}")
    return BaseOutcome(
        name=spec.name,
        references=spec.references,
        action="failed",
        seconds=result.seconds if isinstance(result, BaseImageFailed) else 0.0,
        error=str(result),
    )


def _noted(settings: Settings) -> Any:
    """Note that this process drives the flow run, so that it does not outlive us in Prefect."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return nullcontext()
    return ClientLedger(settings.home / "clients").entered(str(context.flow_run.id))
