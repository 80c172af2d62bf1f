"""An image that must exist, and who is told of its builds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from kinetic_flows.core import object_names
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import BuildError, ObjectNotFoundError
from kinetic_flows.core.image_builder import OnBuild
from kinetic_flows.core.image_registry import ImageRegistry, ResolvedImage
from kinetic_flows.images import tags
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.dockerfiles import BuildContext, BuildRecipe
from kinetic_flows.platforms.gke.builds.build import (
    AssemblyRecipe,
    BuildOptions,
    BuildSpec,
    BuildState,
    RegistryLogin,
)
from kinetic_flows.platforms.gke.builds.failures import image_build_error

OnOutput: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Listener:
    """Whom to tell of a build: of each line of its log, and of the build itself."""

    on_output: OnOutput
    on_build: OnBuild


def _by_name(request: BuildRequest, registry: ImageRegistry) -> ResolvedImage | None:
    return registry.resolve(request.reference)


def _as_told(request: BuildRequest, state: BuildState, lines: Sequence[str]) -> BuildError:
    return image_build_error(state, lines, request.reference)


@dataclass(frozen=True, kw_only=True)
class BuildSource:
    """What a build makes an image from.

    Attributes:
        context: Its files.
        recipe: How it is made of them.
        because: Why only a build can make it, where it could be assembled from layers otherwise.
    """

    context: BuildContext
    recipe: BuildRecipe | AssemblyRecipe = field(default_factory=BuildRecipe)
    because: str = "it has a Dockerfile"


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """One image that must exist.

    Attributes:
        reference: Its name, with a tag.
        subject: What its lease and its builds are called after.
        source: Tells what it is made from, when it has to be made after all.
        also: Its further names.
        logins: Registries that its build logs in to first.
        find: Looks the image up; None while it has to be built. Whatever has its name, by
            default.
        failure: Makes the error for a build that ended without the image, from its log.
    """

    reference: str
    subject: str
    source: Callable[[], BuildSource | Assembly]
    also: tuple[str, ...] = ()
    logins: tuple[RegistryLogin, ...] = ()
    find: Callable[[BuildRequest, ImageRegistry], ResolvedImage | None] = _by_name
    failure: Callable[[BuildRequest, BuildState, Sequence[str]], BuildError] = _as_told

    @property
    def tag(self) -> str:
        """Tag by which its builds are found."""
        return tags.build_tag(self.reference, self.subject)

    def upload(self, source: BuildSource, store: ArtifactStore, options: BuildOptions) -> BuildSpec:
        """Upload its source, unless it is there, and return the build to submit.

        Args:
            source: What it is made from.
            store: The bucket of sources and logs.
            options: How builds run.

        Raises:
            StoreError: The source cannot be uploaded.
        """
        archive = source.context.archive()
        name = object_names.build_source_object(hashlib.sha256(archive).hexdigest())
        generation = _uploaded(store, name, archive)
        bucket, _, prefix = store.uri.removeprefix("gs://").partition("/")
        folder = f"{prefix}/" if prefix else ""
        return BuildSpec(
            image=self.reference,
            bucket=bucket,
            source_object=f"{folder}{name}",
            source_generation=generation,
            logs_prefix=f"{folder}{object_names.BUILD_LOGS}",
            tags=("kinetic", self.tag),
            also=self.also,
            options=replace(options, logins=self.logins),
            recipe=source.recipe,
        )


def _uploaded(store: ArtifactStore, name: str, archive: bytes) -> str:
    """Upload a source, and return the generation that holds exactly it.

    What lies under its name already may be anybody's: it is read and compared, and replaced
    where it is something else. A build is told the generation, so that nothing takes its place.
    """
    generation = store.replace_if_unchanged(name, archive, None)
    while generation is None:
        try:
            current = store.get(name)
        except ObjectNotFoundError:
            generation = store.replace_if_unchanged(name, archive, None)
            continue
        if current.data == archive:
            return current.generation
        generation = store.replace_if_unchanged(name, archive, current.generation)
    return generation
