"""Images assembled in a real registry: what they hold, what is sent, and what goes wrong."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from assembling import (
    MINOR,
    PIP,
    PYTHON,
    SETUPTOOLS,
    Bench,
    Login,
    Wheels,
    config_of,
    copy_blobs,
    lose,
    manifest_of,
    push_image,
    recompress,
    tree_of,
)

from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.errors import ImageError, RegistryAccessError
from kinetic_flows.core.interruption import interruptible
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.layers.names import wheel_tag
from loopback.proxy import forward_to
from loopback.registry import DockerRegistry, RegistryFront
from loopback.small_wheels import make_wheel
from loopback.wire import Fault, WireServer

pytest_plugins = ["loopback.fixtures"]

SITE = "usr/local/lib/python3/site-packages"
LIBRARY = "py3-none-manylinux_2_17_x86_64"
BOUND = "cp311-cp311-manylinux_2_17_x86_64"


@pytest.fixture
def name(docker_registry: DockerRegistry) -> str:
    """A repository that nobody else uses."""
    return f"{docker_registry.host}/{uuid4().hex[:12]}"


@pytest.fixture
def wire(docker_registry: DockerRegistry) -> Iterator[WireServer]:
    """The registry behind a wire that can be spoiled."""
    server = WireServer(forward_to(docker_registry.url)).start()
    yield server
    server.stop()


@contextmanager
def out_of_order(wire: WireServer) -> Iterator[None]:
    """Let a registry take no blobs of layers."""
    path = "/layers/blobs/uploads"
    with (
        wire.fault(Fault(kind="status", status=403, times=99, method="POST", path=path)),
        pytest.raises(RegistryAccessError),
    ):
        yield


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where wheels are made."""
    directory = tmp_path / "wheels"
    directory.mkdir()
    return directory


@pytest.fixture
def machine(tmp_path: Path, store: Path) -> Callable[[str], Bench]:
    """Machines with homes of their own, by name."""

    def make(label: str = "one") -> Bench:
        home = tmp_path / label
        home.mkdir(exist_ok=True)
        return Bench(RegistryWriter(documents=home / "documents"), Wheels(store), home)

    return make


def upstream(name: str, *more: dict[str, bytes]) -> str:
    return push_image(RegistryWriter(), f"{name}/python", PIP, *more)


def base_of(name: str, *wheels: WheelFile, start: str = "", **more: Any) -> Assembly:
    return Assembly(
        reference=f"{name}/base-cpu:py3.11",
        layers=f"{name}/layers",
        start=start or upstream(name),
        starts_from="upstream",
        python=PYTHON,
        platform="x86_64-manylinux_2_36",
        wheels=tuple(sorted(wheels, key=lambda wheel: wheel.name)),
        files={"/app/constraints.txt": b"jax==1.0\n"},
        environment={"PYTHONUNBUFFERED": "1"},
        **more,
    )


def project_of(name: str, base: str, *wheels: WheelFile, **more: Any) -> Assembly:
    return Assembly(
        reference=f"{name}/app:{uuid4().hex[:6]}",
        layers=f"{name}/layers",
        start=f"{name}/base-cpu@{base}",
        starts_from="base",
        python=PYTHON,
        platform="x86_64-manylinux_2_36",
        wheels=tuple(sorted(wheels, key=lambda wheel: wheel.name)),
        **more,
    )


def package(store: Path, name: str, version: str = "1.0", tag: str = "py3-none-any") -> WheelFile:
    files = {
        f"{name}/__init__.py": f"VERSION = '{version}'\n",
        f"{name}/v{version.replace('.', '_')}/__init__.py": "",
    }
    return make_wheel(store, name, version, files, tag=tag)


