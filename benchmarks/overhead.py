"""What it costs a run to be looked into: its runner with readings of what it uses, and without.

The alternative is the same runner with `KINETIC_METRICS=0`. An empty function shows what readings
cost at a run's start and end, in turn with the alternative; a function that computes shows how
much of a CPU the supervisor takes beside it, which is to be less than 1 %. With a GPU here, its
driver is asked as well.

    python benchmarks/overhead.py [--json] [--rounds 15] [--seconds 60]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _report import Row, report

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from runner_jobs import Job

EMPTY = "def main():\n    return None\n"
BUSY = """
import time

def main():
    until, rounds = time.monotonic() + {seconds}, 0
    while time.monotonic() < until:
        sum(range(10_000))
        rounds += 1
    return rounds
"""
ON, OFF = {"KINETIC_METRICS": "5"}, {"KINETIC_METRICS": "0"}
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        empty = empty_function(root, arguments.rounds)
        (cpu, done), (cpu_off, done_off) = (
            busy_function(root / name, arguments.seconds, variables)
            for name, variables in (("on", ON), ("off", OFF))
        )
    rows = [
        Row(name="empty function, its whole runner", ours=empty[0], alternative=empty[1], unit="s"),
        Row(name="busy function, its supervisor's CPU", ours=cpu, alternative=cpu_off, unit="%"),
        Row(name="busy function, what it did", ours=done, alternative=done_off, unit="rounds/s"),
    ]
    report(rows, arguments.json)


def empty_function(root: Path, rounds: int) -> tuple[float, float]:
    """Return how long the runner takes for a function that does nothing, with and without."""
    took: dict[str, list[float]] = {"on": [], "off": []}
    for number in range(rounds + 1):
        for name, variables in (("on", ON), ("off", OFF)):
            job = Job(root / f"empty-{name}-{number}", EMPTY)
            ended = job.run(**variables)
            assert ended.exit_code == 0
            if number:
                took[name].append(ended.seconds)
    return statistics.median(took["on"]), statistics.median(took["off"])


def busy_function(root: Path, seconds: float, variables: dict[str, str]) -> tuple[float, float]:
    """Return how much of a CPU the supervisor took in per cent, and what the function did."""
    job = Job(root, BUSY.format(seconds=seconds))
    runner = job.start(**variables)
    # Its start is measured above.
    time.sleep(seconds / 10)
    before, began = cpu_seconds(runner), time.monotonic()
    time.sleep(seconds * 0.8)
    used, took = cpu_seconds(runner) - before, time.monotonic() - began
    assert runner.wait() == 0
    return 100 * used / took, job.value() / seconds


def cpu_seconds(runner: subprocess.Popen[bytes]) -> float:
    """Return the CPU time of a supervisor, and of what it has started but the function's process.

    Those are the one that asks the driver of GPUs, where it has GPUs.
    """
    tasks = Path(f"/proc/{runner.pid}/task").glob("*/children")
    children = [pid for task in tasks for pid in task.read_text().split()]
    asking = [pid for pid in children if b"nvml" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return sum(own_cpu_seconds(pid) for pid in [str(runner.pid), *asking])


def own_cpu_seconds(pid: str) -> float:
    """Return the CPU time of one process, without that of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    main()
