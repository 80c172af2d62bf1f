"""Who makes an image: this client from layers, Cloud Build from layers, or a Dockerfile's build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.errors import BuildError, ImageError, LockError, RegistryAccessError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.image_builder import ImagePreview
from kinetic_flows.core.image_reference import parse_reference
from kinetic_flows.core.image_registry import ImageRegistry, ResolvedImage
from kinetic_flows.core.settings.cloud import Builder
from kinetic_flows.dependencies.wheel_files import ChosenWheels, WheelDownloads, choose_wheels
from kinetic_flows.images.assembly.bases import base_assembly
from kinetic_flows.images.assembly.preview import AssemblyPreview, look_at, start_of
from kinetic_flows.images.assembly.records import LayerRecords
from kinetic_flows.images.assembly.remote_words import as_from_elsewhere
from kinetic_flows.images.assembly.requests import packages_assembly, project_assembly
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.bases import PLATFORM, BaseInputs
from kinetic_flows.images.labels import LABEL_LAYERS
from kinetic_flows.platforms.gke.builds.requests import BuildSource, OnOutput

MAX_DIRECT_BYTES = 100_000_000
"""What this client sends itself, unless it is told to: half a minute at 25 Mbit/s, which is what
Cloud Build takes to begin with."""

_EMPTY = b"{}"
"""A blob that images may have anyway: https://github.com/opencontainers/image-spec/blob/main/
manifest.md#guidance-for-an-empty-descriptor."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """Who assembles an image.

    Attributes:
        builder: This client (`direct`), or `cloud-build`.
        because: Why, in a few words.
    """

    builder: Literal["direct", "cloud-build"]
    because: str

    def __str__(self) -> str:
        return f"{self.builder} ({self.because})"


def choose_route(builder: Builder, bytes_to_send: int) -> Route:
    """Decide who assembles an image.

    Args:
        builder: What the settings say.
        bytes_to_send: About how much has to be sent to the registry.
    """
    if builder != "auto":
        return Route(builder=builder, because=f"KINETIC_BUILDER={builder}")
    size, limit = size_in_units(bytes_to_send), size_in_units(MAX_DIRECT_BYTES)
    if bytes_to_send <= MAX_DIRECT_BYTES:
        return Route(builder="direct", because=f"{size} to send, at most {limit}")
    return Route(builder="cloud-build", because=f"{size} to send, more than {limit}")


class Assembler:
    """Assembles images on this machine, and says beforehand what that will take.

    Args:
        registry: Where images and their layers go.
        home: `KINETIC_HOME`.
        environ: This process's variables: how to reach the index.
        builder: Who assembles images.
        store: Where wheels that ship are; None where none does.
    """

    def __init__(
        self,
        *,
        registry: RegistryWriter,
        home: Path,
        environ: Mapping[str, str],
        builder: Builder,
        store: ArtifactStore | None = None,
    ) -> None:
        self._registry = registry
        self._store = store
        self._home = home
        self._environ = environ
        self._builder = builder
        self._refused: set[str] = set()

    @property
    def is_alone(self) -> bool:
        """Whether Cloud Build has to do with no image: it need not even be allowed."""
        return self._builder == "direct"

    def wheels_of(self, lock: str, *, python: str, platform: str) -> ChosenWheels:
        """Return the wheel of each package of a lock.

        Raises:
            LockError: The public index cannot be asked.
        """
        return choose_wheels(
            lock, python=python, platform=platform, home=self._home, environ=self._environ
        )

    def project(
        self,
        environment: EnvironmentSpec,
        *,
        reference: str,
        repository: str,
        base: ResolvedImage,
        version: str,
    ) -> Assembly | str:
        """Return a project's image as what has to be assembled, or why a build has to make it.

        Args:
            environment: What it contains.
            reference: What it is called, with a tag.
            repository: The repository that it and its layers go to.
            base: Its base image.
            version: This product's version.

        Raises:
            LockError: The public index cannot be asked, and a build is no way out.
        """
        if LABEL_LAYERS not in base.labels:
            return f"its base {base.reference} was not assembled from layers"
        chosen = self._wheels_of_project(environment)
        if not isinstance(chosen, ChosenWheels):
            return chosen
        assembly = project_assembly(
            environment,
            reference=reference,
            repository=repository,
            base=base.reference,
            wheels=chosen.wheels,
            version=version,
        )
        if not start_of(assembly, self._registry).is_assembled:
            return f"its base {base.reference} was not assembled from layers"
        return assembly

    def packages(
        self, environment: EnvironmentSpec, *, reference: str, repository: str, version: str
    ) -> Assembly:
        """Return an image of packages alone, to be mounted, as what has to be assembled.

        Args:
            environment: What it contains.
            reference: What it is called, with a tag.
            repository: The repository that it and its layers go to.
            version: This product's version.

        Raises:
            ImageError: A package has no wheel that fits.
            LockError: The public index cannot be asked.
        """
        chosen = self.wheels_of(
            environment.lock, python=environment.python, platform=environment.platform
        )
        if chosen.sources:
            raise ImageError(
                f"there is no wheel that fits of {', '.join(chosen.sources)}, to be mounted",
                value=chosen.sources,
                hint="say KINETIC_PREBUILT=install, or container_image='bundled'",
            )
        return packages_assembly(
            environment,
            reference=reference,
            repository=repository,
            wheels=chosen.wheels,
            version=version,
        )

    def base(
        self,
        inputs: BaseInputs,
        *,
        repository: str,
        references: Sequence[str],
        labels: Mapping[str, str],
        images: ImageRegistry,
    ) -> Assembly:
        """Return a base image as what has to be assembled.

        Args:
            inputs: What it is made from.
            repository: The repository that it and its layers go to.
            references: What it is called there, with tags; the first one is only its own.
            labels: Its labels.
            images: Where the image it starts from is looked up.

        Raises:
            ImageError: The image it starts from is not there, or the lock names a package without
                a wheel.
            LockError: The public index cannot be asked.
        """
        upstream = images.resolve(inputs.upstream)
        if upstream is None:
            raise ImageError(
                f"the image {inputs.upstream}, which bases start from, does not exist",
                value=inputs.upstream,
                hint="see what KINETIC_REGISTRY_ENDPOINTS puts in Docker Hub's place",
            )
        chosen = self.wheels_of(inputs.lock, python=inputs.python, platform=PLATFORM)
        if chosen.sources:
            names = ", ".join(chosen.sources)
            raise ImageError(
                f"the {inputs.category} base for Python {inputs.python} cannot be assembled: the "
                f"public index has no wheel for {names}",
                value=names,
                hint="run with a Python that has a base: see kinetic build-image --help",
            )
        return base_assembly(
            inputs,
            repository=repository,
            references=references,
            upstream=upstream.reference,
            wheels=chosen.wheels,
            labels=labels,
        )

    def with_base(self, environment: EnvironmentSpec, base: Assembly) -> Assembly | str:
        """Return a project's image together with a base that is not there yet, to be looked at."""
        chosen = self._wheels_of_project(environment)
        if not isinstance(chosen, ChosenWheels):
            return chosen
        wheels = {wheel.name: wheel for wheel in (*base.wheels, *chosen.wheels)}
        return replace(base, wheels=tuple(wheels[name] for name in sorted(wheels)))

    def preview(self, found: Assembly | str) -> ImagePreview:
        """Say how an image would be made; nothing is changed.

        Args:
            found: The image, or why a build has to make it.

        Raises:
            BuildError: The settings want it made here, and only a build can.
            ImageError: As `look_at`.
        """
        if isinstance(found, str):
            self._refuse_build(found)
            return ImagePreview(builder="cloud-build", because=found)
        preview, route = self.look_at(found)
        return ImagePreview(
            builder=route.builder,
            because=route.because,
            layers=preview.layers,
            known=preview.known,
            bytes_to_send=preview.bytes_to_send,
            warnings=preview.warnings,
        )

    def look_at(self, assembly: Assembly) -> tuple[AssemblyPreview, Route]:
        """Return what an assembly will take, and who does it; nothing is changed.

        Raises:
            ImageError: What it starts from cannot be read, or the registry cannot be asked.
        """
        preview = look_at(assembly, self._registry, LayerRecords(self._registry, self._home))
        return preview, choose_route(self._builder, preview.bytes_to_send)

    def made_here(self, source: BuildSource | Assembly, on_output: OnOutput) -> str | None:
        """Assemble an image here, if that is how it is to be made.

        Args:
            source: What it is made from.
            on_output: Told what happens.

        Returns:
            Its digest; None where Cloud Build has to make it.

        Raises:
            BuildError: The settings want it made here, and only a build can.
            KineticError: It cannot be assembled.
        """
        if isinstance(source, BuildSource):
            self._refuse_build(source.because)
            on_output(f"builder: cloud-build, from a Dockerfile ({source.because})")
            return None
        preview, route = self.look_at(source)
        on_output(f"image: {preview}")
        if route.builder == "direct" and source.layers in self._refused:
            return None
        on_output(f"builder: {route}")
        if route.builder == "cloud-build":
            return None
        return self._assembled(source, on_output, preview)

    def source_of(self, assembly: Assembly) -> BuildSource:
        """Return what a build assembles an image from.

        Raises:
            KineticError: A wheel that ships cannot be read.
        """
        # What makes layers is not imported by calls that need none.
        from kinetic_flows.platforms.gke.builds.assembly_source import assembly_source

        return assembly_source(assembly, self._downloads())

    def _assembled(
        self, assembly: Assembly, on_output: OnOutput, preview: AssemblyPreview
    ) -> str | None:
        from kinetic_flows.images.assembly.assemble import assemble

        wheels = self._downloads()
        try:
            if preview.to_make:  # nothing is downloaded in vain
                self._try_to_push(assembly)
            digest = assemble(
                assembly,
                self._registry,
                wheels,
                home=self._home,
                environ=self._environ,
                on_output=lambda line: on_output(as_from_elsewhere(line)),
                survey=preview.survey,
            )
        except RegistryAccessError as error:
            if self.is_alone:
                raise _with_way_out(error) from error
            self._refused.add(assembly.layers)
            on_output(f"builder: cloud-build, because {error.message}")
            return None
        wheels.discard()
        return digest

    def _wheels_of_project(self, environment: EnvironmentSpec) -> ChosenWheels | str:
        """Return the wheels of a project, or why a build has to make its image."""
        try:
            chosen = self.wheels_of(
                environment.lock, python=environment.python, platform=environment.platform
            )
        except LockError as error:
            if self.is_alone:
                raise
            return error.message.partition("\n")[0]
        if chosen.sources:
            return f"the index has no wheel that fits of {', '.join(chosen.sources)}"
        return chosen

    def _try_to_push(self, assembly: Assembly) -> None:
        """Find out whether anything may be pushed to where an image goes.

        Raises:
            RegistryAccessError: Nothing may.
        """
        name = parse_reference(assembly.reference).name
        self._registry.upload_document(name, _EMPTY)

    def _downloads(self) -> WheelDownloads:
        return WheelDownloads(self._home, self._environ, self._store)

    def _refuse_build(self, because: str) -> None:
        if self.is_alone:
            raise BuildError(
                f"only Cloud Build can make this image: {because}",
                value="direct",
                hint="KINETIC_BUILDER=auto lets it; direct is for images of layers alone",
            )


def _with_way_out(error: RegistryAccessError) -> RegistryAccessError:
    """Return the error of a client that may not push, with the other way out."""
    other = "or have Cloud Build push, with KINETIC_BUILDER=cloud-build"
    return RegistryAccessError(error.message, value=error.value, hint=f"{error.hint}; {other}")
