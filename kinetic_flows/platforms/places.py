"""What planning a call depends on where it will run: this machine, or Google Cloud."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Protocol, TypeAlias

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.environment import Category, EnvironmentSpec, ImageMode
from kinetic_flows.core.errors import AcceleratorError, ConfigurationError, UsageError
from kinetic_flows.core.image_modes import BUNDLED, CUSTOM, PREBUILT, mode_of
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.pod_security import HOME, of_built_image, of_own_image
from kinetic_flows.core.protocols import ImageRegistry, ResolvedImage
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.core.settings.pool_variables import merged
from kinetic_flows.dependencies.targets import Target, cloud_target, lean_target, local_target
from kinetic_flows.images.base_lookup import (
    BUILD_YOUR_OWN,
    USE_BUNDLED,
    WantedBase,
    find_base,
    is_made_from,
)
from kinetic_flows.images.bases import (
    BaseInputs,
    lean_inputs,
    read_base_inputs,
    read_bootstrap,
    read_project_template,
)
from kinetic_flows.images.inspection import Wanted
from kinetic_flows.images.tags import local_image_reference, project_image
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.image_sources import BaseImage, ImageSource, OwnImage, ProjectImage

BaseSource: TypeAlias = Callable[[Category, str], BaseInputs]
"""Gives the inputs of the base image for a category and a Python minor version."""

NOTHING_CONFIGURED = "no cluster is configured: running on this machine"
PREBUILT_HERE = "container_image='prebuilt' uses the same environment as bundled on this machine"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to tell the person before anything happens."""

    notices: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """One run, as far as what it is started with depends on it.

    Attributes:
        run_id: The run's id; empty for runs whose ids a Prefect worker will know.
        name: The function's name.
        image: The image it runs in.
        accelerator: What it runs on.
        mode: How its image comes to be.
        options: How it is to run.
    """

    run_id: str
    name: str
    image: ResolvedImage
    accelerator: Accelerator
    mode: ImageMode
    options: RunOptions


@dataclass(frozen=True, kw_only=True)
class ImageWish:
    """What somebody says of the image they want.

    Attributes:
        container_image: `bundled` (also None), `prebuilt`, or an image reference.
        ship_wheels: Whether prebuilt mode sends every package along.
        framework: `jax` or `none`, for the base; None to let the packages decide.
    """

    container_image: str | None = None
    ship_wheels: bool = False
    framework: str | None = None

    @property
    def mode(self) -> ImageMode:
        """The mode it means."""
        return mode_of(self.container_image)


class Place(Protocol):
    """Where a call will run, as far as its plan is concerned."""

    def image_source(self, asked: ImageWish, accelerator: Accelerator) -> ImageSource:
        """Return where the image comes from.

        Raises:
            KineticError: The accelerator, or an image of that kind, is not to be had here.
        """
        ...

    def advise(self, accelerator: Accelerator, mode: ImageMode) -> Advice:
        """Return what the person should know about running this here."""
        ...

    def hosts(self, accelerator: Accelerator) -> int:
        """Return how many hosts a run has, each with a runner of its own."""
        ...

    def runner_environment(self) -> Mapping[str, str]:
        """Return the variables by which the runner finds what is not where it usually is."""
        ...

    def job_variables(self, request: JobRequest) -> Mapping[str, Any]:
        """Return what the work pool's template is given for a run."""
        ...

    def security_context(
        self, mode: ImageMode, accelerator: Accelerator, image: ResolvedImage | None = None
    ) -> Mapping[str, Any] | None:
        """Return what a container may do where nobody says; None for what the work pool says.

        Args:
            mode: How its image comes to be.
            accelerator: What it runs on.
            image: Its image; None when it is not known yet.
        """
        ...

    def chosen_variables(self, options: RunOptions) -> Mapping[str, Any]:
        """Return what people set of the template's variables."""
        ...

    @property
    def has_preflight(self) -> bool:
        """Whether to find out what speaks against a launch before anything is built for it."""
        ...


