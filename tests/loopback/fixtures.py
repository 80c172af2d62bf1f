"""The loopback cloud's servers as fixtures, one of each for the whole session."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from loopback.cloud import LoopbackCloud, start_cloud
from loopback.registry import DockerRegistry, RegistryFront
from loopback.storage import StorageServer
from loopback.storage_wire import WireStorage


@pytest.fixture(scope="session")
def storage_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StorageServer]:
    """A real Cloud Storage server."""
    server = StorageServer(tmp_path_factory.mktemp("storage")).start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def wire_storage() -> Iterator[WireStorage]:
    """A strict Cloud Storage server whose answers can be spoiled."""
    server = WireStorage().start()
    yield server
    server.stop()


@pytest.fixture
def bucket_name() -> str:
    """The name of a bucket that nobody else uses."""
    return f"bucket-{uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A real registry, open to everyone."""
    server = DockerRegistry(tmp_path_factory.mktemp("registry")).start()
    yield server
    server.stop()


@pytest.fixture
def artifact_registry(docker_registry: DockerRegistry) -> Iterator[RegistryFront]:
    """The registry with Artifact Registry's manners."""
    front = RegistryFront(docker_registry.url, "artifact-registry").start()
    yield front
    front.stop()


@pytest.fixture
def docker_hub(docker_registry: DockerRegistry) -> Iterator[RegistryFront]:
    """The registry with Docker Hub's manners."""
    front = RegistryFront(docker_registry.url, "docker-hub").start()
    yield front
    front.stop()


@pytest.fixture(scope="session")
def loopback_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackCloud]:
    """Storage, registry and Cloud Build, with real builds."""
    cloud = start_cloud(tmp_path_factory.mktemp("cloud"))
    yield cloud
    cloud.stop()
