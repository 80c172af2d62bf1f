"""Start the loopback cloud and keep it up: `PYTHONPATH=tests python -m loopback [--empty]`.

Prints the environment to export, so that every command can be tried without an account. With
`--empty` there is a project with nothing in it, for `kinetic init`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.accelerators import parse_accelerator
from loopback.cloud import REGISTRY_HOST, REGISTRY_HOSTS, LoopbackCloud, start_cloud
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.podman import PodmanRuntime
from loopback.kubernetes.scheduler import NodeGroup

PROJECT = "loopback"
CLUSTER = "kinetic-cluster"
JOBS_BUCKET = f"{PROJECT}-kn-{CLUSTER}-jobs"
BUILDS_BUCKET = f"{PROJECT}-kn-{CLUSTER}-builds"

TPUS = NodeGroup(
    name="v6e",
    labels=parse_accelerator("tpu-v6e-8").node_selector,
    capacity={"google.com/tpu": 8},
    taints=({"key": "google.com/tpu", "value": "present", "effect": "NoSchedule"},),
    delay_seconds=1.0,
)
"""A node pool for the specification's example, scaled to zero."""


def environment_of(cloud: LoopbackCloud) -> dict[str, str]:
    """Return the variables that point the product's clients to the loopback cloud."""
    return {
        "KINETIC_PLATFORM": "gke",
        "KINETIC_PROJECT": PROJECT,
        "KINETIC_CLUSTER": CLUSTER,
        "KINETIC_JOBS_BUCKET": JOBS_BUCKET,
        "KINETIC_BUILDS_BUCKET": BUILDS_BUCKET,
        "KINETIC_IMAGE_REPO": f"{REGISTRY_HOST}/{PROJECT}/kn-{CLUSTER}",
        "KINETIC_CLOUD_BUILD_ENDPOINT": cloud.builds.endpoint,
        "KINETIC_SECRET_MANAGER_ENDPOINT": cloud.builds.endpoint,
        "KINETIC_ARTIFACT_REGISTRY_ENDPOINT": cloud.builds.endpoint,
        "KINETIC_REGISTRY_ENDPOINTS": ",".join(
            [
                *(f"{host}={cloud.front.url}" for host in REGISTRY_HOSTS),
                f"docker.io={cloud.docker_hub.url}",
            ]
        ),
        "STORAGE_EMULATOR_HOST": cloud.storage.url,
        "DOCKER_CONFIG": str(cloud.docker_config),
    }


def main() -> int:
    """Start everything, say where it is, and stop it on Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="kinetic-cloud-"))
    try:
        run = an_empty_project if "--empty" in sys.argv[1:] else running_cloud
        with run(directory) as variables:
            for name, value in variables.items():
                print(f"export {name}={shlex.quote(value)}")
            sys.stdout.flush()
            say("ready: export these where you call functions. Ctrl-C stops it and deletes it all")
            threading.Event().wait()
    except KeyboardInterrupt:
        say("stopped")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


@contextmanager
def running_cloud(directory: Path) -> Iterator[dict[str, str]]:
    """Run the loopback cloud, a cluster and a Prefect server, and yield the variables to export.

    Args:
        directory: Where all of it is kept.
    """
    home = directory / "home"
    with ExitStack() as running:
        say("starting storage, registry, Cloud Build and a cluster ...")
        cloud = start_cloud(directory / "cloud", keep=f"{PROJECT}/kn-{CLUSTER}")
        running.callback(cloud.stop)
        cloud.create_repository(PROJECT, f"kn-{CLUSTER}")
        for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
            cloud.storage.create_bucket(bucket)
        (directory / "cluster").mkdir()
        runtime = PodmanRuntime(containers=cloud.containers)
        cluster = running.enter_context(
            LoopbackCluster(
                directory / "cluster", runtime=runtime, pull_image=runtime.pull, version="1.35"
            )
        )
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        cluster.add_nodes(TPUS)
        server = BackgroundServer(home, os.environ)
        running.callback(server.stop)
        record = server.ensure(say)
        # Whoever is impatient must not keep what was started from being stopped.
        running.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        yield {
            **environment_of(cloud),
            "KUBECONFIG": str(cluster.kubeconfig()),
            **server.environment(record),
            "KINETIC_HOME": str(home),
        }


@contextmanager
def an_empty_project(directory: Path) -> Iterator[dict[str, str]]:
    """Run Google's APIs with an empty project, and yield the variables to export.

    Args:
        directory: Where all of it is kept.
    """
    from loopback.empty_cloud import registry_endpoints
    from loopback.google.server import a_loopback_google

    with ExitStack() as running:
        say("starting Google's APIs with an empty project ...")
        cloud = start_cloud(directory / "cloud", keep=f"{PROJECT}/kn-{CLUSTER}")
        running.callback(cloud.stop)
        runtime = PodmanRuntime(containers=cloud.containers)

        def serve(where: Path) -> LoopbackCluster:
            return LoopbackCluster(where, runtime=runtime, pull_image=runtime.pull, version="1.35")

        google = running.enter_context(
            a_loopback_google(
                directory / "google",
                serve=serve,
                objects=cloud.storage.url,
                served=cloud.front.repositories,
            )
        )
        cloud.front.tokens = google.state.tokens
        running.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        yield {
            **google.environment,
            "KINETIC_CLOUD_BUILD_ENDPOINT": cloud.builds.endpoint,
            "KINETIC_SECRET_MANAGER_ENDPOINT": cloud.builds.endpoint,
            "KINETIC_REGISTRY_ENDPOINTS": registry_endpoints(cloud.front.url, cloud.docker_hub.url),
            "KINETIC_HOME": str(directory / "home"),
        }


def say(text: str) -> None:
    """Tell the person, without touching what is to be exported."""
    print(f"kinetic cloud: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
