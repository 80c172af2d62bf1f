"""What an image costs: with nothing known, with one package added, and of known packages.

Ours is put together from layers, one for each wheel. The alternative is the Dockerfile that one
would write: a single layer that installs everything, built by Cloud Build. Both go to the same
registry, that of the loopback cloud of the tests, both download what they need from the index,
both have compiled bytecode. Seconds are those from asking for an image to knowing its digest,
megabytes and requests those that the registry got meanwhile, whoever sent them. The builder keeps
base images between builds and nothing else; the real one pulls them anew, and has to be waited for.

    python benchmarks/image.py [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module, invalidate_caches
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from _report import Row, report

from kinetic_flows.api.remote_function import RemoteFunction
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core.accelerators.packages import pins_of
from kinetic_flows.core.options import RunOptions
from kinetic_flows.core.progress import NullProgress
from kinetic_flows.core.settings.settings import load_settings
from kinetic_flows.images.bases import UPSTREAM, read_base_inputs
from kinetic_flows.images.dockerfiles import BuildContext
from kinetic_flows.plans.draft import Call, draft_call, lock_draft
from kinetic_flows.platforms.choose import choose_platform
from kinetic_flows.platforms.gke.builds.build import BuildSpec
from kinetic_flows.platforms.gke.builds.cloud_build import CloudBuild
from kinetic_flows.platforms.gke.builds.followers import GrowingLog, follow_build
from kinetic_flows.platforms.image_sources import ProjectImage
from kinetic_flows.runs.session import configure
from loopback.__main__ import BUILDS_BUCKET, CLUSTER, JOBS_BUCKET, PROJECT, environment_of
from loopback.cloud import REGISTRY_HOST, LoopbackCloud, start_cloud
from loopback.containers import Containers
from loopback.registry import RegistryFront
from loopback.wire import Request, Response

KERAS = "keras==3.12.0"
ADDED = "humanize==4.12.3"
KNOWN = "iniconfig==2.1.0"
ANOTHER = "tabulate==0.9.0"
REPOSITORY = f"kn-{CLUSTER}"
POLL_SECONDS = 0.1
TIMED_IMPORT = "import time; t = time.time(); import jax, keras; print(time.time() - t)"
IMPORT = ("python3", "-c", TIMED_IMPORT)

SINGLE_LAYER = """\
FROM {upstream}
COPY requirements.txt /requirements.txt
RUN python3 -m pip install --no-cache-dir --root-user-action=ignore uv \\
    && uv pip install --system --no-cache --compile-bytecode --requirement /requirements.txt
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--json", action="store_true", help="print one JSON object per row")
    options = arguments.parse_args()
    with a_cloud() as cloud, tempfile.TemporaryDirectory(prefix="image-") as folder:
        report(measure(cloud, Path(folder)), options.json)


def measure(cloud: LoopbackCloud, folder: Path) -> list[Row]:
    project = Project(cloud, folder)
    one, other = project.on("one", builder="direct"), project.on("other", builder="direct")
    near = project.on("near", builder="cloud-build")
    # Imports and connections are not what is measured; the layers of another repository are others.
    project.on("warm", builder="direct", repository="warm").prepare([KNOWN])()
    race = Race(SingleLayer(cloud), Traffic(cloud.front))
    race.run("jax and keras, nothing known", one, [KERAS])
    race.run("one package added", one, [KERAS, ADDED])
    one.prepare([KNOWN])()
    race.run("known packages, combined anew", one, [KERAS, ADDED, KNOWN])
    race.run("the same on another machine", other, [KERAS, KNOWN])
    race.run("one package added, by Cloud Build", near, [KERAS, ANOTHER])
    return [*race.rows, *race.on_nodes(cloud)]


@contextmanager
def a_cloud() -> Iterator[LoopbackCloud]:
    cloud = start_cloud(Path(tempfile.mkdtemp(prefix="image-cloud-")))
    try:
        for repository in (REPOSITORY, "warm"):
            cloud.create_repository(PROJECT, repository)
        for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
            cloud.storage.create_bucket(bucket)
        yield cloud
    finally:
        cloud.stop()


class Race:
    """Makes the same images in both ways, one after the other."""

    def __init__(self, single: SingleLayer, traffic: Traffic) -> None:
        self._single = single
        self._traffic = traffic
        self._images: list[tuple[str, str]] = []
        self.rows: list[Row] = []

    def run(self, name: str, machine: Machine, requirements: list[str]) -> None:
        ours = self._traffic.of(machine.prepare(requirements))
        alternative = self._traffic.of(partial(self._single.build, requirements))
        self._images.append((ours.image, alternative.image))
        print(f"{name}: {ours.seconds:.1f} s, {alternative.seconds:.1f} s", file=sys.stderr)
        for suffix, unit in (("", "s"), (": sent", "MB"), (": asked", "requests")):
            self.rows.append(
                Row(
                    name=name + suffix,
                    ours=ours.in_unit(unit),
                    alternative=alternative.in_unit(unit),
                    unit=unit,
                )
            )

    def on_nodes(self, cloud: LoopbackCloud) -> list[Row]:
        """Pull the first two images onto two nodes, and import what is in them."""
        with a_node(cloud) as one, a_node(cloud) as other:
            ours, alternative = (
                self._on_node(node, [images[way] for images in self._images[:2]])
                for way, node in enumerate((one, other))
            )
        names = ("a node's first pull", "its pull with one package added", "import jax, keras")
        return [
            Row(name=name, ours=mine, alternative=theirs, unit="s")
            for name, mine, theirs in zip(names, ours, alternative, strict=True)
        ]

    def _on_node(self, node: Containers, images: list[str]) -> list[float]:
        pulls = [seconds(partial(node.run, "podman", "pull", "--quiet", it)) for it in images]
        said = [
            node.run_container(images[-1], IMPORT, environment={"KERAS_BACKEND": "jax"})
            for _ in range(3)
        ]
        return [*pulls, min(float(done.stdout) for done in said)]


