"""The loopback cloud's servers as fixtures, one of each for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from loopback.__main__ import CLUSTER, PROJECT
from loopback.cloud import LoopbackCloud, start_cloud
from loopback.cloud_build import CloudBuildServer
from loopback.hub import HubServer
from loopback.quick_bases import DOCKERFILE, QuickBases
from loopback.quick_builds import QuickWorker
from loopback.registry import DockerRegistry, RegistryFront
from loopback.storage import StorageServer
from loopback.storage_wire import WireStorage

if TYPE_CHECKING:
    from loopback.google.server import LoopbackGoogle


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
def loopback_google(tmp_path: Path) -> Iterator[LoopbackGoogle]:
    """Google's APIs with an empty project."""
    from loopback.google.server import LoopbackGoogle

    with LoopbackGoogle(tmp_path / "google") as google:
        yield google


@pytest.fixture
def hub() -> Iterator[HubServer]:
    """A hub of models and datasets, with nothing in it."""
    server = HubServer().start()
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
    cloud = start_cloud(tmp_path_factory.mktemp("cloud"), keep=f"{PROJECT}/kn-{CLUSTER}")
    yield cloud
    cloud.stop()


@pytest.fixture
def quick_bases(
    storage_server: StorageServer,
    docker_registry: DockerRegistry,
    prefect_api_url: str,
    shared_kinetic_home: Path,
    bucket_name: str,
    tmp_path: Path,
) -> Iterator[QuickBases]:
    """The command with a Dockerfile, a repository and a bucket of its own."""
    worker = QuickWorker(storage_server.url, docker_registry.url)
    server = CloudBuildServer(worker).start()
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(DOCKERFILE)
    yield QuickBases(
        worker=worker,
        server=server,
        bucket=storage_server.create_bucket(bucket_name),
        repository=f"{docker_registry.host}/{bucket_name}",
        dockerfile=dockerfile,
        environment={
            **os.environ,
            "PREFECT_API_URL": prefect_api_url,
            "KINETIC_HOME": str(shared_kinetic_home),
            "KINETIC_PROJECT": "my-project",
            "KINETIC_BUILDS_BUCKET": bucket_name,
            "KINETIC_CLOUD_BUILD_ENDPOINT": server.endpoint,
            "STORAGE_EMULATOR_HOST": storage_server.url,
            "TERM": "xterm",
        },
    )
    server.stop()
