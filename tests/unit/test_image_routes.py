"""Who makes an image, and what it is made from: decided from values alone."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.image_builder import ImagePreview
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.assembly.requests import project_assembly
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.platforms.gke.builds.routes import MAX_DIRECT_BYTES, choose_route

ENVIRONMENT = EnvironmentSpec(
    category="cpu",
    python="3.12",
    platform="x86_64-manylinux_2_36",
    base_identity="b" * 64,
    lock="# kinetic lock 1\n",
    packages=(),
    wheels=(),
    dependency_hash=sha256_hex(b"hash"),
)


def _wheel(name: str) -> WheelFile:
    return WheelFile(
        name=name,
        version="1",
        filename=f"{name}-1-py3-none-any.whl",
        sha256=sha256_hex(name.encode()),
        size_bytes=7,
    )


def test_little_goes_direct_and_much_to_cloud_build() -> None:
    assert choose_route("auto", 0).builder == "direct"
    assert choose_route("auto", MAX_DIRECT_BYTES).builder == "direct"
    much = choose_route("auto", MAX_DIRECT_BYTES + 400_000)
    assert str(much) == "cloud-build (100.4 MB to send, more than 100.0 MB)"


@pytest.mark.parametrize("size", [0, 10 * MAX_DIRECT_BYTES])
def test_what_the_settings_say_counts_more_than_any_size(size: int) -> None:
    assert str(choose_route("direct", size)) == "direct (KINETIC_BUILDER=direct)"
    assert str(choose_route("cloud-build", size)) == "cloud-build (KINETIC_BUILDER=cloud-build)"


def test_an_image_that_is_to_be_made_tells_what_it_takes() -> None:
    preview = ImagePreview(
        builder="direct",
        because="12.0 MB to send",
        layers=41,
        known=39,
        bytes_to_send=12_000_000,
    )
    assert str(preview) == "assembled from 41 layers, 39 known, 2 to make, 12.0 MB to send"
    known = replace(preview, known=41, bytes_to_send=0)
    assert str(known) == "assembled from 41 layers, 41 known"
    assert str(replace(preview, layers=None)) == "built from a Dockerfile"


def _assembly(*names: str) -> Assembly:
    return project_assembly(
        ENVIRONMENT,
        reference="us-docker.pkg.dev/p/r/app:cpu-1",
        repository="us-docker.pkg.dev/p/r",
        base="us-docker.pkg.dev/p/bases/base-cpu@sha256:1",
        wheels=[_wheel(name) for name in names],
        version="0.2.0",
    )


def test_a_projects_image_is_its_base_and_its_wheels_whatever_their_order() -> None:
    assembly = _assembly("b", "a")
    assert assembly == _assembly("a", "b")
    assert [wheel.name for wheel in assembly.wheels] == ["a", "b"]
    assert assembly.start == "us-docker.pkg.dev/p/bases/base-cpu@sha256:1"
    assert assembly.layers == "us-docker.pkg.dev/p/r/layers"
    assert assembly.labels["kinetic.dependency-hash"] == ENVIRONMENT.dependency_hash
    assert assembly.labels["org.opencontainers.image.base.name"] == assembly.start


def test_an_assembly_that_is_sent_elsewhere_is_the_same_there() -> None:
    assembly = replace(_assembly("a"), files={"/app/x": b"\xff"}, also=("r.io/a/b:2",))
    assert Assembly.from_json(assembly.to_json()) == assembly
    assert json.loads(assembly.to_json())["reference"] == assembly.reference
