"""A Google Cloud of this machine with an empty project: what `kinetic init` starts from.

Images are tiny and pods are processes, as in `loopback.quick_cloud`; clusters, buckets and
repositories are what somebody makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from loopback.cloud import registry_endpoints
from loopback.cloud_build import CloudBuildServer
from loopback.google.server import LoopbackGoogle
from loopback.google.state import PROJECT
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.runtime import ProcessRuntime
from loopback.quick_builds import QuickWorker
from loopback.quick_cloud import on_this_machine
from loopback.registry import DockerRegistry, RegistryFront
from loopback.secret_manager_rest import SecretManagerFront
from loopback.small_images import push_python_image
from loopback.storage import StorageServer
from loopback.unpacked import unpacker


@dataclass(frozen=True, kw_only=True)
class EmptyCloud:
    """Servers that stand for Google's.

    Attributes:
        google: Google's APIs.
        storage: Where the objects of buckets are.
        front: What Artifact Registry keeps images in.
        builds: Cloud Build.
        environment: The variables that point the product's clients there, as the project's owner.
    """

    google: LoopbackGoogle
    storage: StorageServer
    front: RegistryFront
    builds: CloudBuildServer
    environment: dict[str, str]


@contextmanager
def an_empty_cloud(directory: Path, *, project: str = PROJECT) -> Iterator[EmptyCloud]:
    """Start everything, and stop it afterwards.

    Args:
        directory: Where the servers keep what they are told.
        project: Id of the project.
    """
    with ExitStack() as running:
        storage = StorageServer(directory / "storage").start()
        running.callback(storage.stop)
        registry = DockerRegistry(directory / "registry").start()
        running.callback(registry.stop)
        front = RegistryFront(registry.url, "artifact-registry").start()
        running.callback(front.stop)
        push_python_image(registry.url)
        builds = CloudBuildServer(QuickWorker(storage.url, registry.url)).start()
        running.callback(builds.stop)
        secrets = SecretManagerFront(builds.secrets, builds.endpoint).start()
        running.callback(secrets.stop)
        runtime = ProcessRuntime(rewrite=on_this_machine, unpack=unpacker(registry.url))
        google = running.enter_context(
            LoopbackGoogle(
                directory / "google",
                serve=lambda where: LoopbackCluster(where, runtime=runtime, version="1.33"),
                objects=storage.url,
                served=front.repositories,
                project=project,
            )
        )
        front.tokens = google.state.tokens
        yield EmptyCloud(
            google=google,
            storage=storage,
            front=front,
            builds=builds,
            environment={
                **google.environment,
                # Images are tiny here, and nothing can be assembled on top of them.
                "KINETIC_BUILDER": "cloud-build",
                "KINETIC_CLOUD_BUILD_ENDPOINT": builds.endpoint,
                "KINETIC_SECRET_MANAGER_ENDPOINT": secrets.endpoint,
                "KINETIC_REGISTRY_ENDPOINTS": registry_endpoints(front.url, registry.url),
            },
        )