@dataclass(frozen=True, kw_only=True)
class LocalPlace:
    """This machine.

    Attributes:
        is_explicit: Whether somebody chose it; else it is what remains.
    """

    is_explicit: bool

    def image_source(self, asked: ImageWish, accelerator: Accelerator) -> ImageSource:
        """Return a virtual environment of the running interpreter; an image cannot be run."""
        self._check(accelerator)
        if asked.mode == CUSTOM:
            raise UsageError(
                f"container_image {asked.container_image!r} is an image, and this machine runs "
                "none",
                value=asked.container_image,
                hint="configure a cluster (KINETIC_PROJECT) to use images, or drop container_image",
            )
        return ProjectImage(
            target=local_target(accelerator.category),
            name_of=_local_name,
            built_by="uv",
            mode=asked.mode,
        )

    def _check(self, accelerator: Accelerator) -> None:
        """Refuse to pretend that this machine is an accelerator, unless told to."""
        if accelerator.category != "cpu" and not self.is_explicit:
            raise ConfigurationError(
                f"accelerator {str(accelerator)!r} needs a cluster, and none is configured",
                value=str(accelerator),
                hint="set KINETIC_PROJECT (and KINETIC_CLUSTER, KINETIC_ZONE) to run on GKE; or "
                "set KINETIC_PLATFORM=local to run on this machine's CPU all the same",
            )

    def advise(self, accelerator: Accelerator, mode: ImageMode) -> Advice:
        """Say that it runs here, and how that differs from what was asked for."""
        notices = [] if self.is_explicit else [NOTHING_CONFIGURED]
        notices += [PREBUILT_HERE] if mode == "prebuilt" else []
        is_cpu = accelerator.category == "cpu"
        warning = f"{accelerator} was asked for; KINETIC_PLATFORM=local runs on the CPU here"
        return Advice(notices=tuple(notices), warnings=() if is_cpu else (warning,))

    def hosts(self, accelerator: Accelerator) -> int:  # noqa: ARG002 - whatever it stands for
        """Return one: this machine."""
        return 1

    def runner_environment(self) -> Mapping[str, str]:
        """Return nothing: the store is a directory."""
        return {}

    def job_variables(self, request: JobRequest) -> Mapping[str, Any]:  # noqa: ARG002
        """Return nothing: a child process is no Job."""
        return {}

    def security_context(
        self,
        mode: ImageMode,
        accelerator: Accelerator,
        image: ResolvedImage | None = None,
    ) -> None:
        """Return nothing: a child process is this machine's user's."""

    def chosen_variables(self, options: RunOptions) -> Mapping[str, Any]:  # noqa: ARG002
        """Return nothing: a child process is no Job."""
        return {}

    @property
    def has_preflight(self) -> bool:
        """No: there is nothing between this machine and itself."""
        return False


