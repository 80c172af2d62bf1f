"""The assembler sent along to a build, where nothing of this product is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path
from uuid import uuid4

import pytest
from assembling import PIP, PYTHON, Bench, Wheels, push_image
from packaging.requirements import Requirement

from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.images.assembly.bundle import (
    BUNDLE_FILE,
    MODULE,
    REQUIREMENTS,
    assembler_bundle,
    assembler_script,
)
from kinetic_flows.images.assembly.remote import ASSEMBLY_FILE, WHEELS_DIRECTORY
from kinetic_flows.images.assembly.spec import Assembly
from loopback.registry import DockerRegistry
from loopback.small_wheels import make_wheel
from loopback.wire import Fault, Request, Response, WireServer, wait_until

pytest_plugins = ["loopback.fixtures"]


def closure(names: tuple[str, ...]) -> set[str]:
    """Return what some distributions need to be installed, themselves included."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                left.append(requirement.name)
    return found


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Site-packages that hold the assembler's requirements and nothing else."""
    directory = tmp_path_factory.mktemp("bare")
    for name in closure(REQUIREMENTS):
        for file in distribution(name).files or ():
            top = file.parts[0]
            source, target = Path(str(file.locate())).parents[len(file.parts) - 2], directory / top
            if len(file.parts) == 1:
                source = Path(str(file.locate()))
            if top != ".." and not target.exists():
                target.symlink_to(source)
    return directory


class Build:
    """A build's step: a directory with its source, and an interpreter without this product."""

    def __init__(self, directory: Path, bare: Path) -> None:
        self.directory = directory
        self._bare = bare
        (directory / WHEELS_DIRECTORY).mkdir(parents=True)
        (directory / BUNDLE_FILE).write_bytes(assembler_bundle())

    def start(self, assembly: Assembly) -> subprocess.Popen[str]:
        (self.directory / ASSEMBLY_FILE).write_text(assembly.to_json())
        return subprocess.Popen(
            [sys.executable, "-S", "-m", MODULE],
            cwd=self.directory,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{BUNDLE_FILE}:{self._bare}",
                "HOME": str(self.directory / "home"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, assembly: Assembly) -> tuple[int, list[str]]:
        process = self.start(assembly)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output.splitlines()


@pytest.fixture
def build(tmp_path: Path, bare: Path) -> Build:
    return Build(tmp_path / "build", bare)


@pytest.fixture
def name(docker_registry: DockerRegistry) -> str:
    return f"{docker_registry.host}/{uuid4().hex[:12]}"


@pytest.fixture
def index(tmp_path: Path) -> Iterator[WireServer]:
    """An index that serves the wheels of a directory."""
    directory = tmp_path / "index"
    directory.mkdir()

    def answer(request: Request) -> Response:
        path = directory / request.segments[-1]
        return Response(body=path.read_bytes()) if path.exists() else Response(status=404)

    server = WireServer(answer).start()
    yield server
    server.stop()


def assembly_of(name: str, tmp_path: Path, index: WireServer, build: Build) -> Assembly:
    """An image with one wheel that ships and one that an index has."""
    shipped = make_wheel(build.directory / WHEELS_DIRECTORY, "mine", "1.0", {"mine.py": "x = 1\n"})
    public = make_wheel(tmp_path / "index", "flax", "1.0", {"flax.py": "y = 2\n"})
    return Assembly(
        reference=f"{name}/base-cpu:x",
        layers=f"{name}/layers",
        start=push_image(RegistryWriter(), f"{name}/python", PIP),
        starts_from="upstream",
        python=PYTHON,
        platform="x86_64-manylinux_2_36",
        wheels=(replace(public, url=f"{index.url}/{public.filename}"), shipped),
        files={"/app/x": b"x"},
    )


def test_build_makes_the_same_image_as_this_machine(
    build: Build, name: str, tmp_path: Path, index: WireServer
) -> None:
    assembly = assembly_of(name, tmp_path, index, build)
    code, lines = build.run(assembly)
    assert code == 0, lines
    assert lines[0] == "kinetic: making 4 of 5 layers"
    assert any(line.startswith("kinetic: layer 2 packages: ") for line in lines)
    found = RegistryWriter().manifest(assembly.reference)
    assert found is not None
    assert lines[-2] == f"kinetic: pushed {assembly.reference}@{found.digest}"
    store = tmp_path / "wheels"
    store.mkdir()
    for folder in (tmp_path / "index", build.directory / WHEELS_DIRECTORY):
        for wheel in folder.iterdir():
            (store / wheel.name).write_bytes(wheel.read_bytes())
    bench = Bench(RegistryWriter(), Wheels(store), tmp_path / "home")
    elsewhere = replace(assembly, reference=f"{name}/own:x", layers=f"{name}/own-layers")
    assert bench.assemble(elsewhere) == found.digest


def test_wheel_that_the_index_replaced_fails_with_one_clear_line(
    build: Build, name: str, tmp_path: Path, index: WireServer
) -> None:
    assembly = assembly_of(name, tmp_path, index, build)
    (tmp_path / "index" / assembly.wheels[0].filename).write_bytes(b"something else")
    code, lines = build.run(assembly)
    assert code == 6
    (line,) = [line for line in lines if line.startswith("kinetic error: ")]
    filename = assembly.wheels[0].filename
    assert line.endswith(f"is something else than the {filename} that was locked")
    assert RegistryWriter().manifest(assembly.reference) is None


def test_missing_shipped_wheel_is_named(
    build: Build, name: str, tmp_path: Path, index: WireServer
) -> None:
    assembly = assembly_of(name, tmp_path, index, build)
    (build.directory / WHEELS_DIRECTORY / assembly.wheels[1].filename).unlink()
    code, lines = build.run(assembly)
    assert code == 6
    assert (
        f"kinetic error: the wheel {assembly.wheels[1].filename} was not sent along, and no index "
        "has it" in lines
    )


def test_cancelled_build_ends_at_once(
    build: Build, name: str, tmp_path: Path, index: WireServer
) -> None:
    assembly = assembly_of(name, tmp_path, index, build)
    with index.fault(Fault(kind="stall", pause_seconds=120)):
        process = build.start(assembly)
        wait_until(lambda: bool(index.requests), 60, "the download to begin")
        process.terminate()
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in output
    assert RegistryWriter().manifest(assembly.reference) is None


def test_bundle_is_the_same_bytes_each_time() -> None:
    first = assembler_bundle()
    assembler_bundle.cache_clear()
    assert assembler_bundle() == first


def test_script_pins_what_the_assembler_needs() -> None:
    _, install, run = assembler_script().splitlines()
    for name in REQUIREMENTS:
        assert f" {name}=={distribution(name).version}" in install
    assert run == f"PYTHONPATH={BUNDLE_FILE} exec python3 -m {MODULE}"
