"""Bases share layers: another category, jax or Python sends only what differs."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from kinetic_flows.clients.registry.credentials import RegistryCredentials
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.errors import BuildError
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.assembly.assemble import assemble
from kinetic_flows.images.assembly.bases import base_assembly, base_labels
from kinetic_flows.images.assembly.preview import survey_of
from kinetic_flows.images.assembly.records import LayerRecords
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.bases import BaseInputs
from loopback.applied_layers import pull_image
from loopback.lifted_python import MINOR
from loopback.registry import DockerRegistry, RegistryFront
from loopback.small_images import Pusher
from loopback.small_wheels import make_wheel

pytest_plugins = ["loopback.fixtures"]

HOST = "us-docker.pkg.dev"
ACCOUNT = "assembler"
GLIBC = b"GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\n"
SOURCE = "def answer():\n    return 42\n"
OTHER_MINOR = "3.12" if MINOR != "3.12" else "3.13"


class Account:
    """Who may push."""

    def find(self, registry: str) -> RegistryCredentials | None:
        return RegistryCredentials(username=ACCOUNT, password="s") if registry == HOST else None


@dataclass(frozen=True, kw_only=True)
class Bases:
    """Assembles small bases into a repository that nobody else uses."""

    registry: DockerRegistry
    front: RegistryFront
    repository: str
    directory: Path

    def fetch(self, wheel: WheelFile) -> Path:
        return self.directory / wheel.filename

    def wheel(self, name: str, version: str = "1", *, tag: str = "py3-none-any") -> WheelFile:
        path = name.replace("-", "/") if name.startswith("google") else name.replace("-", "_")
        files = {f"{path}/__init__.py": f"{SOURCE}NAME = {name!r}, {version!r}\n"}
        if name == "uv":
            files |= {f"uv-{version}.data/scripts/uv": "#!python\nprint('uv')\n"}
        return make_wheel(self.directory, name, version, files, tag=tag)

    def core(self) -> list[WheelFile]:
        """The packages that every base has."""
        names = ("cloudpickle", "google-cloud-storage", "uv")
        return [self.wheel(name) for name in names]

    def upstream(self, python: str) -> str:
        """Push an image of Python of a few bytes, and return it by digest."""
        site = f"usr/local/lib/python{python}/site-packages"
        digest = Pusher(self.registry.url, f"{self.path}/python").push_image(
            python,
            {},
            environment={"PYTHON_VERSION": f"{python}.1", "PATH": "/usr/local/bin:/usr/bin"},
            files={
                "usr/lib/x86_64-linux-gnu/libc.so.6": GLIBC,
                f"{site}/pip/__init__.py": b"",
                f"{site}/pip-26.0.dist-info/METADATA": b"Name: pip\nVersion: 26.0\n",
            },
        )
        return f"{self.repository}/python@{digest}"

    @property
    def path(self) -> str:
        """Path of the repository."""
        return self.repository.partition("/")[2]

    def assembly(
        self, name: str, wheels: list[WheelFile], python: str = MINOR, category: Any = "cpu"
    ) -> Assembly:
        """Return a base as what has to be assembled."""
        lock = "".join(f"{wheel} \\\n    --hash=sha256:{wheel.sha256}\n" for wheel in wheels)
        inputs = BaseInputs(category=category, python=python, lock=lock, upstream="python")
        return base_assembly(
            inputs,
            repository=self.repository,
            references=(f"{self.repository}/{name}:1",),
            upstream=self.upstream(python),
            wheels=wheels,
            labels=base_labels(inputs, "1"),
        )

    def writer(self) -> RegistryWriter:
        """Return a connection to the registry."""
        return RegistryWriter(credentials=Account(), endpoints={HOST: self.front.url})

    def assemble(self, name: str, wheels: list[WheelFile], category: Any = "cpu") -> set[str]:
        """Assemble a base, and return the digests of what was sent for it."""
        assembly = self.assembly(name, wheels, category=category)
        before = len(self.front.server.requests)
        assemble(
            assembly,
            self.writer(),
            self,
            home=self.directory / "home",
            environ=os.environ,
            on_output=lambda _: None,
        )
        targets = [target for method, target in self.front.server.requests[before:]
                   if method in ("PUT", "POST")]  # fmt: skip
        queries = [parse_qs(urlsplit(target).query) for target in targets]
        return {query["digest"][0] for query in queries if "digest" in query}

    def layers(self, name: str) -> dict[str, str]:
        """Return the layers of an image: what its history says of each, by its digest."""
        image = pull_image(self.registry.url, f"{self.path}/{name}", "1")
        told = [item["created_by"] for item in image.config["history"]
                if not item.get("empty_layer")]  # fmt: skip
        return dict(zip(image.digests, told, strict=True))


@pytest.fixture
def bases(
    docker_registry: DockerRegistry,
    artifact_registry: RegistryFront,
    bucket_name: str,
    tmp_path: Path,
) -> Bases:
    artifact_registry.accounts[ACCOUNT] = "s"
    artifact_registry.repositories.add(f"project/{bucket_name}")
    return Bases(
        registry=docker_registry,
        front=artifact_registry,
        repository=f"{HOST}/project/{bucket_name}",
        directory=tmp_path,
    )


def test_a_base_for_another_category_sends_the_package_that_only_it_has(bases: Bases) -> None:
    shared = [*bases.core(), bases.wheel("jax"), bases.wheel("numpy", tag=f"{tag()}-any")]
    first = bases.assemble("base-cpu", shared)
    of_wheels = [told for digest, told in bases.layers("base-cpu").items() if digest in first]
    assert [told.split()[1] for told in of_wheels][1:4] == ["merged", "wheel", "wheel"]

    sent = bases.assemble("base-tpu", [*shared, bases.wheel("libtpu")], category="tpu")

    layers = bases.layers("base-tpu")
    added = [told for digest, told in layers.items() if digest in sent]
    (told,) = [told for told in added if told.split()[1] in ("wheel", "merged")]
    assert "libtpu" in told
    kept = set(bases.layers("base-cpu")) & set(layers)
    assert len(kept) == 5, "what Python came with, the site, the core, jax and numpy"
    assert not kept & sent


def test_a_base_with_another_jax_sends_jax(bases: Bases) -> None:
    rest = [*bases.core(), bases.wheel("numpy", tag=f"{tag()}-any")]
    bases.assemble("base-old", [*rest, bases.wheel("jax", "0.10.2")])

    sent = bases.assemble("base-new", [*rest, bases.wheel("jax", "0.10.3")])

    layers = bases.layers("base-new")
    (told,) = [
        told
        for digest, told in layers.items()
        if digest in sent and told.split()[1] in ("wheel", "merged")
    ]
    assert told.startswith("kinetic wheel jax==0.10.3 ")


def test_a_base_for_another_python_shares_every_wheel_that_any_python_takes(bases: Bases) -> None:
    pure = [*bases.core(), bases.wheel("jax")]
    bases.assemble("base-one", [*pure, bases.wheel("numpy", tag=f"{tag()}-any")])

    # Not made: no machine has to have a second Python.
    numpy = bases.wheel("numpy", tag=f"{tag(OTHER_MINOR)}-any")
    other = bases.assembly("base-other", [*pure, numpy], OTHER_MINOR)
    registry = bases.writer()
    survey = survey_of(other, registry, LayerRecords(registry, bases.directory / "other-home"))

    missing = {layer.kind: layer.to_history() for layer in survey.missing}
    assert missing.keys() == {"site", "wheel", "bytecode"}
    assert missing["wheel"].startswith("kinetic wheel numpy==1 ")
    known = [package.name for layer in survey.plan.added if layer.kind in ("wheel", "merged")
             for package in layer.packages if layer.tag in survey.records]  # fmt: skip
    assert sorted(known) == sorted(wheel.name for wheel in pure)


def test_the_same_base_again_sends_no_layer(bases: Bases) -> None:
    wheels = [*bases.core(), bases.wheel("jax")]
    bases.assemble("base-cpu", wheels)
    shutil.rmtree(bases.directory / "home")

    sent = bases.assemble("base-again", wheels)

    assert not sent & set(bases.layers("base-again"))
    assert bases.layers("base-again") == bases.layers("base-cpu")


def test_a_base_that_lacks_what_runs_need_is_not_published(bases: Bases) -> None:
    wheels = [wheel for wheel in bases.core() if wheel.name != "cloudpickle"]

    with pytest.raises(BuildError, match="it lacks cloudpickle"):
        bases.assemble("base-cpu", [*wheels, bases.wheel("jax")])

    with pytest.raises(Exception, match="404"):
        bases.layers("base-cpu")


def tag(python: str = MINOR) -> str:
    """The tags of a wheel for one minor version of Python, but for its platform."""
    number = python.replace(".", "")
    return f"cp{number}-cp{number}"