@contextmanager
def a_node(cloud: LoopbackCloud) -> Iterator[Containers]:
    """A machine that pulls and runs images, with nothing on it."""
    directory = Path(tempfile.mkdtemp(prefix="kn-", dir="/tmp"))
    node = Containers(directory).set_up()
    try:
        shutil.copy(cloud.containers.environment["REGISTRY_AUTH_FILE"], directory / "auth.json")
        node.mirror(REGISTRY_HOST, cloud.front.host)
        yield node
    finally:
        node.tear_down()


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What making one image took."""

    image: str
    seconds: float
    sent_bytes: int
    requests: int

    def in_unit(self, unit: str) -> float:
        return {"s": self.seconds, "MB": self.sent_bytes / 1e6, "requests": self.requests}[unit]


class Traffic:
    """Counts what a registry is asked and sent."""

    def __init__(self, registry: RegistryFront) -> None:
        self._bodies: list[int] = []
        answer = registry.server.handler

        def counted(request: Request) -> Response:
            self._bodies.append(len(request.body))
            return answer(request)

        registry.server.handler = counted

    def of(self, make: Callable[[], str]) -> Cost:
        """Make an image, and return what it took."""
        self._bodies.clear()
        start = time.perf_counter()
        image = make()
        taken = time.perf_counter() - start
        sent = list(self._bodies)
        return Cost(image=image, seconds=taken, sent_bytes=sum(sent), requests=len(sent))


class Project:
    """A project that runs on the loopback cloud."""

    def __init__(self, cloud: LoopbackCloud, folder: Path) -> None:
        self._cloud = cloud
        self._folder = folder
        self.requirements = folder / "project" / "requirements.txt"
        self.requirements.parent.mkdir()
        (folder / "project" / "bench_image.py").write_text("def nothing():\n    pass\n")
        sys.path.insert(0, str(folder / "project"))
        invalidate_caches()
        self.function = RemoteFunction(import_module("bench_image").nothing, RunOptions())

    def on(self, home: str, *, builder: str, repository: str = REPOSITORY) -> Machine:
        """Return a machine that has made nothing yet."""
        environ = {
            **os.environ,
            **environment_of(self._cloud),
            "KINETIC_HOME": str(self._folder / home),
            "KINETIC_IMAGE_REPO": f"{REGISTRY_HOST}/{PROJECT}/{repository}",
            "KINETIC_BUILDER": builder,
        }
        return Machine(self, environ)


class Machine:
    """A client with a home of its own, and the way a project's image is made there for a call."""

    def __init__(self, project: Project, environ: Mapping[str, str]) -> None:
        self._project = project
        self._environ = environ
        self._settings = configure(load_settings(environ), environ, NullProgress())
        self._platform = choose_platform(self._settings, environ)

    def prepare(self, requirements: list[str]) -> Callable[[], str]:
        """Lock requirements, which is not what is measured; return what makes their image."""
        self._project.requirements.write_text("".join(f"{item}\n" for item in requirements))
        function = self._project.function
        call = Call(function=function.fn, args=(), kwargs={}, options=function.options)
        draft = draft_call(
            call,
            self._settings,
            self._platform,
            cwd=Path.cwd(),
            sys_path=sys.path,
            environ=self._environ,
        )
        if not isinstance(draft.image, ProjectImage):
            raise SystemExit(f"{draft.image} is not built")
        environment = draft.image.environment(lock_draft(draft, self._environ))
        request = draft.image.request(environment)

        def make() -> str:
            return self._platform.builder.build(request, environment, lambda _: None).reference

        return make


class SingleLayer:
    """The Dockerfile that installs everything, built and pushed by the same Cloud Build."""

    def __init__(self, cloud: LoopbackCloud) -> None:
        self._builds = CloudBuild(PROJECT, endpoint=cloud.builds.endpoint)
        self._store = GoogleStore(BUILDS_BUCKET, endpoint=cloud.storage.url)
        self._python = f"{sys.version_info.major}.{sys.version_info.minor}"
        self._base = pins_of(read_base_inputs("cpu", self._python).lock)

    def build(self, requirements: list[str]) -> str:
        wanted = "".join(f"{item}\n" for item in (*self._base, *requirements))
        dockerfile = SINGLE_LAYER.format(upstream=UPSTREAM.format(python=self._python))
        files = {"Dockerfile": dockerfile.encode(), "requirements.txt": wanted.encode()}
        archive = BuildContext(files=files).archive()
        digest = hashlib.sha256(archive).hexdigest()
        self._store.put_if_absent(f"single/{digest}.tar.gz", archive)
        image = f"{REGISTRY_HOST}/{PROJECT}/{REPOSITORY}/single:{digest[:12]}"
        state = self._builds.submit(
            BuildSpec(
                image=image,
                bucket=BUILDS_BUCKET,
                source_object=f"single/{digest}.tar.gz",
                logs_prefix="logs",
                tags=("single",),
            )
        )
        log = GrowingLog(self._store, state.id, lambda _: None)
        ended = follow_build(self._builds, state, log, poll_seconds=POLL_SECONDS)
        if ended.status != "SUCCESS":
            raise SystemExit("\n".join(["the single-layer build failed", *log.lines[-20:]]))
        return image


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
