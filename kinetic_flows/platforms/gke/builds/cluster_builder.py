"""What makes a cluster's images, as the settings describe it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.image_registry import ImageRegistry
from kinetic_flows.platforms.gke.builds.build import BuildOptions, registry_login
from kinetic_flows.platforms.gke.builds.builder import ClusterBuilder
from kinetic_flows.platforms.gke.builds.cloud_build import CloudBuild
from kinetic_flows.platforms.gke.builds.making import BuilderSettings
from kinetic_flows.platforms.gke.builds.routes import Assembler

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from kinetic_flows.core.settings.cloud import CloudSettings


def cluster_builder(
    cloud: CloudSettings,
    *,
    builds: CloudBuild,
    store: ArtifactStore,
    build_store: ArtifactStore,
    registry: ImageRegistry,
    writer: RegistryWriter,
    home: Path,
    environ: Mapping[str, str],
) -> ClusterBuilder:
    """Return what makes a cluster's images.

    Args:
        cloud: The settings of Google Cloud.
        builds: Cloud Build.
        store: The bucket of leases and of wheels that ship.
        build_store: The bucket of sources and logs.
        registry: Where images are looked up.
        writer: Puts images together there.
        home: `KINETIC_HOME`, for what was learnt of wheels and layers.
        environ: Variables: how to reach the index.
    """
    return ClusterBuilder(
        builds=builds,
        store=store,
        build_store=build_store,
        registry=registry,
        assembler=Assembler(
            registry=writer, home=home, environ=environ, builder=cloud.builder, store=store
        ),
        settings=_settings(cloud),
    )


def cloud_build(cloud: CloudSettings, credentials: Credentials | None) -> CloudBuild:
    """Return Cloud Build, as the settings say where it is."""
    return CloudBuild(
        cloud.project,
        location=cloud.build_location,
        endpoint=cloud.cloud_build_endpoint,
        credentials=credentials,
    )


def _settings(cloud: CloudSettings) -> BuilderSettings:
    """Return where a cluster's images go, and how its builds run."""
    return BuilderSettings(
        repository=cloud.image_repo,
        base_repository=cloud.base_repository,
        version=version("kinetic-flows"),
        base_tag=cloud.base_image_tag,
        options=BuildOptions(
            machine_type=cloud.build_machine_type or "",
            timeout_seconds=cloud.build_timeout_seconds,
            service_account=cloud.build_service_account or "",
        ),
        logins={
            host: registry_login(host, secrets, project=cloud.project)
            for host, secrets in cloud.registry_logins.items()
        },
    )
