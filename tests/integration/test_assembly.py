"""Images assembled in a real registry: what they hold, what is sent, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    Wheels,
    config_of,
    push_image,
    tree_of,
)

from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.assembly.spec import Assembly
from loopback.registry import DockerRegistry
from loopback.small_wheels import make_wheel

pytest_plugins = ["loopback.fixtures"]

SITE = "usr/local/lib/python3/site-packages"
LIBRARY = "py3-none-manylinux_2_17_x86_64"
BOUND = "cp311-cp311-manylinux_2_17_x86_64"


@pytest.fixture
def name(docker_registry: DockerRegistry) -> str:
    """A repository that nobody else uses."""
    return f"{docker_registry.host}/{uuid4().hex[:12]}"


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
