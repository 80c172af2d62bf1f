"""Image registries, as this machine's user reaches them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kinetic_flows.clients.registry.credentials import (
    FirstFound,
    SavedLogins,
    default_credentials,
)
from kinetic_flows.clients.registry.images import OciRegistry

if TYPE_CHECKING:
    from kinetic_flows.clients.registry.repository import RegistryWriter
    from kinetic_flows.core.settings.cloud import CloudSettings


def image_registry(
    environ: Mapping[str, str], home: Path, cloud: CloudSettings | None
) -> OciRegistry:
    """Return what looks images up, as this machine's user.

    Args:
        environ: Variables: Docker's own configuration counts.
        home: `KINETIC_HOME`, for what was learnt of images.
        cloud: The settings of Google Cloud: other URLs for registries, and what the profile has to
            log in with; None for neither.
    """
    return OciRegistry(
        credentials=registry_credentials(environ, cloud),
        endpoints=cloud.registry_endpoints if cloud else {},
        documents=home / "images",
    )


def registry_writer(environ: Mapping[str, str], home: Path, cloud: CloudSettings) -> RegistryWriter:
    """Return what puts images together, as this machine's user; see `image_registry`."""
    from kinetic_flows.clients.registry.repository import RegistryWriter

    return RegistryWriter(
        credentials=registry_credentials(environ, cloud),
        endpoints=cloud.registry_endpoints,
        documents=home / "images",
    )


def registry_credentials(environ: Mapping[str, str], cloud: CloudSettings | None) -> FirstFound:
    """Return what knows how to log in to registries: the profile, Docker's configuration, Google.

    Args:
        environ: Variables: Docker's own configuration counts.
        cloud: The settings of Google Cloud; None for none.
    """
    saved = cloud.credentials if cloud else None
    usual = default_credentials(
        docker_config(environ),
        environ,
        cloud.registry_endpoints if cloud else {},
        saved.load if saved else None,
    )
    if cloud is None or not cloud.logins:
        return usual
    logins = {host: login.load for host, login in cloud.logins.items()}
    return FirstFound(sources=(SavedLogins(logins=logins), *usual.sources))


def docker_config(environ: Mapping[str, str]) -> Path:
    """Return Docker's configuration file: https://docs.docker.com/reference/cli/docker/."""
    directory = environ.get("DOCKER_CONFIG")
    return (Path(directory) if directory else Path.home() / ".docker") / "config.json"
