"""Runs per second, API calls and client CPU of many runs watched by one client.

    python benchmarks/watch.py [--runs 200] [--json]

The cluster is the loopback one of the tests, in a process of its own; pods are processes.
The alternative gives each run a launcher, hence a watcher, of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from _report import Row, report

from kinetic_flows.clients.kubernetes.access import Kubeconfig
from kinetic_flows.clients.kubernetes.client import KubernetesClient
from kinetic_flows.core.accelerators import parse_accelerator
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.launcher import LaunchRequest, Phase
from kinetic_flows.platforms.gke.job_variables import PodRequest, job_variables
from kinetic_flows.platforms.gke.launcher import KubernetesLauncher

IMAGE = ResolvedImage(reference="r/i@sha256:" + "0" * 64, digest="sha256:" + "0" * 64, labels={})
POLL_SECONDS = 0.25


def serve(directory: str, pipe: Any) -> None:
    """Be the cluster until told to stop, then say what was asked of it."""
    from loopback.kubernetes.cluster import LoopbackCluster
    from loopback.kubernetes.node_groups import NodeGroup
    from loopback.kubernetes.runtime import ProcessRuntime

    # A shell starts much faster than an interpreter; what is measured is the watching.
    runtime = ProcessRuntime(rewrite=lambda command: ["/bin/sh", "-c", command[-1]])
    with LoopbackCluster(Path(directory), runtime=runtime) as cluster:
        cluster.add_nodes(NodeGroup(name="default", nodes=1))
        pipe.send(str(cluster.kubeconfig()))
        pipe.recv()
        pipe.send(list(cluster.requests))


@contextmanager
def a_cluster() -> Iterator[Any]:
    here, there = multiprocessing.get_context("spawn").Pipe()
    with tempfile.TemporaryDirectory() as directory:
        process = multiprocessing.get_context("spawn").Process(
            target=serve, args=(directory, there)
        )
        process.start()
        yield here
        process.join()


def request(number: int) -> LaunchRequest:
    run_id = str(uuid.uuid4())
    pod = PodRequest(
        run_id=run_id,
        name="train",
        image=IMAGE.reference,
        accelerator=parse_accelerator("cpu"),
        arguments=("-c", f"sleep 1; echo {number}"),
    )
    return LaunchRequest(
        run_id=run_id,
        name="train",
        image=IMAGE,
        environment={"KINETIC_RUN_KEY": "5e" * 32},
        job_variables=job_variables(pod),
    )


def follow(launcher: KubernetesLauncher, number: int, results: list[bool]) -> None:
    wanted = request(number)
    launcher.start(wanted)
    output, position = b"", 0
    while True:
        seen = launcher.observe(wanted.run_id, position)
        output, position = output + seen.output, seen.position
        if seen.phase.is_final:
            results.append(seen.phase is Phase.SUCCEEDED and output == f"{number}\n".encode())
            return
        time.sleep(POLL_SECONDS)


def measure(runs: int, kind: str) -> dict[str, Any]:
    with a_cluster() as cluster:
        access = Kubeconfig(path=cluster.recv())
        clients = [KubernetesClient(access) for _ in range(1 if kind == "shared" else runs)]
        launchers = [KubernetesLauncher(client) for client in clients]
        results: list[bool] = []
        follow(launchers[0], 0, [])  # imports are not what is measured
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun, cpu = time.monotonic(), time.process_time()
        threads = [
            threading.Thread(target=follow, args=(launchers[n % len(launchers)], n, results))
            for n in range(runs)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        cluster.send("stop")
        asked = cluster.recv()
        for client in clients:
            client.close()
    gets = [line.split("?")[0] for line in asked if line.startswith("GET")]
    return {
        "right": sum(results),
        "runs_per_second": round(runs / seconds, 1),
        "client_cpu_seconds": round(cpu, 2),
        "client_memory_grown_mb": round(grown / 1024, 1),
        "lists_and_watches": sum(not path.endswith("/log") for path in gets),
        "log_streams": sum(path.endswith("/log") for path in gets),
        "launch_calls": len(asked) - len(gets),
    }


UNITS = {
    "runs_per_second": "runs/s",
    "client_cpu_seconds": "s",
    "client_memory_grown_mb": "MB",
    "lists_and_watches": "requests",
    "log_streams": "requests",
    "launch_calls": "requests",
}


def main() -> None:
    """Measure one watcher for all runs against one for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args()
    shared, own = (measure(given.runs, kind) for kind in ("shared", "own"))
    for found in (shared, own):
        if found["right"] != given.runs:
            sys.exit(f"only {found['right']} of {given.runs} runs came out right: {found}")
    rows = [
        Row(name=name.replace("_", " "), ours=shared[name], alternative=own[name], unit=unit)
        for name, unit in UNITS.items()
    ]
    report(rows, given.json)


if __name__ == "__main__":
    main()
