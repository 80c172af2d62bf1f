"""What adding one package to a project with jax and keras costs, in images.

Ours is two layers: a base image with jax, and the project's packages on top of it. The
alternative is the Dockerfile that one would write: a single layer that installs everything.
Both are built by the same Cloud Build and pushed to the same registry, those of the loopback
cloud of the tests, with uv and compiled bytecode in both. Seconds are those from asking for an
image to knowing its digest. The builder keeps base images between builds and nothing else; the
real one pulls them anew.

    python benchmarks/image.py [--json]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

KERAS = "keras==3.12.0"
ADDED = "humanize==4.12.3"
POLL_SECONDS = 0.1

SINGLE_LAYER = """\
FROM {upstream}
COPY requirements.txt /requirements.txt
RUN python3 -m pip install --no-cache-dir --root-user-action=ignore uv \\
    && uv pip install --system --no-cache --compile-bytecode --requirement /requirements.txt
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print one JSON object per row")
    options = arguments.parse_args()
    with a_cloud() as cloud, tempfile.TemporaryDirectory(prefix="image-") as folder:
        report(measure(cloud, Path(folder)), options.json)


def measure(cloud: LoopbackCloud, folder: Path) -> list[Row]:
    project = Project(cloud, folder)
    single = SingleLayer(cloud)
    project.build()  # imports, connections and caches are not what is measured
    rows = []
    for name, requirements in {
        "first image of jax and keras": [KERAS],
        "the same with one package more": [KERAS, ADDED],
    }.items():
        if requirements == [KERAS]:
            forget_base(cloud)
        project.require(requirements)
        ours = seconds(project.build)
        alternative = seconds(partial(single.build, requirements))
        rows.append(Row(name=name, ours=ours, alternative=alternative, unit="s"))
    return rows


@contextmanager
def a_cloud() -> Iterator[LoopbackCloud]:
    cloud = start_cloud(Path(tempfile.mkdtemp(prefix="image-cloud-")))
    try:
        cloud.create_repository(PROJECT, f"kn-{CLUSTER}")
        for bucket in (JOBS_BUCKET, BUILDS_BUCKET):
            cloud.storage.create_bucket(bucket)
        yield cloud
    finally:
        cloud.stop()


class Project:
    """A project that runs on the loopback cloud, and the way its image is made for a call."""

    def __init__(self, cloud: LoopbackCloud, folder: Path) -> None:
        self._requirements = folder / "project" / "requirements.txt"
        self._requirements.parent.mkdir()
        (folder / "project" / "bench_image.py").write_text("def nothing():\n    pass\n")
        sys.path.insert(0, str(folder / "project"))
        invalidate_caches()
        self._function = RemoteFunction(import_module("bench_image").nothing, RunOptions())
        home = {"KINETIC_HOME": str(folder / "home")}
        self._environ = {**os.environ, **environment_of(cloud), **home}
        self._settings = configure(load_settings(self._environ), self._environ, NullProgress())
        self._platform = choose_platform(self._settings, self._environ)
        self.require(["iniconfig==2.1.0"])

    def require(self, requirements: list[str]) -> None:
        """Change the requirements, and lock them: that is not what is measured."""
        self._requirements.write_text("".join(f"{item}\n" for item in requirements))
        self._prepare()

    def build(self) -> None:
        self._platform.builder.build(self._request, self._environment, lambda _: None)

    def _prepare(self) -> None:
        function = self._function
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
        lock = lock_draft(draft, self._environ)
        self._environment = draft.image.environment(lock)
        self._request = draft.image.request(self._environment)


class SingleLayer:
    """The Dockerfile that installs everything, built and pushed by the same Cloud Build."""

    def __init__(self, cloud: LoopbackCloud) -> None:
        self._builds = CloudBuild(PROJECT, endpoint=cloud.builds.endpoint)
        self._store = GoogleStore(BUILDS_BUCKET, endpoint=cloud.storage.url)
        self._python = f"{sys.version_info.major}.{sys.version_info.minor}"
        self._base = pins_of(read_base_inputs("cpu", self._python).lock)

    def build(self, requirements: list[str]) -> None:
        wanted = "".join(f"{item}\n" for item in (*self._base, *requirements))
        dockerfile = SINGLE_LAYER.format(upstream=UPSTREAM.format(python=self._python))
        files = {"Dockerfile": dockerfile.encode(), "requirements.txt": wanted.encode()}
        archive = BuildContext(files=files).archive()
        digest = hashlib.sha256(archive).hexdigest()
        self._store.put_if_absent(f"single/{digest}.tar.gz", archive)
        state = self._builds.submit(
            BuildSpec(
                image=f"{REGISTRY_HOST}/{PROJECT}/kn-{CLUSTER}/single:{digest[:12]}",
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


def forget_base(cloud: LoopbackCloud) -> None:
    """Delete every base image, so that the next one is built from nothing."""
    import httpx

    accept = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    url = f"{cloud.registry.url}/v2/{PROJECT}/kn-{CLUSTER}/base-cpu"
    for tag in httpx.get(f"{url}/tags/list").json()["tags"]:
        found = httpx.head(f"{url}/manifests/{tag}", headers=accept)
        digest = found.headers["Docker-Content-Digest"]
        httpx.delete(f"{url}/manifests/{digest}").raise_for_status()
    cloud.containers.run("buildah", "rmi", "--all", "--force", check=False)


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