@dataclass(frozen=True, kw_only=True)
class CloudPlace:
    """A GKE cluster.

    Attributes:
        cloud: The settings of Google Cloud.
        registry: Where a configured base image is looked up.
        bases: What gives the inputs of the base for a category and a Python.
        python: Python minor version of the images.
    """

    cloud: CloudSettings
    registry: ImageRegistry
    bases: BaseSource = read_base_inputs
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}"

    def image_source(self, asked: ImageWish, accelerator: Accelerator) -> ImageSource:
        """Return an image for the nodes, with this Python minor version."""
        if asked.mode == CUSTOM:
            wanted = Wanted(
                python=self.python,
                architecture=accelerator.architecture,
                category=accelerator.category,
            )
            return OwnImage(reference=str(asked.container_image).strip(), wanted=wanted)
        _require_amd64(accelerator)
        inputs = self.bases(accelerator.category, self.python)
        if asked.mode == PREBUILT:
            target = _target(inputs, accelerator, asked.framework)
            return BaseImage(
                target=target,
                wanted=self._wanted_base(target),
                ship_wheels=asked.ship_wheels,
            )
        target = _target(inputs, accelerator, asked.framework, template=read_project_template())
        # A base is identified by its inputs, unless somebody chose it.
        base = self._configured_base(target)
        return ProjectImage(
            target=replace(target, base_identity=base.digest) if base else target,
            name_of=self._project_image,
            built_by="Cloud Build",
            has_known_base=base is None or is_made_from(base, target.base_identity),
            lean_base=(lambda: self._lean_digest(target)) if base and target.otherwise else None,
        )

    def _wanted_base(self, target: Target) -> WantedBase:
        return WantedBase(
            repository=self.cloud.base_image_repo,
            category=target.category,
            python=target.python,
            variant=target.variant,
            tag=self.cloud.base_image_tag or version("kinetic-flows"),
            otherwise=USE_BUNDLED,
        )

    def _configured_base(self, target: Target) -> ResolvedImage | None:
        """Return the base of project images that somebody chose; None where nobody did."""
        if self.cloud.base_repository is None:
            return None
        wanted = replace(self._wanted_base(target), otherwise=BUILD_YOUR_OWN)
        return find_base(self.registry, wanted).image

    def _lean_digest(self, target: Target) -> str:
        base = self._configured_base(target.settled("lean"))
        return base.digest if base else target.settled("lean").base_identity

    def _project_image(self, environment: EnvironmentSpec) -> str:
        return project_image(
            self.cloud.image_repo, environment.category, environment.dependency_hash
        )

    def advise(
        self,
        accelerator: Accelerator,  # noqa: ARG002 - what was asked for is what is used
        mode: ImageMode,  # noqa: ARG002
    ) -> Advice:
        """Say nothing: it is as the person asked."""
        return Advice()

    def hosts(self, accelerator: Accelerator) -> int:
        """Return the hosts of the accelerator's slice."""
        return accelerator.hosts

    def runner_environment(self) -> Mapping[str, str]:
        """Return where Cloud Storage is, when it is not Google's."""
        endpoint = self.cloud.storage_endpoint
        return {"STORAGE_EMULATOR_HOST": endpoint} if endpoint else {}

    def job_variables(self, request: JobRequest) -> Mapping[str, Any]:
        """Return the variables of the work pool `kinetic-gke`."""
        config = request.image.config
        return job_variables(
            PodRequest(
                run_id=request.run_id,
                name=request.name,
                image=request.image.reference,
                image_environment=config.environment if config else None,
                accelerator=request.accelerator,
                arguments=_bootstrap_arguments(request.mode),
                environment=_user_environment(request.mode),
                security_context=self.security_context(
                    request.mode, request.accelerator, request.image
                ),
                namespace=self.cloud.namespace,
                max_preemptions=request.options.max_preemptions,
                schedule_timeout_seconds=request.options.schedule_timeout_seconds,
                variables=self.chosen_variables(request.options),
            )
        )

    def security_context(
        self, mode: ImageMode, accelerator: Accelerator, image: ResolvedImage | None = None
    ) -> Mapping[str, Any] | None:
        """Return what a container may do where nobody says; None for what the work pool says."""
        if mode != CUSTOM:
            return of_built_image(accelerator.category)
        return of_own_image(image.config.user if image and image.config else None)

    def chosen_variables(self, options: RunOptions) -> Mapping[str, Any]:
        """Return what the cluster's settings and the function's options say, which wins."""
        return merged(self.cloud.job_variables, options.job_variables)

    @property
    def has_preflight(self) -> bool:
        """Yes, unless only a worker has to do with the cluster."""
        return self.cloud.dispatch != "worker"


def _local_name(environment: EnvironmentSpec) -> str:
    return local_image_reference(environment.category, environment.dependency_hash)


def _require_amd64(accelerator: Accelerator) -> None:
    """Refuse what our own x86-64 images cannot run on."""
    if accelerator.architecture != "amd64":
        raise AcceleratorError(
            f"{accelerator} nodes are {accelerator.architecture}, and images are built for x86-64",
            value=str(accelerator),
            hint="choose an accelerator whose nodes are x86-64 (kinetic accelerators), or give "
            f"an {accelerator.architecture} image of your own as container_image=",
        )


def _target(
    inputs: BaseInputs, accelerator: Accelerator, framework: str | None, template: str = ""
) -> Target:
    """Return what is locked for: the base that was asked for, or what the packages decide."""
    with_jax = cloud_target(
        inputs.category,
        inputs.python,
        base_lock=inputs.lock,
        base_identity=str(inputs.identity),
        template=template,
        needs=accelerator.runtime,
    )
    if not inputs.is_shipped:
        with_jax = replace(with_jax, made_base_lock=inputs.lock)
    lean = lean_inputs(inputs)
    without = lean_target(with_jax, base_lock=lean.lock, base_identity=str(lean.identity))
    if framework == "none":
        return without
    return replace(with_jax, otherwise=without) if framework is None else with_jax


def _user_environment(mode: ImageMode) -> Mapping[str, str]:
    """Name the user of images that run as one they do not know, and where that can write."""
    return {} if mode == CUSTOM else {"HOME": HOME, "USER": "kinetic"}


def _bootstrap_arguments(mode: ImageMode) -> tuple[str, ...]:
    """Return what starts the bootstrap: images that were not built for the run may lack it."""
    if mode == BUNDLED:
        return ("/app/remote_runner.py",)
    return ("-c", read_bootstrap().decode())
