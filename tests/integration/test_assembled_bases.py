"""A base of the real lock, assembled from layers, and what people do in it and on top of it.

It is the one without a framework, for time: what is in its layers is no different.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest

from kinetic_flows.core.accelerators.packages import pins_of
from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.image_registry import ResolvedImage
from kinetic_flows.images.bases import lean_inputs, read_base_inputs
from loopback.__main__ import CLUSTER, PROJECT
from loopback.applied_layers import PulledImage, pull_image, tree_of
from loopback.clients import CloudAddress, builder_of, environment_named, request_for
from loopback.cloud import ACCESS_TOKEN, LoopbackCloud
from loopback.lifted_python import MINOR

pytest_plugins = ["loopback.fixtures"]
pytestmark = pytest.mark.timeout(600)

REPOSITORY = f"{PROJECT}/kn-{CLUSTER}"
SITE = "/usr/local/lib/python3/site-packages"
SEEN_SITE = f"/usr/local/lib/python{MINOR}/site-packages"
SOMEBODY = ("--read-only", "--user", "1000:1000", "--tmpfs", "/tmp")
LOOK_AROUND = """
import json, os, sys
import cloudpickle, google.cloud.storage, iniconfig

modules = [module for module in list(sys.modules.values())
           if (getattr(module, "__file__", None) or "").endswith(".py")]
print(json.dumps({
    "user": os.getuid(),
    "path": sys.path,
    "strangers": [module.__file__ for module in modules if module.__file__.startswith(SITE)],
    "uncompiled": [module.__file__ for module in modules
                   if "site-packages" in module.__file__ and not os.path.exists(module.__cached__)],
    "frames": iniconfig.IniConfig.__init__.__code__.co_filename,
}))
"""
DOCKERFILE = """\
FROM {base}
RUN python3 -m pip install --no-cache-dir --root-user-action=ignore humanize==4.12.3 \\
    && uv pip uninstall --quiet cloudpickle && uv pip install --quiet cloudpickle==3.1.1
"""
WALK = """
import hashlib, json, os, sys

def described(path):
    mode = oct(os.lstat(path).st_mode & 0o7777)
    if os.path.islink(path):
        return ["link", os.readlink(path)]
    if os.path.isdir(path):
        return ["directory", mode]
    with open(path, "rb") as file:
        return ["file", mode, "sha256:" + hashlib.sha256(file.read()).hexdigest()]

found = {}
for place in sys.argv[1:]:
    for folder, folders, files in os.walk("/" + place):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            found[path[1:]] = described(path)
print(json.dumps(found))
"""


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """An image, and what runs it."""

    cloud: LoopbackCloud
    image: ResolvedImage

    def run(self, *command: str, options: tuple[str, ...] = ()) -> str:
        """Run a command in a container of it, and return what it prints."""
        return run_in(self.cloud, self.image.reference, *command, options=options)

    def pull(self) -> PulledImage:
        """Return its layers as the registry has them."""
        path, _, digest = self.image.reference.partition("/")[2].partition("@")
        return pull_image(self.cloud.registry.url, path, digest)


def run_in(cloud: LoopbackCloud, image: str, *command: str, options: tuple[str, ...] = ()) -> str:
    """Run a command in a container of an image, and return what it prints."""
    arguments = ("run", "--rm", "--network", "host", *options, image, *command)
    done = cloud.containers.run("podman", *arguments, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def address(
    loopback_cloud: LoopbackCloud, tmp_path_factory: pytest.TempPathFactory
) -> CloudAddress:
    """Buckets of its own, and the repository whose base every test shares."""
    name = uuid4().hex[:10]
    return CloudAddress(
        storage_url=loopback_cloud.storage.url,
        registry_url=loopback_cloud.front.url,
        build_endpoint=loopback_cloud.builds.endpoint,
        access_token=ACCESS_TOKEN,
        project=PROJECT,
        repository=loopback_cloud.create_repository(*REPOSITORY.split("/")),
        jobs_bucket=loopback_cloud.storage.create_bucket(f"jobs-{name}"),
        builds_bucket=loopback_cloud.storage.create_bucket(f"builds-{name}"),
        home=str(tmp_path_factory.mktemp("home")),
        hub_url=loopback_cloud.docker_hub.url,
        builder="direct",
    )


def lean_environment(name: str) -> EnvironmentSpec:
    """An environment on that base, with one small package."""
    inputs = lean_inputs(read_base_inputs("cpu", MINOR))
    return replace(environment_named(name), variant="lean", base_identity=inputs.identity)


@pytest.fixture(scope="module")
def base(loopback_cloud: LoopbackCloud, address: CloudAddress) -> Assembled:
    """The base for CPUs, without a framework."""
    with builder_of(address) as builder:
        image = builder.ensure_base(lean_environment("one"), lambda _: None)
    return Assembled(cloud=loopback_cloud, image=image)


@pytest.fixture(scope="module")
def project(loopback_cloud: LoopbackCloud, address: CloudAddress) -> Assembled:
    """A project's image on top of it, with one small package."""
    environment = lean_environment("assembled-bases")
    with builder_of(address) as builder:
        image = builder.build(request_for(address, environment), environment, lambda _: None)
    return Assembled(cloud=loopback_cloud, image=image)