def test_base_holds_upstream_and_wheels(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    wheels = (
        package(store, "jax"),
        package(store, "numpy", tag=BOUND),
        package(store, "nvidia", tag=LIBRARY),
    )
    digest = bench.assemble(base_of(name, *wheels))
    tree = tree_of(bench.registry, f"{name}/base-cpu", digest)
    assert tree[MINOR] == "../python3/site-packages"
    assert tree[f"{SITE}/pip/__init__.py"] == b"__version__ = '24.0'\n"
    assert f"{SITE}/pip/__pycache__/__init__.cpython-311.pyc" not in tree
    for item in ("jax", "numpy", "nvidia"):
        assert tree[f"{SITE}/{item}/__init__.py"] == b"VERSION = '1.0'\n"
        assert f"{SITE}/{item}/__pycache__/__init__.cpython-311.pyc" in tree
    assert tree["app/constraints.txt"] == b"jax==1.0\n"
    config = config_of(bench.registry, f"{name}/base-cpu", f"{name}/base-cpu@{digest}")
    assert "PYTHONUNBUFFERED=1" in config["config"]["Env"]
    assert bench.left_behind == []


def test_two_machines_make_the_same_image(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    assembly = base_of(name, package(store, "jax"), package(store, "numpy", tag=BOUND))
    benches = [machine("one"), machine("two")]
    with ThreadPoolExecutor() as pool:
        digests = list(pool.map(lambda bench: bench.assemble(assembly), benches))
    assert len(set(digests)) == 1
    elsewhere = replace(assembly, reference=f"{name}/again:x", layers=f"{name}/other-layers")
    assert machine("three").assemble(elsewhere) == digests[0]


def test_without_an_interpreter_for_bytecode_nothing_is_fetched(
    machine: Callable[[str], Bench],
    name: str,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    for variable, value in {"PATH": "", "HOME": str(tmp_path), "UV_OFFLINE": "1"}.items():
        monkeypatch.setenv(variable, value)
    bench = machine("one")
    with pytest.raises(ImageError, match=r"there is no Python 3\.11 here to make bytecode with"):
        bench.assemble(base_of(name, package(store, "jax")))
    assert bench.wheels.fetched == []


def test_known_packages_are_neither_fetched_nor_sent(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    parts = [package(store, f"part{number}") for number in range(5)]
    base = machine("one").assemble(base_of(name, package(store, "jax")))
    machine("one").assemble(project_of(name, base, *parts[:3]))
    machine("one").assemble(project_of(name, base, *parts[3:]))
    bench = machine("two")
    wanted = project_of(name, base, parts[0], parts[4])
    assert str(bench.look_at(wanted)) == "assembled from 7 layers, 7 known"
    bench.assemble(wanted)
    assert bench.wheels.fetched == []
    assert bench.registry.sent_bytes < 10_000


def test_preview_says_what_there_is_to_make(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    base = machine("one").assemble(base_of(name, package(store, "jax")))
    new = package(store, "flax")
    preview = machine("two").look_at(project_of(name, base, package(store, "jax"), new))
    assert (preview.layers, preview.known, preview.to_make) == (6, 5, (new,))
    assert preview.bytes_to_send == new.size_bytes


def test_other_version_leaves_nothing_of_the_bases(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    base = bench.assemble(base_of(name, package(store, "jax"), package(store, "flax")))
    newer = package(store, "flax", "2.0")
    assembly = project_of(name, base, newer)
    tree = tree_of(bench.registry, f"{name}/app", bench.assemble(assembly))
    assert tree[f"{SITE}/flax/__init__.py"] == b"VERSION = '2.0'\n"
    assert [path for path in tree if "flax/v1_0" in path or "flax-1.0" in path] == []
    assert f"{SITE}/flax/v2_0/__pycache__/__init__.cpython-311.pyc" in tree
    assert f"{SITE}/jax/__pycache__/__init__.cpython-311.pyc" in tree


def test_bytecode_without_a_package_is_what_is_made_of_the_others(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    jax, flax = package(store, "jax"), package(store, "flax")
    start = upstream(name)
    base = bench.assemble(base_of(name, jax, flax, start=start))
    bench.assemble(project_of(name, base, package(store, "flax", "2.0")))
    made = {tag for tag in bench.registry.tags(f"{name}/layers") if tag.startswith("pyc-")}
    other = replace(
        base_of(name, jax, start=start), layers=f"{name}/fresh", reference=f"{name}/x:y"
    )
    bench.assemble(other)
    (fresh,) = [tag for tag in bench.registry.tags(f"{name}/fresh") if tag.startswith("pyc-")]
    assert fresh in made
    diff_ids = [
        config_of(bench.registry, place, f"{place}:{fresh}")["rootfs"]["diff_ids"]
        for place in (f"{name}/layers", f"{name}/fresh")
    ]
    assert diff_ids[0] == diff_ids[1]


def test_package_of_the_image_of_python_gives_way(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    start = upstream(name, SETUPTOOLS)
    base = bench.assemble(base_of(name, package(store, "jax"), start=start))
    newer = package(store, "setuptools", "80.0")
    for assembly in (
        project_of(name, base, newer),
        base_of(name, newer, start=start),
    ):
        image = assembly.reference.rpartition(":")[0]
        tree = tree_of(bench.registry, image, bench.assemble(assembly))
        found = sorted(path for path in tree if "setuptools" in path and path.startswith(SITE))
        assert f"{SITE}/setuptools/v80_0/__init__.py" in found
        assert [path for path in found if "old" in path or "65.5" in path] == []
        assert f"{SITE}/pip/__init__.py" in tree


def test_image_of_nothing_holds_the_wheels_alone(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    assembly = replace(
        base_of(name, package(store, "flax"), start=f"{name}/unused:x"),
        start="",
        starts_from="nothing",
        files={},
        environment={},
        reference=f"{name}/volume:x",
    )
    tree = tree_of(bench.registry, f"{name}/volume", bench.assemble(assembly))
    assert {path for path in tree if not path.startswith(f"{SITE}/flax")} == set()
    assert f"{SITE}/flax/__pycache__/__init__.cpython-311.pyc" in tree


def test_interrupted_assembly_goes_on_with_what_was_made(
    machine: Callable[[str], Bench], store: Path, wire: WireServer
) -> None:
    name = f"127.0.0.1:{wire.port}/{uuid4().hex[:8]}"
    base = machine("one").assemble(base_of(name, package(store, "jax")))
    assembly = project_of(name, base, package(store, "flax"))
    bench = machine("two")
    with out_of_order(wire):
        bench.assemble(assembly)
    assert [path.partition("-")[0] for path in bench.left_behind] == ["whl", "whl"]
    assert bench.registry.manifest(assembly.reference) is None
    bench.assemble(assembly)
    assert bench.wheels.fetched == ["flax"]
    assert bench.left_behind == []


def test_damaged_blob_of_an_interrupted_assembly_is_made_again(
    machine: Callable[[str], Bench], store: Path, wire: WireServer
) -> None:
    name = f"127.0.0.1:{wire.port}/{uuid4().hex[:8]}"
    base = machine("one").assemble(base_of(name, package(store, "jax")))
    assembly = project_of(name, base, package(store, "flax"))
    bench = machine("two")
    with out_of_order(wire):
        bench.assemble(assembly)
    (blob,) = (bench.home / "layers" / "blobs").glob("*.gz")
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    bench.assemble(assembly)
    assert bench.wheels.fetched == ["flax", "flax"]


def test_ctrl_c_leaves_no_image_and_stops_the_threads(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    base = machine("one").assemble(base_of(name, package(store, "jax")))
    bench, interruption = machine("two"), threading.Event()

    def interrupt(wheel: WheelFile) -> None:
        interruption.set()

    bench.wheels.before = interrupt
    assembly = project_of(name, base, package(store, "flax"), package(store, "optax"))

    def work() -> None:
        interruptible(interruption)
        bench.assemble(assembly)

    with ThreadPoolExecutor() as pool, pytest.raises(KeyboardInterrupt):
        pool.submit(work).result()
    assert bench.registry.manifest(assembly.reference) is None
    assert (
        bench.registry.manifest(f"{name}/layers:{wheel_tag(assembly.wheels[0].sha256, PYTHON)}")
        is None
    )


def test_blob_that_the_registry_lost_is_made_anew(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    base = bench.assemble(base_of(name, package(store, "jax")))
    flax = package(store, "flax")
    bench.assemble(project_of(name, base, flax))
    record = manifest_of(bench.registry, f"{name}/layers:{wheel_tag(flax.sha256, PYTHON)}")
    lose(f"{name}/layers", record["layers"][0]["digest"])
    assembly = replace(project_of(name, base, flax), reference=f"{name}/other:x")
    digest = bench.assemble(assembly)
    assert any("the registry has lost it" in line for line in bench.lines)
    tree = tree_of(bench.registry, f"{name}/other", digest)
    assert tree[f"{SITE}/flax/__init__.py"] == b"VERSION = '1.0'\n"


def test_record_of_another_compression_is_taken(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    first = machine("one")
    base = first.assemble(base_of(name, package(store, "jax")))
    flax = package(store, "flax")
    first.assemble(project_of(name, base, flax))
    tag = f"{name}/layers:{wheel_tag(flax.sha256, PYTHON)}"
    recompressed = recompress(first.registry, f"{name}/layers", tag)
    digests = [
        manifest_of(bench.registry, f"{name}/app@{bench.assemble(project_of(name, base, flax))}")
        for bench in (machine("two"), machine("three"))
    ]
    assert [image["layers"][-1]["digest"] for image in digests] == [recompressed] * 2


def test_race_for_a_tag_is_won_by_the_registrys_record(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    first = machine("one")
    base = first.assemble(base_of(name, package(store, "jax")))
    flax, bench = package(store, "flax"), machine("two")
    tag = f"{name}/layers:{wheel_tag(flax.sha256, PYTHON)}"
    theirs: list[str] = []

    def meanwhile(wheel: WheelFile) -> None:
        first.assemble(project_of(name, base, flax))
        theirs.append(recompress(first.registry, f"{name}/layers", tag))

    bench.wheels.before = meanwhile
    image = manifest_of(
        bench.registry, f"{name}/app@{bench.assemble(project_of(name, base, flax))}"
    )
    assert image["layers"][-1]["digest"] == theirs[0]
    assert bench.left_behind == []


def test_tag_of_something_else_is_refused_by_name(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    base = bench.assemble(base_of(name, package(store, "jax")))
    flax, optax = package(store, "flax"), package(store, "optax")
    bench.assemble(project_of(name, base, optax))
    layers, tag = f"{name}/layers", wheel_tag(flax.sha256, PYTHON)
    for other in (f"{layers}:{wheel_tag(optax.sha256, PYTHON)}", f"{name}/base-cpu@{base}"):
        found = bench.registry.manifest(other)
        assert found is not None
        copy_blobs(bench.registry, layers, other)
        bench.registry.put_manifest(f"{layers}:{tag}", found.content, found.media_type)
        with pytest.raises(ImageError, match=rf"{tag} should be the layer flax 1\.0, and is some"):
            bench.assemble(project_of(name, base, flax))


def test_base_is_copied_from_another_registry(
    machine: Callable[[str], Bench], name: str, store: Path, artifact_registry: RegistryFront
) -> None:
    bench = machine("one")
    base = bench.assemble(base_of(name, package(store, "jax"), package(store, "flax")))
    project, repository = uuid4().hex[:8], uuid4().hex[:8]
    artifact_registry.repositories.add(f"{project}/{repository}")
    artifact_registry.accounts["me"] = "secret"
    target = f"{artifact_registry.host}/{project}/{repository}"
    away = Bench(RegistryWriter(credentials=Login()), bench.wheels, machine("two").home)
    newer = package(store, "flax", "2.0")
    assembly = replace(
        project_of(name, base, newer),
        reference=f"{target}/app:x",
        layers=f"{target}/layers",
    )
    assert away.look_at(assembly).bytes_to_send > newer.size_bytes
    digest = away.assemble(assembly)
    here = bench.assemble(project_of(name, base, newer))
    assert digest == here
    assert tree_of(away.registry, f"{target}/app", digest) == tree_of(
        bench.registry, f"{name}/app", here
    )


def test_refused_mounts_are_sent(
    machine: Callable[[str], Bench], name: str, store: Path, docker_registry: DockerRegistry
) -> None:
    front = RegistryFront(docker_registry.url).start()
    front.accounts["me"] = "secret"
    project = uuid4().hex[:8]
    front.repositories.add(f"{project}/repo")
    front.manners.refuses_mounts = True
    target = f"{front.host}/{project}/repo"
    bench = machine("one")
    registry = RegistryWriter(credentials=Login())
    start = push_image(registry, f"{target}/python", PIP)
    away = Bench(registry, bench.wheels, bench.home)
    assembly = base_of(target, package(store, "jax"), start=start)
    digest = away.assemble(assembly)
    again = replace(assembly, reference=f"{target}/again:x")
    assert away.assemble(again) == digest
    front.stop()


def test_what_does_not_fit_is_warned_of(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    needy = make_wheel(store, "needy", "1.0", {"needy.py": ""}, requires=("flax>=3",))
    bench.assemble(base_of(name, needy, package(store, "flax")))
    assert "warning: needy 1.0 asks for flax>=3, and the image has flax 1.0" in bench.lines


def test_known_wheels_cost_no_request_each(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    parts = [package(store, f"part{number}") for number in range(14)]
    bench = machine("one")
    base = bench.assemble(base_of(name, package(store, "jax")))
    bench.assemble(project_of(name, base, *parts[:7]))
    bench.assemble(project_of(name, base, *parts[7:]))
    before = bench.registry.requests
    bench.assemble(project_of(name, base, *parts[1:13]))
    # The base's two documents are on this machine; its configuration, its manifest and the look at
    # it are all that is sent.
    assert bench.registry.requests - before <= 6


def test_missing_layer_is_asked_for_by_a_look_before_it_is_sent_and_after(
    machine: Callable[[str], Bench], store: Path, wire: WireServer
) -> None:
    name = f"127.0.0.1:{wire.port}/{uuid4().hex[:8]}"
    base = machine("one").assemble(base_of(name, package(store, "jax")))
    flax, bench = package(store, "flax"), machine("two")
    assembly = project_of(name, base, flax)
    bench.assemble(assembly, bench.look_at(assembly).survey)
    path = f"/layers/manifests/{wheel_tag(flax.sha256, PYTHON)}"
    methods = [method for method, target in wire.requests if target.endswith(path)]
    assert methods == ["GET", "GET", "PUT", "GET"]


def test_registry_that_names_one_blob_at_a_time_gets_all_that_it_lacks(
    machine: Callable[[str], Bench], store: Path, wire: WireServer
) -> None:
    name = f"127.0.0.1:{wire.port}/{uuid4().hex[:8]}"
    bench = machine("one")
    base = bench.assemble(base_of(name, package(store, "jax")))
    assembly = project_of(name, base, package(store, "flax"))
    first = manifest_of(bench.registry, f"{name}/base-cpu@{base}")["layers"][0]["digest"]
    errors = [{"code": "MANIFEST_BLOB_UNKNOWN", "message": first}]
    body = json.dumps({"errors": errors}).encode()
    path = f"/app/manifests/{assembly.reference.rpartition(':')[2]}"
    with wire.fault(
        Fault(kind="status", status=404, body=body, times=2, method="PUT", path=path)
    ) as met:
        bench.assemble(assembly)
    assert met.times == 0


@pytest.mark.parametrize(("size", "kinds"), [(100, ["whl"]), (70_000, ["pyc", "whl"])])
def test_project_has_bytecode_of_a_library_where_it_is_worth_a_layer(
    machine: Callable[[str], Bench], name: str, store: Path, size: int, kinds: list[str]
) -> None:
    bench = machine("one")
    base = bench.assemble(base_of(name, package(store, "jax")))
    before = set(bench.registry.tags(f"{name}/layers"))
    files = {"nvidia.py": f"text = '{'x' * size}'\n"}
    assembly = project_of(name, base, make_wheel(store, "nvidia", "1.0", files, tag=LIBRARY))
    assert bench.look_at(assembly).layers == 6
    bench.assemble(assembly)
    made = set(bench.registry.tags(f"{name}/layers")) - before
    assert sorted(tag.partition("-")[0] for tag in made) == kinds
    assert machine("two").look_at(assembly).layers == 5 + len(kinds)


def test_image_of_another_python_is_refused_before_anything_is_made(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    with pytest.raises(ImageError, match=r"has Python 3\.11, and .* is to have 3\.12"):
        bench.assemble(replace(base_of(name, package(store, "jax")), python="3.12"))
    assert bench.wheels.fetched == []


def test_many_wheels_share_a_layer_which_gives_single_ones_up(
    machine: Callable[[str], Bench], name: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinetic_flows.images.assembly.plan.MAX_LAYERS", 7)
    bench, parts = machine("one"), [package(store, f"p{number}", tag=BOUND) for number in range(5)]
    base = bench.assemble(base_of(name, package(store, "jax"), *parts))
    assert len(manifest_of(bench.registry, f"{name}/base-cpu@{base}")["layers"]) == 7
    monkeypatch.undo()
    project = project_of(name, base, package(store, "p1", "2.0", tag=BOUND))
    tree = tree_of(bench.registry, f"{name}/app", bench.assemble(project))
    assert tree[f"{SITE}/p1/__init__.py"] == b"VERSION = '2.0'\n"
    assert [path for path in tree if "p1/v1_0" in path or "p1-1.0" in path] == []
    for number in (0, 2, 3, 4):
        assert tree[f"{SITE}/p{number}/__init__.py"] == b"VERSION = '1.0'\n"
        assert f"{SITE}/p{number}/__pycache__/__init__.cpython-311.pyc" in tree


def test_image_gets_all_of_its_names(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    also = (f"{name}/base-cpu:latest", f"{name}/elsewhere:x")
    digest = bench.assemble(base_of(name, package(store, "jax"), also=also))
    for reference in also:
        found = bench.registry.manifest(reference)
        assert found is not None
        assert found.digest == digest


def test_project_of_a_base_in_another_repository_finds_its_records(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    base = bench.assemble(base_of(name, package(store, "jax"), package(store, "flax")))
    newer = package(store, "flax", "2.0")
    assembly = replace(project_of(name, base, newer), layers=f"{name}/mine/layers")
    tree = tree_of(bench.registry, f"{name}/app", bench.assemble(assembly))
    assert [path for path in tree if "flax/v1_0" in path] == []
    assert f"{SITE}/jax/__pycache__/__init__.cpython-311.pyc" in tree


def mirrored(bench: Bench, name: str, base: str) -> str:
    """Copy a base without the records of its layers, and return its reference."""
    source = f"{name}/base-cpu@{base}"
    copy_blobs(bench.registry, f"{name}/mirror/python", source)
    found = bench.registry.manifest(source)
    assert found is not None
    bench.registry.put_manifest(f"{name}/mirror/python:x", found.content, found.media_type)
    return f"{name}/mirror/python@{base}"


def test_bytecode_of_an_unknown_base_is_made_of_the_projects_own_wheels(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    jax = package(store, "jax")
    base = bench.assemble(base_of(name, jax, package(store, "flax")))
    newer = package(store, "flax", "2.0")
    assembly = replace(
        project_of(name, base, newer, jax),
        start=mirrored(bench, name, base),
        layers=f"{name}/mine/layers",
    )
    assert bench.assemble(assembly) == bench.assemble(project_of(name, base, newer, jax))


def test_unknown_wheels_of_a_base_that_cannot_be_had_are_named(
    machine: Callable[[str], Bench], name: str, store: Path
) -> None:
    bench = machine("one")
    base = bench.assemble(base_of(name, package(store, "jax"), package(store, "flax")))
    assembly = replace(
        project_of(name, base, package(store, "flax", "2.0")),
        start=mirrored(bench, name, base),
        layers=f"{name}/mine/layers",
    )
    with pytest.raises(ImageError, match=r"holds flax 1\.0, jax 1\.0 together with what gives way"):
        bench.assemble(assembly)
    assert bench.registry.tags(assembly.layers) == ()


def test_layer_whose_tag_never_moves_is_taken_from_who_came_first(
    machine: Callable[[str], Bench], store: Path, wire: WireServer
) -> None:
    name = f"127.0.0.1:{wire.port}/{uuid4().hex[:8]}"
    base = machine("one").assemble(base_of(name, package(store, "jax")))
    flax, bench = package(store, "flax"), machine("two")
    # The first looks find nothing, and the tag is refused: in between somebody pushed it.
    machine("one").assemble(project_of(name, base, flax))
    path = f"/layers/manifests/{wheel_tag(flax.sha256, PYTHON)}"
    with (
        wire.fault(Fault(kind="status", status=404, times=2, method="GET", path=path)),
        wire.fault(Fault(kind="status", status=400, times=1, method="PUT", path=path)),
    ):
        bench.assemble(project_of(name, base, flax))
    assert bench.left_behind == []
