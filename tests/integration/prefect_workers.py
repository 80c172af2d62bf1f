"""Prefect's own workers, started as people start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from kinetic_flows.clients.prefect.work_pools import WorkPools
from kinetic_flows.platforms.gke.work_pool import install, plan_installation

WORKER_MANIFEST = Path(__file__).parents[2] / "deployments" / "worker" / "worker.yaml"
CHOSEN_HERE = ("PREFECT_API_URL", "HOME")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class RunningWorker:
    """A worker that was started, and where it writes what it does."""

    process: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self.log_file.read_text()

    def stop(self) -> None:
        """Stop it as Ctrl-C does, and wait until it has gone."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)


def install_work_pool(api_url: str, name: str) -> None:
    """Install a work pool with the template that ships."""
    pools = WorkPools(api_url)
    install(pools, name, plan_installation(pools, name))


def start_worker(pool: str, kind: str, directory: Path, **variables: str) -> RunningWorker:
    """Start `prefect worker start` with nothing of this process's settings.

    Args:
        pool: Its work pool.
        kind: Its type.
        directory: Where its home and its log are.
        **variables: Variables of its process: where its Prefect API is, and what else it needs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PREFECT_", "KINETIC_"))
    }
    environment = {
        **kept,
        "PREFECT_HOME": str(directory / "prefect"),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        **variables,
    }
    log_file = directory / "worker.log"
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, "--type", kind]
    with log_file.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, cwd=directory
        )
    return RunningWorker(process=process, log_file=log_file)


@contextmanager
def a_worker(pool: str, kind: str, directory: Path, **variables: str) -> Iterator[RunningWorker]:
    """Run a worker for the length of a block; see `start_worker`."""
    worker = start_worker(pool, kind, directory, **variables)
    try:
        yield worker
    finally:
        worker.stop()


@contextmanager
def a_cluster_worker(
    pool: str, access: Mapping[str, str], directory: Path, kubeconfig: Path
) -> Iterator[RunningWorker]:
    """Run a Kubernetes worker, with the settings of the manifest that ships."""
    settings = {
        name: value for name, value in shipped_worker_settings().items() if name not in CHOSEN_HERE
    }
    settings["PREFECT_WORKER_CANCELLATION_POLL_SECONDS"] = "1"
    settings |= access
    with a_worker(pool, "kubernetes", directory, KUBECONFIG=str(kubeconfig), **settings) as worker:
        yield worker


def access() -> dict[str, str]:
    """Return the variables of this test that say where the Prefect API is, and its password."""
    return {name: os.environ[name] for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")}


def shipped_worker_settings() -> dict[str, str]:
    """Return the settings of the worker that the shipped manifest runs."""
    manifest = yaml.safe_load(WORKER_MANIFEST.read_text())
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each["value"] for each in container["env"]}


def eventually(look: Callable[[], T | None], seconds: float = 300) -> T:
    """Look until there is something to be seen, and return it."""
    deadline = time.monotonic() + seconds
    pause = 0.05
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, "waited for too long"
        time.sleep(pause)
        # A look asks a server, which works for those that run beside, too.
        pause = min(1.3 * pause, 0.5)