@pytest.mark.parametrize(("options", "user"), [((), 0), (SOMEBODY, 1000)], ids=["root", "1000"])
def test_everything_is_imported_compiled_from_where_python_looks_for_it(
    project: Assembled, options: tuple[str, ...], user: int
) -> None:
    script = f"SITE = {SITE!r}\n{LOOK_AROUND}"

    seen = json.loads(project.run("python3", "-c", script, options=options))

    assert seen["user"] == user
    assert SEEN_SITE in seen["path"]
    assert seen["strangers"] == [], "nothing goes around the minor version's directory"
    assert seen["uncompiled"] == []
    assert seen["frames"].startswith(f"{SEEN_SITE}/iniconfig/")


def test_scripts_run_and_every_installer_sees_every_package(project: Assembled) -> None:
    script = (
        "set -e; uv --version; python3 -m pip --version; "
        "python3 -m pip list --format=json --disable-pip-version-check; "
        "uv pip list --format=json; "
        "python3 -m pip check --disable-pip-version-check; uv pip check --quiet"
    )

    uv, pip, pips, uvs, checked = project.run("sh", "-c", script).splitlines()

    lock = lean_inputs(read_base_inputs("cpu", MINOR)).lock
    wanted = {*pins_of(lock), "iniconfig==2.1.0"}
    assert f"uv=={uv.split()[1]}" in wanted
    assert f"{SEEN_SITE}/pip" in pip, "what Python came with was moved, too"
    for listed in (pips, uvs):
        found = {f"{each['name'].lower().replace('_', '-')}=={each['version']}"
                 for each in json.loads(listed)}  # fmt: skip
        assert wanted <= found
    assert checked == "No broken requirements found."


def test_more_is_installed_inside_and_goes_where_everything_is(base: Assembled) -> None:
    script = (
        "set -e; uv pip install --quiet humanize==4.12.3; "
        "python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check "
        "toolz==1.0.0; "
        f"ls -d {SITE}/humanize {SITE}/toolz; "
        "python3 -c 'import humanize, toolz; print(humanize.__file__, toolz.__file__)'"
    )

    lines = base.run("sh", "-c", script).splitlines()

    assert lines == [
        f"{SITE}/humanize",
        f"{SITE}/toolz",
        f"{SEEN_SITE}/humanize/__init__.py {SEEN_SITE}/toolz/__init__.py",
    ]


def test_a_dockerfile_that_starts_from_it_installs_and_replaces_packages(
    base: Assembled, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(base=base.image.reference))
    containers = base.cloud.containers
    name = f"localhost/on-top-{uuid4().hex[:8]}"
    options = ("--network", "host", "--layers=false", "--tag", name)
    containers.run("buildah", "bud", *options, str(tmp_path))
    target = f"{base.cloud.registry.host}/{REPOSITORY}/on-top:1"
    push = ("push", "--tls-verify=false", "--disable-compression", name, f"docker://{target}")
    containers.run("buildah", *push)
    program = (
        "import cloudpickle as c, humanize as h, requests; print(c.__version__, h.__version__)"
    )

    assert run_in(base.cloud, name, "python3", "-c", program) == "3.1.1 4.12.3\n"

    # By the specification's own rules, too, for the layers that somebody else made on top of ours.
    root = tmp_path / "root"
    pull_image(base.cloud.registry.url, f"{REPOSITORY}/on-top", "1").apply_to(root)
    assert (root / SITE[1:] / "humanize/__init__.py").is_file()
    assert [path.name for path in (root / SITE[1:]).glob("cloudpickle-*")] == [
        "cloudpickle-3.1.1.dist-info"
    ]


def test_its_layers_give_one_tree_by_the_specification_and_in_a_container(
    project: Assembled, tmp_path: Path
) -> None:
    places = ("usr/local/lib", "usr/local/bin", "app")
    pulled, root = project.pull(), tmp_path / "root"

    pulled.apply_to(root)

    applied = {path: list(what) for path, what in tree_of(root, *places).items()}
    seen = json.loads(project.run("python3", "-B", "-c", WALK, *places))
    assert applied == seen
    assert applied[SEEN_SITE[1:]] == ["link", "../python3/site-packages"]
    assert len(pulled.layers) <= 100
    assert not [name for layer in pulled.layers for name in names_in(layer) if ".wh." in name]


def names_in(layer: bytes) -> list[str]:
    """Return the paths in a layer, as the system's own tar reads them."""
    listed = subprocess.run(["tar", "-tf", "-"], input=layer, capture_output=True, check=True)
    return listed.stdout.decode().splitlines()
