"""A loopback cloud without containers: images are tiny and pods are processes of this machine.

For what is about many runs, not about what is in their images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from loopback.__main__ import BUILDS_BUCKET, CLUSTER, JOBS_BUCKET, PROJECT
from loopback.cloud import ACCESS_TOKEN, REGISTRY_HOST, USERNAME
from loopback.cloud_build import CloudBuildServer
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.forked_runtime import a_forked_runtime
from loopback.kubernetes.node_groups import NodeGroup
from loopback.kubernetes.runtime import ProcessRuntime, Runtime, use_this_python
from loopback.quick_builds import QuickWorker
from loopback.registry import DockerRegistry, RegistryFront
from loopback.secret_manager import SecretManager
from loopback.secret_manager_rest import SecretManagerFront
from loopback.small_images import push_python_image
from loopback.storage import StorageServer
from loopback.unpacked import unpacker

BOOTSTRAP_IN_IMAGES = "/app/remote_runner.py"


@dataclass(frozen=True, kw_only=True)
class QuickCloud:
    """Servers that stand for Google's.

    Attributes:
        storage: Cloud Storage.
        registry: What Artifact Registry keeps images in.
        worker: What Cloud Build builds with.
        cluster: A GKE cluster of one node pool.
        secrets: Secret Manager, by gRPC for clients and by REST for pods.
        directory: Where the servers keep what they are told, but for the storage's objects.
        environment: The variables that point the product's clients there.
    """

    storage: StorageServer
    registry: DockerRegistry
    worker: QuickWorker
    cluster: LoopbackCluster
    secrets: SecretManager
    directory: Path
    environment: dict[str, str]


@contextmanager
def a_quick_cloud(
    directory: Path, *, forks_pods: bool = False, kubernetes: str = "1.31"
) -> Iterator[QuickCloud]:
    """Start everything, and stop it afterwards.

    Args:
        directory: Where the servers keep what they are told.
        forks_pods: Whether pods begin with what their image contains already imported.
        kubernetes: The cluster's version.
    """
    with ExitStack() as running:
        storage = StorageServer(directory / "storage").start()
        running.callback(storage.stop)
        registry = DockerRegistry(directory / "registry").start()
        running.callback(registry.stop)
        front = RegistryFront(registry.url, "artifact-registry").start()
        running.callback(front.stop)
        push_python_image(registry.url)
        front.accounts[USERNAME] = ACCESS_TOKEN
        front.repositories.add(f"{PROJECT}/kn-{CLUSTER}")
        for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
            storage.create_bucket(bucket)
        worker = QuickWorker(storage.url, registry.url)
        builds = CloudBuildServer(worker).start()
        running.callback(builds.stop)
        secrets = SecretManagerFront(builds.secrets, builds.endpoint).start()
        running.callback(secrets.stop)
        runtime: Runtime = ProcessRuntime(rewrite=on_this_machine, unpack=unpacker(registry.url))
        if forks_pods:
            runtime = running.enter_context(a_forked_runtime(on_this_machine))
        (directory / "cluster").mkdir(parents=True)
        cluster = running.enter_context(
            LoopbackCluster(directory / "cluster", runtime=runtime, version=kubernetes)
        )
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        yield QuickCloud(
            storage=storage,
            registry=registry,
            worker=worker,
            cluster=cluster,
            secrets=builds.secrets,
            directory=directory,
            environment={
                "KINETIC_PLATFORM": "gke",
                "KINETIC_PROJECT": PROJECT,
                "KINETIC_CLUSTER": CLUSTER,
                "KINETIC_JOBS_BUCKET": JOBS_BUCKET,
                "KINETIC_BUILDS_BUCKET": BUILDS_BUCKET,
                "KINETIC_IMAGE_REPO": f"{REGISTRY_HOST}/{PROJECT}/kn-{CLUSTER}",
                # Images are tiny here, and nothing can be assembled on top of them.
                "KINETIC_BUILDER": "cloud-build",
                "KINETIC_CLOUD_BUILD_ENDPOINT": builds.endpoint,
                "KINETIC_SECRET_MANAGER_ENDPOINT": secrets.endpoint,
                "KINETIC_REGISTRY_ENDPOINTS": f"{REGISTRY_HOST}={front.url},"
                f"docker.io={registry.url}",
                "STORAGE_EMULATOR_HOST": storage.url,
                "KUBECONFIG": str(cluster.kubeconfig()),
            },
        )


def on_this_machine(command: Sequence[str]) -> list[str]:
    """Return a container's command as this machine has it."""
    bootstrap = str(files("kinetic_flows.runner_image") / "remote_runner.py")
    return [bootstrap if part == BOOTSTRAP_IN_IMAGES else part for part in use_this_python(command)]
