"""The whole loopback cloud: storage, registry, Cloud Build with real builds."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopback.build_worker import BuildWorker
from loopback.cloud_build import CloudBuildServer
from loopback.containers import Containers
from loopback.google.machines import REGIONS
from loopback.kept_images import keep_images, restore_images
from loopback.lifted_python import NAMES, lift_python_image
from loopback.registry import DockerRegistry, RegistryFront
from loopback.storage import StorageServer

if TYPE_CHECKING:
    from loopback.google.artifacts import Artifacts

REGISTRY_HOST = "us-docker.pkg.dev"
REGISTRY_HOSTS = (REGISTRY_HOST, "us-central1-docker.pkg.dev")
"""The hosts of Artifact Registry that the loopback registry stands for."""

EVERY_HOST = tuple(f"{place}-docker.pkg.dev" for place in ("us", "europe", "asia", *REGIONS))
"""Every host of Artifact Registry, as far as there are regions here."""

ACCESS_TOKEN = "ya29.loopback"
USERNAME = "oauth2accesstoken"


@dataclass(frozen=True, kw_only=True)
class LoopbackCloud:
    """Servers that stand for Google's, on free ports of the loopback interface.

    Attributes:
        storage: Cloud Storage.
        registry: What is behind Artifact Registry: open, for looking inside.
        front: Artifact Registry itself, which wants a token.
        artifacts: Artifact Registry's own API.
        docker_hub: Docker Hub, on the same images.
        builds: Cloud Build and Secret Manager.
        containers: Builds images, and runs them as a node would.
        worker: Executes builds.
        docker_config: Docker's configuration of somebody who has logged in to Artifact Registry.
        running: What `stop` stops.
    """

    storage: StorageServer
    registry: DockerRegistry
    front: RegistryFront
    artifacts: Artifacts
    docker_hub: RegistryFront
    builds: CloudBuildServer
    containers: Containers
    worker: BuildWorker
    docker_config: Path
    running: ExitStack

    def stop(self) -> None:
        """Stop every server and leave nothing behind."""
        self.running.close()

    def create_repository(self, project: str, name: str) -> str:
        """Make an Artifact Registry repository, and return it as references name it."""
        resource = f"projects/{project}/locations/us/repositories/{name}"
        self.artifacts.add(resource, {"format_": "DOCKER"})
        return f"{REGISTRY_HOST}/{project}/{name}"


def start_cloud(directory: Path, *, keep: str | None = None) -> LoopbackCloud:
    """Start everything, with the image that bases start from in its registry.

    Args:
        directory: Where everything is; deleted by `stop`.
        keep: Path of the repository whose base images are kept between runs; None keeps none.
    """
    with ExitStack() as starting:
        starting.callback(shutil.rmtree, directory, ignore_errors=True)
        storage = StorageServer(directory / "storage").start()
        starting.callback(storage.stop)
        registry = DockerRegistry(directory / "registry")
        restored = keep is not None and restore_images(keep, registry.data)
        registry.start()
        if keep is not None:
            starting.callback(keep_images, keep, registry.data)
        starting.callback(registry.stop)
        front = RegistryFront(registry.url, "artifact-registry").start()
        starting.callback(front.stop)
        front.accounts[USERNAME] = ACCESS_TOKEN
        docker_hub = RegistryFront(registry.url, "docker-hub").start()
        starting.callback(docker_hub.stop)
        docker_hub.repositories.add("library/python")
        containers = _containers(registry, front, starting)
        if not restored:
            _make_first_image(containers, registry)
        containers.mirror("docker.io", docker_hub.host)
        artifacts, service = _artifacts(front)
        builds = CloudBuildServer(lambda running: worker(running), service)
        worker = BuildWorker(
            containers=containers,
            storage_url=storage.url,
            registries={
                **dict.fromkeys(REGISTRY_HOSTS, front.host),
                "docker.io": docker_hub.host,
            },
            secrets=builds.secrets,
            directory=directory / "builds",
        )
        worker.credentials = f"{USERNAME}:{ACCESS_TOKEN}"
        builds.start()
        starting.callback(builds.stop)
        return LoopbackCloud(
            storage=storage,
            registry=registry,
            front=front,
            artifacts=artifacts,
            docker_hub=docker_hub,
            builds=builds,
            containers=containers,
            worker=worker,
            docker_config=_docker_config(directory / "docker"),
            running=starting.pop_all(),
        )


def _containers(registry: DockerRegistry, front: RegistryFront, starting: ExitStack) -> Containers:
    # podman 4.3 waits 20 s for the end of each container when this path is long.
    directory = Path(tempfile.mkdtemp(prefix="kn-", dir="/tmp"))
    containers = Containers(directory).set_up()
    starting.callback(containers.tear_down)
    containers.mirror("docker.io/library", f"{registry.host}/library")
    for host in REGISTRY_HOSTS:
        containers.mirror(host, front.host)
    (directory / "auth.json").write_text(_logins(front.host, *REGISTRY_HOSTS))
    return containers


def _artifacts(front: RegistryFront) -> tuple[Artifacts, dict[str, Any]]:
    """Return Artifact Registry's own API for a front, and its service, which the owner calls."""
    from loopback.google import artifacts, operations, state  # others of this need not import them

    kept = state.GoogleState()
    kept.steps = 0
    kept.add_project(state.PROJECT)
    owner = state.Caller(email=state.OWNER, consumer=state.PROJECT)
    made = artifacts.Artifacts(kept, operations.Operations(kept), front.repositories)
    methods = {
        name: (request, partial(answer, caller=owner))
        for name, (request, answer) in made.methods().items()
    }
    return made, {artifacts.SERVICE: methods}


def _docker_config(directory: Path) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(_logins(*REGISTRY_HOSTS))
    return directory


def _logins(*hosts: str) -> str:
    """Write down that somebody has logged in to registries, as Docker does."""
    login = base64.b64encode(f"{USERNAME}:{ACCESS_TOKEN}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": login} for host in hosts}})


def _make_first_image(containers: Containers, registry: DockerRegistry) -> None:
    """Push the image that bases start from, which stands for two of Docker Hub's."""
    with tempfile.TemporaryDirectory() as workspace:
        image = lift_python_image(containers, Path(workspace))
    for name in NAMES:
        target = f"docker://{registry.host}/{name.removeprefix('docker.io/')}"
        containers.run("buildah", "push", "--tls-verify=false", image, target)


def registry_endpoints(front_url: str, docker_url: str) -> str:
    """Return the value of `KINETIC_REGISTRY_ENDPOINTS`.

    Args:
        front_url: What stands for Artifact Registry, wherever it is.
        docker_url: What stands for Docker Hub.
    """
    fronts = [f"{host}={front_url}" for host in EVERY_HOST]
    return ",".join([*fronts, f"docker.io={docker_url}"])
