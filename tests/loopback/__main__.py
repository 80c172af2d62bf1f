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
from loopback.cloud import (
    REGISTRY_HOST,
    REGISTRY_HOSTS,
    LoopbackCloud,
    registry_endpoints,
    start_cloud,
)
from loopback.kubernetes.node_groups import NodeGroup

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

_OF_A_CLUSTER = (
    *("KINETIC_PLATFORM", "KINETIC_PROJECT", "KINETIC_CLUSTER", "KINETIC_IMAGE_REPO"),
    *("KINETIC_JOBS_BUCKET", "KINETIC_BUILDS_BUCKET", "DOCKER_CONFIG"),
)
"""Variables that mean nothing where there is no cluster yet."""


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
        with running_cloud(directory, is_empty="--empty" in sys.argv[1:]) as variables:
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
def running_cloud(directory: Path, *, is_empty: bool = False) -> Iterator[dict[str, str]]:
    """Run a Google Cloud of this machine, and yield the variables to export.

    Args:
        directory: Where all of it is kept.
        is_empty: Whether nothing is in its project; else there are a cluster with its buckets and
            its repository, and a Prefect server.
    """
    from loopback.ready_cluster import apis_of, make_cluster  # they take two seconds

    with ExitStack() as running:
        say("starting Google's APIs, storage, a registry and Cloud Build ...")
        cloud = start_cloud(directory / "cloud", keep=f"{PROJECT}/kn-{CLUSTER}")
        running.callback(cloud.stop)
        google = running.enter_context(apis_of(cloud, directory / "google"))
        variables = {
            **environment_of(cloud),
            **google.environment,
            "KINETIC_REGISTRY_ENDPOINTS": registry_endpoints(cloud.front.url, cloud.docker_hub.url),
        }
        # In an empty project `kinetic init` starts it.
        server = BackgroundServer(directory / "home", os.environ)
        running.callback(server.stop)
        if is_empty:
            for name in _OF_A_CLUSTER:
                del variables[name]
        else:
            say("making a cluster ...")
            make_cluster(google)
            variables |= server.environment(server.ensure(say))
        # Whoever is impatient must not keep what was started from being stopped.
        running.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        yield {**variables, "KINETIC_HOME": str(directory / "home")}


def say(text: str) -> None:
    """Tell the person, without touching what is to be exported."""
    print(f"kinetic cloud: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
