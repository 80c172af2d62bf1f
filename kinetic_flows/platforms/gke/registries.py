"""Image registries, as this machine's user reaches them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kinetic_flows.clients.registry.credentials import default_credentials
from kinetic_flows.clients.registry.images import OciRegistry

if TYPE_CHECKING:
    from kinetic_flows.clients.registry.repository import RegistryWriter


def image_registry(
    environ: Mapping[str, str], home: Path, endpoints: Mapping[str, str]
) -> OciRegistry:
    """Return what looks images up, as this machine's user.

    Args:
        environ: Variables: Docker's own configuration counts.
        home: `KINETIC_HOME`, for what was learnt of images.
        endpoints: Other URLs for registries, by host.
    """
    return OciRegistry(
        credentials=default_credentials(docker_config(environ), environ, endpoints),
        endpoints=endpoints,
        documents=home / "images",
    )


def registry_writer(
    environ: Mapping[str, str], home: Path, endpoints: Mapping[str, str]
) -> RegistryWriter:
    """Return what puts images together, as this machine's user; see `image_registry`."""
    from kinetic_flows.clients.registry.repository import RegistryWriter

    return RegistryWriter(
        credentials=default_credentials(docker_config(environ), environ, endpoints),
        endpoints=endpoints,
        documents=home / "images",
    )


def docker_config(environ: Mapping[str, str]) -> Path:
    """Return Docker's configuration file: https://docs.docker.com/reference/cli/docker/."""
    directory = environ.get("DOCKER_CONFIG")
    return (Path(directory) if directory else Path.home() / ".docker") / "config.json"
