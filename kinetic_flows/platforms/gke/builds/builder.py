"""Images of projects and their bases: what each is made from, and having it made.

Both are assembled from layers; what cannot be is built from a Dockerfile by Cloud Build.
"""

from __future__ import annotations

from dataclasses import replace

from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.environment import EnvironmentSpec, ImageRequest
from kinetic_flows.core.errors import BuildError
from kinetic_flows.core.image_builder import ImagePreview, OnBuild, unannounced
from kinetic_flows.core.image_reference import PREBUILT, parse_reference
from kinetic_flows.core.image_registry import ImageRegistry, ResolvedImage
from kinetic_flows.dependencies.wheels import stored_wheels as fetch_wheels
from kinetic_flows.images import tags
from kinetic_flows.images.assembly.bases import base_labels
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.base_image_specs import BaseImageSpec, find_existing
from kinetic_flows.images.base_lookup import check_base
from kinetic_flows.images.bases import (
    lean_inputs,
    read_base_inputs,
    read_project_template,
)
from kinetic_flows.images.dockerfiles import BuildContext, project_context
from kinetic_flows.platforms.gke.builds.build import RegistryLogin
from kinetic_flows.platforms.gke.builds.cloud_build import CloudBuild
from kinetic_flows.platforms.gke.builds.failures import base_build_error
from kinetic_flows.platforms.gke.builds.making import BuilderSettings, ImageMaker
from kinetic_flows.platforms.gke.builds.requests import (
    BuildRequest,
    BuildSource,
    Listener,
    OnOutput,
)
from kinetic_flows.platforms.gke.builds.routes import Assembler


