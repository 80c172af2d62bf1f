"""What shipping a project costs, beside zipping the whole tree.

The project has 5,000 source files and thirty 8 MB assets, about 280 MB. Each client is a process
of its own with the same store and, for us, the same cache; the alternative zips the tree with
deflate, hashes the archive, and puts it in the store. Seconds are those of the work, after the
imports; memory is the process's peak beyond that of a bare interpreter.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from _report import Row, report

SOURCE_FILES = 5_000
SOURCE_BYTES = 8_000
ASSETS = 30
ASSET_BYTES = 8_000_000
SETTLE_SECONDS = 0.5
"""Files edited within a tick of being read are read again, so the project gets to rest first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object per row")
    parser.add_argument("--client", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        print(json.dumps(run_client(*options.client)))
        return
    with tempfile.TemporaryDirectory(prefix="ship-") as folder:
        report(list(measure(Path(folder))), options.json)


def measure(folder: Path) -> Iterator[Row]:
    project = folder / "project"
    make_project(project)
    interpreter = start("bare", project, folder)["peak_mb"]
    for name, change in SCENARIOS.items():
        change(project)
        time.sleep(SETTLE_SECONDS)
        ours, zipped = start("packs", project, folder), start("zip", project, folder)
        yield Row(name=name, ours=ours["seconds"], alternative=zipped["seconds"], unit="s")
        yield Row(
            name=f"{name}, uploaded", ours=ours["bytes"], alternative=zipped["bytes"], unit="bytes"
        )
        yield Row(
            name=f"{name}, peak memory",
            ours=ours["peak_mb"] - interpreter,
            alternative=zipped["peak_mb"] - interpreter,
            unit="MB",
        )


def start(way: str, project: Path, folder: Path) -> dict[str, float]:
    """Run one client in a process of its own."""
    command = [sys.executable, __file__, "--client", way, str(project)]
    done = subprocess.run(
        [*command, str(folder / f"store-{way}"), str(folder / "home")],
        check=True,
        stdout=subprocess.PIPE,
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def run_client(way: str, project: str, store: str, home: str) -> dict[str, float]:
    ways: dict[str, Callable[[Path, Path, Path], tuple[float, int]]]
    ways = {"packs": ship_packs, "zip": ship_zip, "bare": lambda *_: (0.0, 0)}
    seconds, sent = ways[way](Path(project), Path(store), Path(home))
    return {"seconds": seconds, "bytes": sent, "peak_mb": peak_mb()}


def ship_packs(project: Path, store: Path, home: Path) -> tuple[float, int]:
    from kinetic_flows.code.snapshot import take_snapshot
    from kinetic_flows.code.upload import upload_code
    from kinetic_flows.platforms.local.store import LocalStore

    started = time.perf_counter()
    snapshot = take_snapshot(project, cache_home=home)
    sent = upload_code(snapshot, LocalStore(store), home=home).bytes_uploaded
    return time.perf_counter() - started, sent


def ship_zip(project: Path, store: Path, _home: Path) -> tuple[float, int]:
    from kinetic_flows.platforms.local.store import LocalStore

    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "project.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(project.rglob("*")):
                archive.write(file, file.relative_to(project))
        with path.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        put = LocalStore(store).put_if_absent(f"zips/{digest}", path)
        return time.perf_counter() - started, path.stat().st_size if put else 0


def peak_mb() -> float:
    """The peak of this process alone: what getrusage says survives exec, so it is no use."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1000


def make_project(project: Path) -> None:
    chance = random.Random(0)
    words = [f"name_{index}" for index in range(500)]
    for index in range(SOURCE_FILES):
        path = project / f"package_{index % 100}" / f"module_{index}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source(chance, words))
    for index in range(ASSETS):
        path = project / "assets" / f"weights_{index}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(ASSET_BYTES))


def source(chance: random.Random, words: list[str]) -> str:
    lines, size = [], 0
    while size < SOURCE_BYTES:
        a, b, c = chance.choices(words, k=3)
        lines.append(f"def {a}({b}: int) -> int:\n    return {b} * {chance.random()} + {c}\n\n")
        size += len(lines[-1])
    return "".join(lines)


def leave(project: Path) -> None:
    """Change nothing."""


def edit_file(project: Path) -> None:
    path = project / "package_7" / "module_7.py"
    path.write_text(path.read_text() + "\n# edited\n")


def add_file(project: Path) -> None:
    (project / "package_7" / "added.py").write_text("ADDED = True\n")


def replace_asset(project: Path) -> None:
    (project / "assets" / "weights_3.bin").write_bytes(os.urandom(ASSET_BYTES))


SCENARIOS: dict[str, Callable[[Path], None]] = {
    "first submission": leave,
    "unchanged": leave,
    "one file changed": edit_file,
    "one file added": add_file,
    "one 8 MB asset replaced": replace_asset,
}


if __name__ == "__main__":
    main()
