"""From a container's start to the function's start: a project of 40 packages in prebuilt mode.

    python benchmarks/prebuilt.py [--rounds 3] [--directory /dev/shm] [--json]

Containers are real ones (podman) of an image with Python, uv and what the runner needs, the
store is a real Cloud Storage server on this machine, and the index is PyPI. The alternative is
what one writes by hand: `uv pip install -r requirements.txt` of the unlocked file in front of
the same runner. Ways are taken in turn, and each number is the best of its rounds, as whatever
else the machine does only adds to it.

Every way writes the same 380 MB of installed files. So that this machine's disk is not what is
measured, containers and store are in memory (/dev/shm) unless `--directory` names another place,
and no container is cleaned away before the end: on ext4 a new file takes no inode that was deleted
within the last minutes, and looks at every one of those first (`recently_deleted` in the kernel's
fs/ext4/ialloc.c), so that a way after another's removal took three times as long.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from _report import Row, report

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import RequirementsSpec
from kinetic_flows.core.settings.settings import process_environment
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.installation import plan_installation, upload_installation
from kinetic_flows.dependencies.locking import Locker
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.wheels import WheelCache
from kinetic_flows.images.bases import PLATFORM, read_bootstrap
from loopback.containers import Containers
from loopback.lifted_python import IMAGE, MINOR, lift_python_image
from loopback.storage import StorageServer
from runner_jobs import RUN_ID, Job

BASE = "localhost/base-cpu:1"
BUCKET = "jobs"
PROJECT = (
    *("pandas", "scikit-learn", "matplotlib", "requests", "httpx", "rich", "pydantic", "pyyaml"),
    *("jinja2", "tqdm", "humanize", "sqlalchemy", "beautifulsoup4", "networkx", "tabulate"),
)
"""With what they require they are 40 packages or so."""

FUNCTION = """
    import time
    STARTED = time.time()

    def main():
        import os
        import bs4, httpx, matplotlib.pyplot, networkx, pandas, pydantic, requests, rich, sklearn
        import sqlalchemy

        began = float(os.environ["BENCHMARK_STARTED"])
        print("BENCHMARK", STARTED - began, time.time() - began, flush=True)
        time.sleep(3600)
