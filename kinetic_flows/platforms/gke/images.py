"""Which image a run on a cluster has: what it is locked for, made from and called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TypeAlias

from kinetic_flows.core.accelerators import Accelerator
from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.errors import AcceleratorError
from kinetic_flows.core.image_reference import CUSTOM, PREBUILT
from kinetic_flows.core.image_registry import ImageRegistry, ResolvedImage
from kinetic_flows.core.settings.cloud import CloudSettings
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.images.base_lookup import (
    BUILD_YOUR_OWN,
    USE_BUNDLED,
    WantedBase,
    find_base,
    is_made_from,
)
from kinetic_flows.images.bases import (
    BaseInputs,
    project_recipe,
    read_base_inputs,
)
from kinetic_flows.images.inspection import ImageRequirements
from kinetic_flows.images.tags import packages_image, project_image
from kinetic_flows.platforms.accelerator_targets import accelerator_target
from kinetic_flows.platforms.base import ImageOptions
from kinetic_flows.platforms.image_sources import BaseImage, ImageSource, OwnImage, ProjectImage

BaseSource: TypeAlias = Callable[[Category, str], BaseInputs]
"""Gives the inputs of the base image for a category and a Python minor version."""


@dataclass(frozen=True, kw_only=True)
class ClusterImages:
    """The images that runs on a cluster have.

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

    def source(self, asked: ImageOptions, accelerator: Accelerator) -> ImageSource:
        """Return an image for the nodes, with this Python minor version."""
        if asked.mode == CUSTOM:
            required = ImageRequirements(
                python=self.python,
                architecture=accelerator.architecture,
                category=accelerator.category,
            )
            return OwnImage(reference=str(asked.container_image).strip(), required=required)
        _require_amd64(accelerator)
        inputs = self.bases(accelerator.category, self.python)
        if asked.mode == PREBUILT:
            target = accelerator_target(inputs, accelerator, asked.framework)
            return BaseImage(
                target=target,
                wanted=self._wanted_base(target),
                volume_of=self._packages_image,
                ship_wheels=asked.ship_wheels,
                prebuilt=self.cloud.prebuilt,
            )
        target = accelerator_target(inputs, accelerator, asked.framework, template=project_recipe())
        # A base is identified by its inputs, unless a repository of bases is configured.
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
        """Return the configured base of project images; None where none is configured."""
        if self.cloud.base_repository is None:
            return None
        wanted = replace(self._wanted_base(target), otherwise=BUILD_YOUR_OWN)
        return find_base(self.registry, wanted).image

    def _lean_digest(self, target: Target) -> str:
        base = self._configured_base(target.settled("lean"))
        return base.digest if base else target.settled("lean").base_identity

    def _packages_image(self, environment: EnvironmentSpec) -> str:
        return packages_image(
            self.cloud.image_repo, environment.category, environment.dependency_hash
        )

    def _project_image(self, environment: EnvironmentSpec) -> str:
        return project_image(
            self.cloud.image_repo, environment.category, environment.dependency_hash
        )


def _require_amd64(accelerator: Accelerator) -> None:
    """Refuse what our own x86-64 images cannot run on."""
    if accelerator.architecture != "amd64":
        raise AcceleratorError(
            f"{accelerator} nodes are {accelerator.architecture}, and images are built for x86-64",
            value=str(accelerator),
            hint="choose an accelerator whose nodes are x86-64 (kinetic accelerators), or give "
            f"an {accelerator.architecture} image of your own as container_image=",
        )
