"""A warm call of an empty function in a new process: its first sign of life, and its end.

The alternative is a Prefect flow that does nothing, in a new process, against the same server. Its
first sign is Prefect's first line about the flow run, after the import of Prefect that both wait
for. What is shown of ours comes before that import.

    python benchmarks/first_line.py [--json] [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import pty
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from _report import Row, report

from kinetic_flows.clients.prefect.server import BackgroundServer
from kinetic_flows.core.settings.settings import load_settings

OURS = """
import kinetic

@kinetic.run()
def nothing():
    pass

if __name__ == "__main__":
    nothing()
"""

PLAIN = """
from prefect import flow

@flow
def nothing():
    pass

if __name__ == "__main__":
    nothing()
"""

IMPORT = "import prefect.main, prefect.artifacts, prefect.client.orchestration, prefect.task_engine"


def timed(program: Path, environ: Mapping[str, str]) -> tuple[float, float]:
    """Return after how many seconds a program first wrote to its terminal, and when it ended."""
    ours, its = pty.openpty()
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, str(program)], stdout=its, stderr=its, env=environ, cwd=program.parent
    )
    os.close(its)
    os.read(ours, 1)
    first = time.perf_counter() - started
    try:
        while os.read(ours, 65536):
            pass
    except OSError:  # nobody has the terminal any more
        pass
    if process.wait() != 0:
        raise SystemExit(f"{program} failed")
    os.close(ours)
    return first, time.perf_counter() - started


def import_seconds() -> float:
    """Return how long a new process takes to import of Prefect what a call needs."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORT], check=True)
    return time.perf_counter() - started


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    server = BackgroundServer(load_settings().home, os.environ)
    access = server.environment(server.ensure())
    term = {"TERM": "xterm-256color", "CI": ""}
    with tempfile.TemporaryDirectory() as directory:
        ours, plain = Path(directory) / "ours" / "call.py", Path(directory) / "plain" / "flow.py"
        for program, text in ((ours, OURS), (plain, PLAIN)):
            program.parent.mkdir()
            program.write_text(text)
            (program.parent / "requirements.txt").touch()
        timed(ours, {**os.environ, **term})
        timed(plain, {**os.environ, **access, **term})
        called = [timed(ours, {**os.environ, **term}) for _ in range(options.rounds)]
        flows = [timed(plain, {**os.environ, **access, **term}) for _ in range(options.rounds)]
    imports = statistics.median(import_seconds() for _ in range(options.rounds))
    (first, whole), (plain_first, plain_whole) = (
        (statistics.median(each[0] for each in runs), statistics.median(each[1] for each in runs))
        for runs in (called, flows)
    )
    rows = [
        Row(name="new process, first sign", ours=first, alternative=plain_first, unit="s"),
        Row(name="new process, whole call", ours=whole, alternative=plain_whole, unit="s"),
        Row(name="  import of Prefect", ours=imports, alternative=None, unit="s"),
    ]
    report(rows, options.json)


if __name__ == "__main__":
    main()
