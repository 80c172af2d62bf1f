"""Start the loopback cloud and keep it up: `PYTHONPATH=tests python -m loopback`.

Prints the environment to export, so that every command can be tried without an account.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from loopback.cloud import REGISTRY_HOST, REGISTRY_HOSTS, LoopbackCloud, start_cloud
from loopback.kubernetes.cluster import LoopbackCluster
from loopback.kubernetes.podman import PodmanRuntime
from loopback.kubernetes.scheduler import NodeGroup

PROJECT = "loopback"
CLUSTER = "kinetic-cluster"
JOBS_BUCKET = f"{PROJECT}-kn-{CLUSTER}-jobs"
BUILDS_BUCKET = f"{PROJECT}-kn-{CLUSTER}-builds"


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
    }


def main() -> int:
    """Start everything, say where it is, and stop it on Ctrl-C."""
    directory = Path(tempfile.mkdtemp(prefix="kinetic-cloud-"))
    cloud = start_cloud(directory)
    try:
        cloud.create_repository(PROJECT, f"kn-{CLUSTER}")
        for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
            cloud.storage.create_bucket(bucket)
        runtime = PodmanRuntime(containers=cloud.containers)
        with LoopbackCluster(directory, runtime=runtime) as cluster:
            cluster.add_nodes(NodeGroup(name="default", nodes=1))
            for name, value in environment_of(cloud).items():
                print(f"export {name}={value}")
            print(f"export KUBECONFIG={cluster.kubeconfig()}", flush=True)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        cloud.stop()
    return 0


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    sys.exit(main())
