"""Many inputs as one sweep, against as many single submissions, on the loopback Kubernetes.

    python benchmarks/many.py [--inputs 1000] [--singles 20] [--json]

Cluster, storage, registry and Cloud Build are the loopback ones of the tests in a process of their
own. Pods are processes of this machine that begin with what images contain already imported, as on
a cluster they would not take the processors of whoever launches them. Each side calls the same
function with an argument that all inputs have in common and one that they do not, in a process of
its own that has called it once, with its image built by another. Time is from the first launch
until every run has ended. Singles are submitted one after the other, as a loop would; when there
are fewer of them than inputs, their figures (not their memory) are those of as many as there are
inputs, in proportion.

Bytes are what goes to the store; API calls are the client's requests to Prefect.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from _report import Row, report

COMMON_BYTES = 256_000
UNITS = {"seconds": "s", "api_calls": "requests", "store_bytes": "B", "peak_memory_mb": "MB"}

PROJECT = """
import kinetic

@kinetic.run(accelerator="cpu", requirements=[])
def work(data, number):
    return len(data) + number
"""


def serve(directory: str, pipe: Any) -> None:
    """Be the cloud until told to stop."""
    from loopback.quick_cloud import a_quick_cloud

    with a_quick_cloud(Path(directory), forks_pods=True) as cloud:
        pipe.send(cloud.environment)
        pipe.recv()


def measure_here(kind: str, count: int) -> dict[str, Any]:
    """Run one side in this process, whose environment points to the cloud."""
    import httpx

    from kinetic_flows.clients.google.storage import GoogleStore

    calls, sent = [0], [0]
    send, put = httpx.Client.send, GoogleStore.put_if_absent

    def counted_send(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        return send(self, *args, **kwargs)

    def counted_put(self: Any, name: str, data: Any) -> bool:
        sent[0] += len(data) if isinstance(data, bytes) else data.stat().st_size
        return put(self, name, data)

    httpx.Client.send = counted_send  # type: ignore[method-assign]
    GoogleStore.put_if_absent = counted_put  # type: ignore[method-assign]
    sys.path.insert(0, str(Path.cwd()))
    from many_project import work  # type: ignore[import-not-found]

    data = os.urandom(COMMON_BYTES)
    work(b"", 0)  # imports everything
    if kind == "build":
        return {}
    calls[0] = sent[0] = 0
    begun = time.monotonic()
    if kind == "map":
        got = work.map((data, number) for number in range(count)).results()
    else:
        runs = [work.submit(data, number) for number in range(count)]
        got = [run.result() for run in runs]
    seconds = time.monotonic() - begun
    if got != [COMMON_BYTES + number for number in range(count)]:
        raise SystemExit(f"{kind}: not every result is right")
    return {
        "seconds": seconds,
        "api_calls": calls[0],
        "store_bytes": sent[0],
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure(kind: str, count: int, environment: dict[str, str], project: Path) -> dict[str, Any]:
    """Run one side in a process of its own, and return what it measured."""
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), "--side", kind, "--inputs", str(count)],
        cwd=project,
        env={**os.environ, **environment, "KINETIC_PROGRESS": "quiet"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--singles", type=int, default=20)
    parser.add_argument("--side", choices=("build", "map", "single"), help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure_here(given.side, given.inputs)))
        return
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    with tempfile.TemporaryDirectory() as directory:
        cloud = context.Process(target=serve, args=(f"{directory}/cloud", there))
        cloud.start()
        try:
            project = Path(directory) / "project"
            project.mkdir()
            (project / "many_project.py").write_text(PROJECT)
            environment = {**here.recv(), "KINETIC_HOME": f"{directory}/home"}
            measure("build", 1, environment, project)
            ours = measure("map", given.inputs, environment, project)
            singles = measure("single", min(given.singles, given.inputs), environment, project)
        finally:
            here.send("stop")
            cloud.join()
            _stop_server(f"{directory}/home")
    share = given.inputs / min(given.singles, given.inputs)
    rows = [
        Row(
            name=f"{given.inputs} inputs: {name.replace('_', ' ')}",
            ours=ours[name],
            alternative=singles[name] * (1 if name == "peak_memory_mb" else share),
            unit=unit,
        )
        for name, unit in UNITS.items()
    ]
    report(rows, given.json)


def _stop_server(home: str) -> None:
    from kinetic_flows.clients.prefect.server import BackgroundServer

    BackgroundServer(Path(home), os.environ).stop()


if __name__ == "__main__":
    main()
