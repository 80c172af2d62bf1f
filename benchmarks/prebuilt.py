"""From a container's start to the function's start: a project of 40 packages in prebuilt mode.

    python benchmarks/prebuilt.py [--rounds 3] [--directory /dev/shm] [--json]

Containers are real ones (podman) of an image with Python, uv and what the runner needs, the
store is a real Cloud Storage server on this machine, and the index is PyPI. The alternative is
what one writes by hand: `uv pip install -r requirements.txt` of the unlocked file in front of
the same runner. Ways are taken in turn, and each number is the best of its rounds, as whatever
else the machine does only adds to it.

Beside what is installed at the start there are two ways that install nothing: the packages as an
image of layers, mounted as a volume (podman mounts it as a node's containerd does), and the same
layers in the image itself, as in bundled mode when every layer is known. A node pulls either image
once; what that takes of a registry on this machine is a row of its own.

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
import time
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from _report import Row, report

from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.image_reference import parse_reference
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.core.job import PACKAGES_VARIABLE
from kinetic_flows.core.job_parts import PackagesSpec, RequirementsSpec
from kinetic_flows.core.settings.settings import process_environment
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.installation import (
    packages_environment,
    plan_installation,
    upload_installation,
)
from kinetic_flows.dependencies.locking import Locker
from kinetic_flows.dependencies.targets import Target
from kinetic_flows.dependencies.wheel_files import WheelDownloads, choose_wheels
from kinetic_flows.dependencies.wheels import WheelCache
from kinetic_flows.images.assembly.assemble import assemble
from kinetic_flows.images.assembly.requests import packages_assembly
from kinetic_flows.images.bases import PLATFORM, read_bootstrap
from kinetic_flows.images.tags import packages_image
from kinetic_flows.platforms.gke.image_volumes import MOUNT_PATH
from loopback.containers import Containers
from loopback.lifted_python import IMAGE, MINOR, lift_python_image
from loopback.registry import DockerRegistry
from loopback.storage import StorageServer
from runner_jobs import RUN_ID, Job

BASE = "localhost/base-cpu:1"
BUNDLED = "localhost/bundled:1"
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
    install: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What every way is measured with."""

    containers: Containers
    storage: StorageServer
    store: GoogleStore
    registry: DockerRegistry
    directory: Path

    def run(
        self,
        name: str,
        spec: RequirementsSpec | None,
        before: str = "",
        *,
        packages: PackagesSpec | None = None,
        image: str = BASE,
        **variables: str,
    ) -> Timed:
        """Run a container until its function is called, and return when that was."""
        changes = {"requirements": spec, "packages": packages}
        job = Job(self.directory / name, source=dedent(FUNCTION), changes=changes)
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
            image=image,
            mounted=packages.image if packages else None,
        )
        installed = re.search(r"installed in ([\d.]+) s", told)
        function, imported = map(float, told.split("BENCHMARK")[1].split())
        return Timed(
            function=function, imported=imported, install=float(installed[1]) if installed else 0.0
        )

    def pull(self, image: str) -> float:
        """Return how long a node takes to pull an image that it does not have."""
        self.containers.run("podman", "rmi", "--force", image, check=False)
        begun = time.monotonic()
        self.containers.run("podman", "pull", "--quiet", "--tls-verify=false", image)
        return time.monotonic() - begun

    def _until_called(
        self,
        name: str,
        environment: Mapping[str, str],
        script: str,
        *,
        image: str,
        mounted: str | None,
    ) -> str:
        """Return what a container printed until its function was called, and stop it there."""
        arguments = ["run", "--name", name, "--network", "host"]
        if mounted:
            arguments += ["--mount", f"type=image,source={mounted},destination={MOUNT_PATH}"]
            arguments += ["--env", f"{PACKAGES_VARIABLE}={MOUNT_PATH}"]
        for variable, value in environment.items():
            arguments += ["--env", f"{variable}={value}"]
        lines = []
        with subprocess.Popen(
            self.containers.command("podman", *arguments, image, "sh", "-c", script),
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


def make_requirements(
    bench: Bench, target: Target
) -> tuple[RequirementsSpec, RequirementsSpec, PackagesSpec]:
    """Lock the project, and have it three times: without and with wheels, and as an image."""
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
        make_volume(bench, packages_environment(lock, base)),
    )


