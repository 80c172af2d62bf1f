"""`kinetic build-image` when the person who runs it presses Ctrl-C."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from loopback.cloud_build import CloudBuildServer, Status
from loopback.quick_builds import QuickWorker
from loopback.registry import DockerRegistry
from loopback.storage import StorageServer
from loopback.wire import wait_until

pytest_plugins = ["loopback.fixtures"]


@pytest.fixture
def builds(
    storage_server: StorageServer, docker_registry: DockerRegistry
) -> Iterator[CloudBuildServer]:
    """Builds that take longer than anyone waits."""
    worker = QuickWorker(storage_server.url, docker_registry.url)
    worker.seconds = 900
    server = CloudBuildServer(worker).start()
    yield server
    server.stop()


def test_ctrl_c_cancels_the_builds_that_it_started(
    builds: CloudBuildServer,
    storage_server: StorageServer,
    docker_registry: DockerRegistry,
    prefect_api_url: str,
    shared_kinetic_home: Path,
    bucket_name: str,
) -> None:
    environment = {
        **os.environ,
        "PREFECT_API_URL": prefect_api_url,
        "KINETIC_HOME": str(shared_kinetic_home),
        "KINETIC_PROJECT": "my-project",
        "KINETIC_BUILDS_BUCKET": storage_server.create_bucket(bucket_name),
        "KINETIC_CLOUD_BUILD_ENDPOINT": builds.endpoint,
        "STORAGE_EMULATOR_HOST": storage_server.url,
        "TERM": "xterm",
    }
    options = ["--repo", f"{docker_registry.host}/bases", "--category", "cpu", "--yes"]
    kinetic = str(Path(sys.executable).parent / "kinetic")
    shell: pexpect.spawn[str] = pexpect.spawn(
        kinetic, ["build-image", *options], env=environment, encoding="utf-8", timeout=120
    )
    shell.expect("console.cloud.google.com")

    shell.sendintr()
    shell.expect(pexpect.EOF)
    shell.close()

    (build,) = builds.builds
    wait_until(lambda: build.status == Status.CANCELLED, 30, "the end of the build")
    assert shell.exitstatus == 130
