"""Start the loopback cloud and keep it up: `PYTHONPATH=tests python -m loopback`.

Prints the environment to export, so that every command can be tried without an account.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from loopback.cloud import REGISTRY_HOST, LoopbackCloud, start_cloud

PROJECT = "loopback"
CLUSTER = "kinetic-cluster"


def environment_of(cloud: LoopbackCloud) -> dict[str, str]:
    """Return the variables that point the product's clients to the loopback cloud."""
    return {
        "KINETIC_PLATFORM": "gke",
        "KINETIC_PROJECT": PROJECT,
        "KINETIC_CLUSTER": CLUSTER,
        "KINETIC_CLOUD_BUILD_ENDPOINT": cloud.builds.endpoint,
        "KINETIC_SECRET_MANAGER_ENDPOINT": cloud.builds.endpoint,
        "KINETIC_REGISTRY_ENDPOINTS": f"{REGISTRY_HOST}={cloud.front.url}",
        "STORAGE_EMULATOR_HOST": cloud.storage.url,
    }


def main() -> int:
    """Start everything, say where it is, and stop it on Ctrl-C."""
    directory = Path(tempfile.mkdtemp(prefix="kinetic-cloud-"))
    cloud = start_cloud(directory)
    try:
        cloud.create_repository(PROJECT, f"kn-{CLUSTER}")
        for purpose in ("jobs", "builds"):
            cloud.storage.create_bucket(f"{PROJECT}-kn-{CLUSTER}-{purpose}")
        for name, value in environment_of(cloud).items():
            print(f"export {name}={value}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
    finally:
        cloud.stop()
    return 0


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    sys.exit(main())
