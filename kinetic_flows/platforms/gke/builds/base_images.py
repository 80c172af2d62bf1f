"""Where base images are made and kept: who makes them, a registry, and Docker Hub's login."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from kinetic_flows.clients.google.secret_manager import SecretManager
from kinetic_flows.clients.registry.credentials import (
    FirstFound,
    RegistryCredentials,
)
from kinetic_flows.clients.registry.images import OciRegistry
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.errors import BuildError, ConfigurationError
from kinetic_flows.core.image_builder import ImagePreview, OnBuild, unannounced
from kinetic_flows.core.image_reference import DOCKER_HUB, parse_reference
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.images.base_image_specs import BaseImageSpec, ExistingImage, find_existing
from kinetic_flows.images.tags import base_image
from kinetic_flows.platforms.gke.buckets import open_bucket
from kinetic_flows.platforms.gke.builds.artifact_registry import (
    UNKNOWN_BUILDER,
    ArtifactRegistry,
    RepositoryState,
    Setup,
    artifact_repository,
    node_account,
    plan_setup,
)
from kinetic_flows.platforms.gke.builds.build import (
    BuildOptions,
    BuildSpec,
    BuildStep,
    RegistryLogin,
    build_steps,
)
from kinetic_flows.platforms.gke.builds.cluster_builder import cloud_build, cluster_builder
from kinetic_flows.platforms.gke.builds.docker_hub import TOKEN_PAGE, StoredLogin, check_login
from kinetic_flows.platforms.gke.builds.failures import UPDATE_CREDENTIALS
from kinetic_flows.platforms.gke.registries import registry_credentials

if TYPE_CHECKING:
    from kinetic_flows.core.settings.cloud import CloudSettings


logger = logging.getLogger(__name__)

_LOGIN_VARIABLES = ("KINETIC_DOCKERHUB_USERNAME", "KINETIC_DOCKERHUB_TOKEN")


class BaseImagePlatform:
    """What builds and looks up base images, for one project.

    Nothing is asked, and no SDK is imported, before the first use of each part.

    Args:
        cloud: The settings of Google Cloud.
        environ: This process's variables: Docker's own configuration counts.
        home: `KINETIC_HOME`, for what was learnt of wheels and layers.
    """

    def __init__(self, cloud: CloudSettings, environ: Mapping[str, str], home: Path) -> None:
        credentials = cloud.credentials.load() if cloud.credentials else None
        self.project = cloud.project
        self._endpoints = cloud.registry_endpoints
        self.docker_hub = StoredLogin(
            secrets=SecretManager(
                cloud.project, endpoint=cloud.secret_manager_endpoint, credentials=credentials
            )
        )
        usual = registry_credentials(environ, cloud)
        # A private image of Docker Hub's is seen only with what pushed it.
        known = FirstFound(sources=(*usual.sources, self.docker_hub))
        endpoints = cloud.registry_endpoints
        self.registry = OciRegistry(
            credentials=known, endpoints=endpoints, documents=home / "images"
        )
        self._artifacts = ArtifactRegistry(
            endpoint=cloud.artifact_registry_endpoint, credentials=credentials
        )
        self._build_account = cloud.build_service_account
        self._builds = cloud_build(cloud, credentials)
        self._builder = cluster_builder(
            cloud,
            builds=self._builds,
            store=open_bucket(cloud.jobs_bucket, cloud, credentials),
            build_store=open_bucket(cloud.builds_bucket, cloud, credentials),
            registry=self.registry,
            writer=RegistryWriter(
                credentials=known, endpoints=endpoints, documents=home / "images"
            ),
            home=home,
            environ=environ,
        )

    def setup(self, repository: str) -> Setup | None:
        """Return what a repository of Artifact Registry still needs; None for other registries.

        Raises:
            RegistryAccessError: Artifact Registry cannot be reached.
        """
        parts = artifact_repository(repository)
        if parts is None:
            return None
        state = self._artifacts.look_at(parts)
        builder = self.build_account()
        return plan_setup(
            parts,
            state or RepositoryState(exists=True),
            builder=builder,
            nodes=node_account(builder),
        )

    def create_repository(self, repository: str) -> None:
        """Make a repository of Artifact Registry.

        Raises:
            RegistryAccessError: It cannot be made with these credentials.
        """
        parts = artifact_repository(repository)
        if parts is not None:
            self._artifacts.create(parts)

    def look_up(self, specs: Sequence[BaseImageSpec]) -> tuple[ExistingImage, ...]:
        """Return what the registry has under each image's names.

        Raises:
            ImageError: It cannot be asked, or has no such repository.
        """
        with ThreadPoolExecutor(8) as pool:
            return tuple(pool.map(lambda spec: find_existing(spec, self.registry), specs))

    def preview(self, specs: Sequence[BaseImageSpec]) -> dict[str, ImagePreview]:
        """Say how images would be made and how much of each there is, by their names.

        Raises:
            KineticError: The registry or the index cannot be asked.
        """
        with ThreadPoolExecutor(8) as pool:
            found = pool.map(self._builder.preview_base, specs)
            return {spec.name: preview for spec, preview in zip(specs, found, strict=True)}

    def build(
        self,
        spec: BaseImageSpec,
        on_output: Callable[[str], None],
        *,
        on_build: OnBuild = unannounced,
    ) -> ResolvedImage:
        """Make and push one image under all its names.

        Args:
            spec: The image.
            on_output: Called with each line that is said of it, a build's log included.
            on_build: Told of a build, for a link to it.

        Raises:
            BuildError: The build failed, or was refused by the registry.
            ImageError: It cannot be assembled.
        """
        return self._builder.build_base(spec, self._logins(spec), on_output, on_build=on_build)

    def steps(self, spec: BaseImageSpec) -> tuple[BuildStep, ...]:
        """Return the steps of the build of an image that has a Dockerfile."""
        build = BuildSpec(
            image=spec.references[0],
            also=spec.references[1:],
            bucket="",
            source_object="",
            logs_prefix="",
            tags=(),
            options=BuildOptions(logins=self._logins(spec)),
            recipe=spec.recipe,
        )
        return build_steps(build)

    def cancel_builds(self) -> None:
        """Cancel the builds that were started here and that nobody else follows."""
        self._builder.cancel_started()

    def check_docker_hub(self) -> None:
        """See that Docker Hub's credentials are there, and good as far as we may read them.

        Raises:
            ConfigurationError: There are none.
            RegistryAccessError: Docker Hub does not accept them.
        """
        if not self.docker_hub.exists():
            raise ConfigurationError(
                f"project {self.project} has no Docker Hub credentials in Secret Manager",
                value=self.project,
                hint="set KINETIC_DOCKERHUB_USERNAME and KINETIC_DOCKERHUB_TOKEN and run "
                "`kinetic build-image`, which stores them, or run it in a terminal",
            )
        stored = self.docker_hub.read()
        if stored is not None:
            self._verify(stored, f"enter a new one with: {UPDATE_CREDENTIALS}")

    def store_docker_hub(self, credentials: RegistryCredentials) -> None:
        """Keep Docker Hub's credentials, once Docker Hub has said that they are good.

        Raises:
            RegistryAccessError: It does not accept them, or cannot be asked.
            SecretError: They cannot be kept.
        """
        self._verify(credentials, f"make one with Read & Write permissions at {TOKEN_PAGE}")
        self.docker_hub.store(credentials)

    def build_account(self) -> str:
        """Return the e-mail address of the service account that builds run as."""
        try:
            account = self._build_account or self._builds.default_service_account()
        except BuildError as error:
            logger.info("%s", error.message)
            return UNKNOWN_BUILDER
        return account.rpartition("/")[2]

    def _verify(self, credentials: RegistryCredentials, remedy: str) -> None:
        check_login(credentials, endpoints=self._endpoints, remedy=remedy)

    def _logins(self, spec: BaseImageSpec) -> tuple[RegistryLogin, ...]:
        if not is_on_docker_hub(spec.references[0]):
            return ()
        return (self.docker_hub.build_login(self.project),)


def given_docker_hub_login(environ: Mapping[str, str]) -> RegistryCredentials | None:
    """Return the credentials in `KINETIC_DOCKERHUB_USERNAME` and `KINETIC_DOCKERHUB_TOKEN`.

    Raises:
        ConfigurationError: Only one of them is set.
    """
    values = {name: environ.get(name, "").strip() for name in _LOGIN_VARIABLES}
    missing = [name for name, value in values.items() if not value]
    if len(missing) == len(values):
        return None
    if missing:
        raise ConfigurationError(
            f"{missing[0]} is not set", value=missing[0], hint="set both, or neither"
        )
    username, token = values.values()
    return RegistryCredentials(username=username, password=token)


def is_on_docker_hub(reference: str) -> bool:
    """Whether an image, or what a repository's base images are called, is Docker Hub's."""
    return parse_reference(reference).registry == DOCKER_HUB


def needs_docker_hub(repository: str) -> bool:
    """Whether the base images of a repository go to Docker Hub."""
    return is_on_docker_hub(base_image(repository, "cpu"))