def make_volume(bench: Bench, environment: EnvironmentSpec) -> PackagesSpec:
    """Assemble the image of packages that is mounted, into the registry of this machine."""
    home, environ, host = bench.directory / "home", process_environment(), bench.registry.host
    chosen = choose_wheels(
        environment.lock, python=MINOR, platform=PLATFORM, home=home, environ=environ
    )
    assembly = packages_assembly(
        environment,
        reference=packages_image(f"{host}/bench", "cpu", environment.dependency_hash),
        repository=f"{host}/bench",
        wheels=chosen.wheels,
        version="0",
    )
    with closing(RegistryWriter(endpoints={host: bench.registry.url})) as writer:
        began = time.monotonic()
        for what in ("made and sent", "all layers known"):
            digest = assemble(
                assembly,
                writer,
                WheelDownloads(home, environ),
                home=home,
                environ=environ,
                on_output=lambda _: None,
            )
            print(f"assembled, {what}: {time.monotonic() - began:.1f} s", file=sys.stderr)
            began = time.monotonic()
    image = str(parse_reference(assembly.reference).at(digest))
    return PackagesSpec(image=image, identity=environment.dependency_hash)


def make_bundled(bench: Bench, packages: PackagesSpec) -> None:
    """Make an image that has the packages where bundled images have them."""
    place = bench.directory / "bundled"
    place.mkdir()
    site = f"/usr/local/lib/python{MINOR}/site-packages"
    lines = [
        f"FROM {packages.image} AS packages",
        f"FROM {BASE}",
        f"COPY --from=packages /usr/local/lib/python3/site-packages {site}",
    ]
    (place / "Dockerfile").write_text("\n".join(lines))
    bench.containers.run("buildah", "bud", "--tls-verify=false", "--tag", BUNDLED, str(place))


def measure(bench: Bench, rounds: int) -> Mapping[str, list[Timed]]:
    """Take every way in turn."""
    target = Target(python=MINOR, platform=PLATFORM, category="cpu", base_identity="none")
    plain, whole, packages = make_requirements(bench, target)
    make_bundled(bench, packages)
    by_hand = "printf '%s\\n' $REQUIREMENTS > /tmp/r.txt; uv pip install -q -r /tmp/r.txt"
    ways = ("by hand", "lock", "wheels", "compiled", "volume", "bundled", "pull")
    found: dict[str, list[Timed]] = {way: [] for way in ways}
    for number in range(rounds):
        requirements = " ".join(PROJECT)
        found["by hand"].append(
            bench.run(f"by-hand-{number}", None, by_hand, REQUIREMENTS=requirements)
        )
        found["lock"].append(bench.run(f"lock-{number}", _of(bench, plain, f"lock-{number}")))
        name = f"wheels-{number}"
        found["wheels"].append(bench.run(name, _of(bench, whole, name)))
        took = bench.pull(packages.image)
        found["pull"].append(Timed(function=took, imported=took))
        found["volume"].append(bench.run(f"volume-{number}", None, packages=packages))
        found["bundled"].append(bench.run(f"bundled-{number}", None, image=BUNDLED))
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
        registry = DockerRegistry(directory / "registry").start()
        stack.callback(registry.stop)
        bench = Bench(
            containers=containers,
            storage=storage,
            store=store,
            registry=registry,
            directory=directory / "jobs",
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
        Row(name="mounted volume, to the function", ours=best("volume", "function"),
            alternative=hand, unit="s"),
        Row(name="bundled, all known, to the function", ours=best("bundled", "function"),
            alternative=hand, unit="s"),
        Row(name="mounted volume, all imported", ours=best("volume", "imported"),
            alternative=bare, unit="s"),
        Row(name="bundled, all known, all imported", ours=best("bundled", "imported"),
            alternative=bare, unit="s"),
        Row(name="of the volume: its first pull on a node", ours=best("pull", "function"),
            alternative=None, unit="s"),
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
