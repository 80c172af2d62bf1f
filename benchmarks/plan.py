"""Planning an unchanged project's environment, against resolving it again with a warm uv.

The alternative is `uv pip compile --generate-hashes` on the same file with uv's cache full,
in the same run, in turn. Packages come from an index on loopback that lets its answers be
cached, so neither side waits for a network. A project of local packages is timed as well,
because those are looked at, though not read, on every plan.

    python benchmarks/plan.py [--json] [--rounds 10]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from _report import Row, report

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from corpus.dependencies.simple_index import project_files, serve, wheel
from corpus.dependencies.stores import MemoryStore
from kinetic_flows.core.settings.settings import process_environment
from kinetic_flows.dependencies.discovery import discover
from kinetic_flows.dependencies.lockfile import environment_spec
from kinetic_flows.dependencies.locking import Locker
from kinetic_flows.dependencies.targets import local_target
from kinetic_flows.dependencies.uv import find_uv

SMALL, LARGE = 3, 150
LOCAL_FILES = 500


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--rounds", type=int, default=10)
    options = arguments.parse_args()
    names = [f"package-{number:03}" for number in range(LARGE)]
    packages = [wheel("cloudpickle", "3.1.2"), *(wheel(name, "1.0") for name in names)]
    with tempfile.TemporaryDirectory() as directory, serve(packages, max_age_seconds=600) as index:
        scratch = Path(directory)
        environ = {
            **process_environment(),
            "UV_CACHE_DIR": str(scratch / "cache"),
            "UV_DEFAULT_INDEX": index.url,
        }
        rows = [
            row
            for lines in (SMALL, LARGE)
            for row in measure(scratch / str(lines), names[:lines], environ, options.rounds)
        ]
        rows.append(measure_local(scratch / "local", environ, options.rounds))
    report(rows, as_json=options.json)


def measure(project: Path, names: list[str], environ: Mapping[str, str], rounds: int) -> list[Row]:
    """Time a plan with and without a lock, and uv, on one requirements file."""
    project.mkdir()
    (project / "requirements.txt").write_text("".join(f"{name}\n" for name in names))
    first = seconds(lambda: plan(project, environ))
    compile_once(project, environ)
    ours, alternative = [], []
    for _ in range(rounds):
        ours.append(seconds(lambda: plan(project, environ)))
        alternative.append(seconds(lambda: compile_once(project, environ)))
    what = f"{len(names)}-line requirements.txt"
    return [
        Row(
            name=f"warm plan, {what}",
            ours=statistics.median(ours),
            alternative=statistics.median(alternative),
            unit="s",
        ),
        Row(name=f"  first plan, {what}", ours=first, alternative=None, unit="s"),
    ]


def measure_local(project: Path, environ: Mapping[str, str], rounds: int) -> Row:
    """Time a warm plan of a project with one large local package."""
    for name, text in project_files("mine", "0.1").items():
        (project / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (project / "mine" / name).write_text(text)
    for number in range(LOCAL_FILES):
        (project / "mine" / "mine" / f"module_{number}.py").write_text(f"N = {number}\n" * 100)
    for path in project.rglob("*.*"):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    (project / "requirements.txt").write_text("./mine\n")
    plan(project, environ)
    compile_once(project, environ)
    ours = [seconds(lambda: plan(project, environ)) for _ in range(rounds)]
    alternative = [seconds(lambda: compile_once(project, environ)) for _ in range(rounds)]
    return Row(
        name=f"warm plan, local package of {LOCAL_FILES} files",
        ours=statistics.median(ours),
        alternative=statistics.median(alternative),
        unit="s",
    )


def plan(project: Path, environ: Mapping[str, str]) -> None:
    """Decide what the environment of a project is, as each call does."""
    home = project.parent / f"{project.name}-home"
    target = local_target()
    source = discover(
        requirements=None, entry_file=None, start=project, home_directory=project.parent
    )
    lock = Locker(store=MemoryStore(), home=home, environ=environ).lock(source, target, write=False)
    environment_spec(lock.text, target)


def compile_once(project: Path, environ: Mapping[str, str]) -> None:
    """Resolve a project as one would by hand."""
    subprocess.run(
        [find_uv(), "pip", "compile", "--quiet", "--generate-hashes", "requirements.txt"],
        cwd=project,
        env=dict(environ),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def seconds(work: Callable[[], None]) -> float:
    """Time one piece of work."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
