"""The task that builds one base image, and its outcome."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prefect.artifacts import create_table_artifact

from kinetic_flows.clients.prefect.flow_names import BASE_IMAGES_ARTIFACT, TASK_BUILD_BASE_IMAGE
from kinetic_flows.core.display import for_markdown
from kinetic_flows.core.errors import BuildError, KineticError
from kinetic_flows.core.image_builder import StartedBuild
from kinetic_flows.core.image_reference import image_page
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.progress import Progress
from kinetic_flows.flows.defaults import own_task
from kinetic_flows.flows.steps import Step, publish_link, step
from kinetic_flows.images.base_image_specs import BaseImageSpec, find_existing
from kinetic_flows.platforms.gke.builds.base_images import BaseImagePlatform


@dataclass(frozen=True, kw_only=True)
class BaseOutcome:
    """The outcome of one base image.

    Attributes:
        name: What it is called: a category, or `controller`.
        references: Its names.
        action: Whether the image was built, was up to date, or failed.
        digest: Its digest; empty when there is no image.
        size_bytes: Compressed size of its layers, which a node has to pull; 0 when unknown.
        seconds: How long it took, or how long until it had failed.
        error: Message of the error that it failed with; empty otherwise.
    """

    name: str
    references: tuple[str, ...]
    action: Literal["built", "unchanged", "failed"]
    digest: str = ""
    size_bytes: int = 0
    seconds: float = 0.0
    error: str = ""


class BaseImageFailed(BuildError):
    """One base image could not be made; `seconds` says how long it took to know."""

    def __init__(self, cause: KineticError, seconds: float) -> None:
        super().__init__(cause.message, value=cause.value, hint=cause.hint)
        self.seconds = seconds


# "order" is in what Prefect keeps of the task: how its runs are called.
@own_task(TASK_BUILD_BASE_IMAGE, run_name=TASK_BUILD_BASE_IMAGE + " {order.name}")
def build_base_image_task(
    order: BaseImageSpec, platform: BaseImagePlatform, progress: Progress
) -> BaseOutcome:
    """Build and push one base image, unless its names hold one of exactly these inputs."""
    started = time.monotonic()
    try:
        with step(progress, f"{TASK_BUILD_BASE_IMAGE} {order.name}") as current:
            image, action = _ensure(order, platform, current, progress)
            current.finish(f"{order.references[-1]} {action}, {image.digest}")
    except KineticError as error:
        raise BaseImageFailed(error, _seconds_since(started)) from error
    return _outcome(order, image, action, _seconds_since(started))


def _ensure(
    spec: BaseImageSpec, platform: BaseImagePlatform, current: Step, progress: Progress
) -> tuple[ResolvedImage, Literal["built", "unchanged"]]:
    existing = find_existing(spec, platform.registry)
    if existing.image is not None and not existing.has_to_be_made:
        return existing.image, "unchanged"
    return _build(spec, platform, current, progress), "built"


def _seconds_since(started: float) -> float:
    return round(time.monotonic() - started, 1)


def _build(
    spec: BaseImageSpec, platform: BaseImagePlatform, current: Step, progress: Progress
) -> ResolvedImage:
    """Build an image: what it prints goes to Prefect, the link to the build is shown, too."""

    def announce(build: StartedBuild) -> None:
        publish_link(build.url, f"Cloud Build {build.id} makes {build.image}")
        progress.notice(f"{spec.name}: Cloud Build {build.id}: {build.url}")

    image = platform.build(spec, current.follow, on_build=announce)
    publish_link(image_page(image.reference), f"The image {image.reference}")
    return image


def _outcome(
    spec: BaseImageSpec, image: ResolvedImage, action: Literal["built", "unchanged"], seconds: float
) -> BaseOutcome:
    return BaseOutcome(
        name=spec.name,
        references=spec.references,
        action=action,
        digest=image.digest,
        size_bytes=image.config.size_bytes if image.config else 0,
        seconds=seconds,
    )


def publish_outcomes(outcomes: Sequence[BaseOutcome]) -> None:
    """Publish the outcomes as a table artifact of the flow run."""
    create_table_artifact(
        key=BASE_IMAGES_ARTIFACT,
        table=[_row(outcome) for outcome in outcomes],
        description="Base images and what became of them",
    )


def _row(outcome: BaseOutcome) -> dict[str, Any]:
    return {
        "image": outcome.name,
        "result": outcome.action,
        "references": " ".join(outcome.references),
        "digest": outcome.digest,
        "size (MB)": round(outcome.size_bytes / 1e6, 1),
        "seconds": outcome.seconds,
        "error": for_markdown(outcome.error.partition("\n")[0]),
    }