class ClusterBuilder:
    """Makes the images of projects and their bases.

    Args:
        builds: Cloud Build.
        store: Where leases and shipped wheels are.
        build_store: The bucket of sources and logs, which the build's service account reads
            and writes.
        registry: Where images are looked up.
        assembler: Assembles images here.
        settings: Where images go, and how builds run.
    """

    def __init__(
        self,
        *,
        builds: CloudBuild,
        store: ArtifactStore,
        build_store: ArtifactStore,
        registry: ImageRegistry,
        assembler: Assembler,
        settings: BuilderSettings,
    ) -> None:
        self._store = store
        self._build_store = build_store
        self._registry = registry
        self._assembler = assembler
        self._settings = settings
        self._maker = ImageMaker(
            builds=builds,
            build_store=build_store,
            registry=registry,
            assembler=assembler,
            settings=settings,
        )

    def build(
        self,
        request: ImageRequest,
        environment: EnvironmentSpec,
        on_output: OnOutput,
        *,
        on_build: OnBuild = unannounced,
    ) -> ResolvedImage:
        """Return the image of an environment, built unless it exists or is being built.

        In prebuilt mode that is an image of its packages alone, to be mounted beside a base.

        Raises:
            BuildError: The build failed.
            ImageError: The registry cannot be asked, or the base image does not fit.
            StoreError: The source cannot be uploaded.
        """

        def source() -> BuildSource | Assembly:
            if request.mode == PREBUILT:
                return self._packages(request, environment)
            base = self.ensure_base(environment, on_output, on_build=on_build)
            assembly = self._assembly(request, environment, base)
            if isinstance(assembly, Assembly):
                return assembly
            context = project_context(
                environment,
                base=base.reference,
                template=read_project_template(),
                wheels=fetch_wheels(self._store, environment),
                version=self._settings.version,
            )
            return BuildSource(context=context, because=assembly)

        wanted = BuildRequest(
            reference=request.reference,
            subject=environment.dependency_hash,
            source=source,
            logins=self._logins_for(environment),
        )
        return self._maker.ensure(wanted, Listener(on_output, on_build), self._store)

    def ensure_base(
        self,
        environment: EnvironmentSpec,
        on_output: OnOutput,
        *,
        on_build: OnBuild = unannounced,
    ) -> ResolvedImage:
        """Return the base image of an environment, built if nobody has built it yet.

        Raises:
            BuildError: The build failed, or this version of the product makes another base.
            ImageError: The configured base does not exist or does not fit.
        """
        if environment.base_identity.startswith("sha256:"):
            return self._configured_base(environment)
        wanted = self._wanted_base(environment)
        return self._maker.ensure(wanted, Listener(on_output, on_build), self._store)

    def build_base(
        self,
        base: BaseImageSpec,
        logins: tuple[RegistryLogin, ...],
        on_output: OnOutput,
        *,
        on_build: OnBuild = unannounced,
    ) -> ResolvedImage:
        """Make and push an image under all its names, unless they hold exactly it already.

        Of clients that ask for the same at the same time one makes it. From scratch, it is made
        even if it is there.

        Args:
            base: What to make.
            logins: Registries that a build logs in to first.
            on_output: Called with each line that is said of it, a build's log included.
            on_build: Told of a build, for a link to it.

        Raises:
            BuildError: The build failed.
            ImageError: It cannot be assembled.
            StoreError: The source cannot be uploaded.
        """

        def find(_: BuildRequest, registry: ImageRegistry) -> ResolvedImage | None:
            if base.recipe.from_scratch:
                return None
            existing = find_existing(base, registry)
            return existing.image if existing.is_current else None

        wanted = BuildRequest(
            reference=base.references[0],
            subject=base.subject,
            source=lambda: self._source_of(base),
            also=base.references[1:],
            logins=logins,
            find=find,
            failure=lambda _, state, lines: base_build_error(
                state, lines, base, logins=len(logins)
            ),
        )
        # The bucket of sources is all that a deployment of the flow has to be let at.
        return self._maker.ensure(wanted, Listener(on_output, on_build), self._build_store)

    def preview(self, request: ImageRequest, environment: EnvironmentSpec) -> ImagePreview:
        """Say how the image of an environment would be made, its base included.

        Raises:
            KineticError: The registry or the index cannot be asked.
        """
        if request.mode == PREBUILT:
            return self._assembler.preview(self._packages(request, environment))
        if environment.base_identity.startswith("sha256:"):
            base = self._configured_base(environment)
            return self._assembler.preview(self._assembly(request, environment, base))
        wanted = self._wanted_base(environment)
        found = self._registry.resolve(wanted.reference)
        if found is not None:
            return self._assembler.preview(self._assembly(request, environment, found))
        source = wanted.source()
        if isinstance(source, BuildSource):
            return self._assembler.preview(source.because)
        preview = self._assembler.preview(self._assembler.with_base(environment, source))
        return replace(preview, because=f"{preview.because}; its base is made first")

    def preview_base(self, base: BaseImageSpec) -> ImagePreview:
        """Say how an image that `build_base` is to make would be made.

        Raises:
            KineticError: The registry or the index cannot be asked.
        """
        source = self._source_of(base)
        return self._assembler.preview(source if isinstance(source, Assembly) else source.because)

    def cancel_started(self) -> None:
        """Cancel every build that was started here and that nobody else follows."""
        self._maker.cancel_started()

    def _source_of(self, base: BaseImageSpec) -> BuildSource | Assembly:
        if isinstance(base.source, BuildContext):
            return BuildSource(context=base.source, recipe=base.recipe)
        return self._assembler.base(
            base.source,
            repository=base.repository,
            references=base.references,
            labels=base.recipe.labels,
            images=self._registry,
        )

    def _assembly(
        self, request: ImageRequest, environment: EnvironmentSpec, base: ResolvedImage
    ) -> Assembly | str:
        return self._assembler.project(
            environment,
            reference=request.reference,
            repository=self._settings.repository,
            base=base,
            version=self._settings.version,
        )

    def _packages(self, request: ImageRequest, environment: EnvironmentSpec) -> Assembly:
        return self._assembler.packages(
            environment,
            reference=request.reference,
            repository=self._settings.repository,
            version=self._settings.version,
        )

    def _wanted_base(self, environment: EnvironmentSpec) -> BuildRequest:
        """Return the base of an environment in the cluster's own repository.

        Raises:
            BuildError: This version of the product makes another base.
        """
        inputs = read_base_inputs(
            environment.category, environment.python, environment.made_base_lock
        )
        inputs = lean_inputs(inputs) if environment.variant == "lean" else inputs
        if inputs.identity != environment.base_identity:
            raise BuildError(
                f"this version makes the {environment.category} base {inputs.identity[:12]}, "
                f"and the environment was locked for {environment.base_identity[:12]}",
                value=environment.base_identity,
                hint="plan the run again with this version",
            )
        tag = tags.base_tag(inputs.python, inputs.identity)
        reference = f"{_base_name(self._settings.repository, environment)}:{tag}"
        return BuildRequest(
            reference=reference,
            subject=f"base-{inputs.identity}",
            source=lambda: self._assembler.base(
                inputs,
                repository=self._settings.repository,
                references=(reference,),
                labels=base_labels(inputs, self._settings.version),
                images=self._registry,
            ),
        )

    def _logins_for(self, environment: EnvironmentSpec) -> tuple[RegistryLogin, ...]:
        """Return the logins without which an environment's base cannot be pulled."""
        repository = self._settings.base_repository
        if repository is None:
            return ()
        name = _base_name(repository, environment)
        login = self._settings.logins.get(parse_reference(name).registry)
        return (login,) if login else ()

    def _configured_base(self, environment: EnvironmentSpec) -> ResolvedImage:
        repository = self._settings.base_repository or self._settings.repository
        name = _base_name(repository, environment)
        reference = str(parse_reference(name).at(environment.base_identity))
        tag = self._settings.base_tag or self._settings.version
        image = self._registry.resolve(reference)
        if image is None:
            raise BuildError(
                f"the base image {reference} is gone",
                value=reference,
                hint="build it anew with: kinetic build-image "
                f"--repo {repository} --category "
                f"{tags.base_kind(environment.category, environment.variant)} --tag {tag}",
            )
        return check_base(
            image,
            repository=repository,
            category=environment.category,
            python=environment.python,
            tag=tag,
            variant=environment.variant,
        )


def _base_name(repository: str, environment: EnvironmentSpec) -> str:
    return tags.base_image(repository, environment.category, environment.variant)
