"""How soon the command answers: its version and its overview, against a bare start of Python.

The alternative is the same interpreter that imports nothing but what tells a package's version,
in turn, so that the machine's own pace shows on both sides.

    python benchmarks/command_line.py [--json] [--rounds 20]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from _report import Row, report

KINETIC = Path(sys.executable).with_name("kinetic")
BARE = "import importlib.metadata; print(importlib.metadata.version('kinetic-flows'))"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--rounds", type=int, default=20)
    options = arguments.parse_args()
    rows = [
        measure("kinetic --version", [str(KINETIC), "--version"], options.rounds),
        measure("kinetic --help", [str(KINETIC), "--help"], options.rounds),
        measure("kinetic server status", [str(KINETIC), "server", "status"], options.rounds),
    ]
    report(rows, as_json=options.json)


def measure(name: str, command: Sequence[str], rounds: int) -> Row:
    """Time a command and a bare start of Python, in turn."""
    ours, alternative = [], []
    for _ in range(rounds):
        ours.append(seconds(command))
        alternative.append(seconds([sys.executable, "-c", BARE]))
    return Row(
        name=name,
        ours=statistics.median(ours),
        alternative=statistics.median(alternative),
        unit="s",
    )


def seconds(command: Sequence[str]) -> float:
    """Time one process from its start to its end."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