"""

DOCKERFILE = f"""\
FROM {IMAGE}
RUN python3 -m pip install --quiet uv cloudpickle google-cloud-storage
ENV UV_SYSTEM_PYTHON=1 UV_BREAK_SYSTEM_PACKAGES=1
"""

BEGIN = 'export BENCHMARK_STARTED="$(python3 -c "import time; print(time.time())")"'
RUNNER = 'exec python3 -u -c "$(python3 -c "$READ_BOOTSTRAP")"'
READ_BOOTSTRAP = "import base64, os; print(base64.b64decode(os.environ['BOOTSTRAP']).decode())"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Seconds since the container's start, and how long the runner says it installed."""

    function: float
    imported: float
    install: float


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every way is measured with."""

    containers: Containers
    storage: StorageServer
    store: GoogleStore
    directory: Path

    def run(
        self, name: str, spec: RequirementsSpec | None, before: str = "", **variables: str
    ) -> Timed:
        """Run a container until its function is called, and return when that was."""
        job = Job(self.directory / name, source=dedent(FUNCTION), changes={"requirements": spec})
        launch = job.write()
        prefix = f"{name}/"
        for path in job.root.rglob("*"):
            if path.is_file():
                self.store.put_if_absent(prefix + path.relative_to(job.root).as_posix(), path)
        # What the run before has not yet written to the disk must not count for this one.
        os.sync()
        launch["KINETIC_JOB"] = f"gs://{BUCKET}/{prefix}runs/{RUN_ID}/job.json"
        told = self._until_called(
            name,
            {
                **launch,
                **variables,
                "STORAGE_EMULATOR_HOST": self.storage.url,
                "BOOTSTRAP": base64.b64encode(read_bootstrap()).decode(),
                "READ_BOOTSTRAP": READ_BOOTSTRAP,
            },
            "\n".join(["set -e", BEGIN, before, RUNNER]),
        )
        installed = re.search(r"installed in ([\d.]+) s", told)
        function, imported = map(float, told.split("BENCHMARK")[1].split())
        return Timed(
            function=function, imported=imported, install=float(installed[1]) if installed else 0.0
        )

    def _until_called(self, name: str, environment: Mapping[str, str], script: str) -> str:
        """Return what a container printed until its function was called, and stop it there."""
        arguments = ["run", "--name", name, "--network", "host"]
        for variable, value in environment.items():
            arguments += ["--env", f"{variable}={value}"]
        lines = []
        with subprocess.Popen(
            self.containers.command("podman", *arguments, BASE, "sh", "-c", script),
            env=self.containers.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            for line in process.stdout or ():
                lines.append(line)
                if line.startswith("BENCHMARK"):
                    break
            else:
                raise SystemExit(f"{name} failed:\n{''.join(lines)}")
            self.containers.run("podman", "kill", name)
        return "".join(lines)


def make_requirements(bench: Bench, target: Target) -> tuple[RequirementsSpec, RequirementsSpec]:
    """Lock the project, and upload it twice: without and with the wheels of all packages."""
    source = DependencySource(
        kind="list", path=None, project_root=bench.directory, requirements=tuple(PROJECT)
    )
    home, environ = bench.directory / "home", process_environment()
    lock = Locker(store=bench.store, home=home, environ=environ).lock(source, target)
    base = ResolvedImage(reference=BASE, digest="", labels={})
    cache = WheelCache(target=target, project_root=bench.directory, home=home, environ=environ)
    plain = plan_installation(lock.packages, target, base, home=home)
    whole = plan_installation(lock.packages, target, base, home=home, ship=cache.ship)
    size = sum(wheel.size_bytes for wheel in whole.wheels) / 1e6
    print(f"{len(lock.packages)} packages, {size:.0f} MB of wheels", file=sys.stderr)
    return (
        upload_installation(plain, bench.store).spec,
        upload_installation(whole, bench.store).spec,
    )


def measure(bench: Bench, rounds: int) -> Mapping[str, list[Timed]]:
    """Take every way in turn."""
    target = Target(python=MINOR, platform=PLATFORM, category="cpu", base_identity="none")
    plain, whole = make_requirements(bench, target)
    by_hand = "printf '%s\\n' $REQUIREMENTS > /tmp/r.txt; uv pip install -q -r /tmp/r.txt"
    found: dict[str, list[Timed]] = {"by hand": [], "lock": [], "wheels": [], "compiled": []}
    for number in range(rounds):
        requirements = " ".join(PROJECT)
        found["by hand"].append(
            bench.run(f"by-hand-{number}", None, by_hand, REQUIREMENTS=requirements)
        )
        found["lock"].append(bench.run(f"lock-{number}", _of(bench, plain, f"lock-{number}")))
        name = f"wheels-{number}"
        found["wheels"].append(bench.run(name, _of(bench, whole, name)))
    spec = _of(bench, whole, "compiled")
    found["compiled"].append(bench.run("compiled", spec, UV_COMPILE_BYTECODE="1"))
    return found


def _of(bench: Bench, spec: RequirementsSpec, name: str) -> RequirementsSpec:
    """Copy what a run installs to the run's own store."""
    for ref in (spec.lock, *spec.wheels):
        bench.store.put_if_absent(f"{name}/{ref.name}", bench.store.get(ref.name).data)
    return spec


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", default="/dev/shm", help="where everything is kept")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=arguments.directory)))
        containers = Containers(directory / "c").set_up()
        stack.callback(containers.tear_down)
        (directory / "lift").mkdir()
        lift_python_image(containers, directory / "lift")
        (directory / "base").mkdir()
        (directory / "base" / "Dockerfile").write_text(DOCKERFILE)
        containers.run("buildah", "bud", "--tag", BASE, str(directory / "base"))
        storage = StorageServer(directory / "storage").start()
        stack.callback(storage.stop)
        storage.create_bucket(BUCKET)
        store = GoogleStore(BUCKET, project="p", endpoint=storage.url)
        stack.callback(store.close)
        bench = Bench(
            containers=containers, storage=storage, store=store, directory=directory / "jobs"
        )
        bench.directory.mkdir()
        found = measure(bench, arguments.rounds)

    def best(way: str, what: str) -> float:
        return min(float(getattr(item, what)) for item in found[way])

    hand = best("by hand", "function")
    bare = best("by hand", "imported")
    rows = [
        Row(name="shipped wheels, to the function", ours=best("wheels", "function"),
            alternative=hand, unit="s"),
        Row(name="lock from the index, to the function", ours=best("lock", "function"),
            alternative=hand, unit="s"),
        Row(name="shipped wheels, all imported", ours=best("wheels", "imported"),
            alternative=bare, unit="s"),
        Row(name="shipped wheels with bytecode, all imported", ours=best("compiled", "imported"),
            alternative=bare, unit="s"),
        Row(name="of shipped wheels: installing", ours=best("wheels", "install"),
            alternative=None, unit="s"),
        Row(name="of the lock: installing", ours=best("lock", "install"),
            alternative=None, unit="s"),
    ]  # fmt: skip
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
