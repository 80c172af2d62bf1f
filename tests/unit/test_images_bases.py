"""Base images: what each is made from, its identity, and what it must have."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256

import pytest

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.accelerators.packages import pins_of
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.assembly.base_check import base_problems, glibc_of
from kinetic_flows.images.assembly.bases import (
    base_assembly,
    base_digest,
    base_files,
    base_labels,
)
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.bases import (
    GLIBC,
    VARIABLES,
    BaseInputs,
    base_pythons,
    bootstrap_version,
    identity_of_base,
    lean_inputs,
    read_base_inputs,
    read_bootstrap,
)
from kinetic_flows.images.layers.model import SCRIPTS, SITE_PACKAGES, WheelFacts

LOCK = """\
jax==0.10.2 \\
    --hash=sha256:aa
jaxlib==0.10.2 \\
    --hash=sha256:bb \\
    --hash=sha256:cc
numpy==2.4.6 \\
    --hash=sha256:dd
nvidia-cublas-cu12==12.9.3 \\
    --hash=sha256:ee
uv==0.13.9 \\
    --hash=sha256:ff \\
    --hash=sha256:11
"""
UPSTREAM = f"docker.io/library/python@sha256:{'5' * 64}"


def gpu_inputs() -> BaseInputs:
    return BaseInputs(
        category="gpu", python="3.12", lock=LOCK, upstream="docker.io/library/python:3.12-slim"
    )


def wheel(name: str, version: str = "1") -> WheelFile:
    return WheelFile(
        name=name,
        version=version,
        filename=f"{name.replace('-', '_')}-{version}-py3-none-any.whl",
        sha256=Sha256(sha256(name.encode()).hexdigest()),
        size_bytes=1,
    )


def assembly_of(inputs: BaseInputs, *names: str) -> Assembly:
    repository = "us-docker.pkg.dev/p/r"
    return base_assembly(
        inputs,
        repository=repository,
        references=(f"{repository}/base-gpu:1-py3.12", f"{repository}/base-gpu:1"),
        upstream=UPSTREAM,
        wheels=[wheel(name) for name in names],
        labels=base_labels(inputs, "1.2.3"),
    )


def facts(name: str, *paths: str) -> WheelFacts:
    return WheelFacts(
        name=name,
        version="1",
        sha256="0" * 64,
        requires=(),
        requires_python="",
        files=dict.fromkeys(paths, "0" * 16),
        source_bytes=0,
    )


WHOLE = (
    facts("cloudpickle", f"{SITE_PACKAGES}/cloudpickle/__init__.py"),
    facts("google-cloud-storage", f"{SITE_PACKAGES}/google/cloud/storage/__init__.py"),
    facts("jax"),
    facts("jax-cuda12-plugin"),
    facts("uv", f"{SCRIPTS}/uv"),
)


def test_a_base_image_for_gpus() -> None:
    inputs = gpu_inputs()

    assembly = assembly_of(inputs, "uv", "jax")

    assert assembly.reference == "us-docker.pkg.dev/p/r/base-gpu:1-py3.12"
    assert assembly.also == ("us-docker.pkg.dev/p/r/base-gpu:1",)
    assert assembly.layers == "us-docker.pkg.dev/p/r/layers"
    assert (assembly.start, assembly.starts_from) == (UPSTREAM, "upstream")
    assert [item.name for item in assembly.wheels] == ["jax", "uv"]
    assert assembly.files == {
        "/app/constraints.txt": b"jax==0.10.2\njaxlib==0.10.2\nnvidia-cublas-cu12==12.9.3\n",
        "/app/remote_runner.py": read_bootstrap(),
    }
    assert assembly.environment == {
        "PYTHONUNBUFFERED": "1",
        "UV_SYSTEM_PYTHON": "1",
        "UV_BREAK_SYSTEM_PACKAGES": "1",
        "JAX_PLATFORMS": "cuda,cpu",
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64",
        "PATH": "$PATH:/usr/local/nvidia/bin",
    }
    assert assembly.command == ("python3", "-u", "/app/remote_runner.py")
    assert assembly.labels == {
        "kinetic.kind": "base",
        "kinetic.category": "gpu",
        "kinetic.python": "3.12",
        "kinetic.base-identity": inputs.identity,
        "kinetic.lock-digest": f"sha256:{sha256(LOCK.encode()).hexdigest()}",
        "kinetic.version": "1.2.3",
        "org.opencontainers.image.title": "kinetic base for gpu, Python 3.12",
        "org.opencontainers.image.base.name": "docker.io/library/python:3.12-slim",
    }
    assert Assembly.from_json(assembly.to_json()) == assembly


def test_layers_of_a_repository_on_docker_hub_have_a_name_of_two_parts() -> None:
    inputs = gpu_inputs()
    for repository, expected in (("me", "me/layers"), ("me/kinetic", "me/kinetic-layers")):
        assembly = base_assembly(
            inputs,
            repository=repository,
            references=(f"{repository}:1",),
            upstream=UPSTREAM,
            wheels=(),
            labels={},
        )
        assert assembly.layers == expected


@pytest.mark.parametrize("category", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("python", base_pythons())
def test_every_base_comes_with_runtime_core_packages_and_uv(
    category: Category, python: str
) -> None:
    inputs = read_base_inputs(category, python)

    pins = [line.partition("==")[0] for line in inputs.lock.splitlines() if line[0] != " "]
    runtime = {"cpu": "jaxlib", "gpu": "nvidia-cudnn-cu12", "tpu": "libtpu"}[category]
    assert {"jax", runtime, "cloudpickle", "google-cloud-storage", "uv"} <= set(pins)
    assert f"{runtime}==" in base_files(inputs, b"")["/app/constraints.txt"].decode()


def test_each_category_python_and_variant_has_an_identity_of_its_own() -> None:
    bases = [read_base_inputs(item, python) for item in VARIABLES for python in base_pythons()]
    identities = {inputs.identity for base in bases for inputs in (base, lean_inputs(base))}

    assert len(identities) == 2 * 3 * len(base_pythons())


@pytest.mark.parametrize("category", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("python", base_pythons())
def test_a_lean_base_has_what_every_run_needs_and_nothing_of_a_framework(
    category: Category, python: str
) -> None:
    with_jax = read_base_inputs(category, python)
    inputs = lean_inputs(with_jax)

    names = {pin.partition("==")[0] for pin in pins_of(inputs.lock)}
    gone = {pin.partition("==")[0] for pin in pins_of(with_jax.lock)} - names
    assert {"cloudpickle", "google-cloud-storage", "uv"} <= names
    assert {"jax", "jaxlib", "ml-dtypes", "numpy", "opt-einsum", "scipy"} <= gone
    packages = re.split(r"(?m)^(?=[a-z])", inputs.lock)[1:]
    assert len(packages) == len(names)
    assert all(package in with_jax.lock for package in packages), "with all their hashes"
    assert base_files(inputs, b"")["/app/constraints.txt"] == b""
    assert base_labels(inputs, "1")["kinetic.variant"] == "lean"
    assert "kinetic.variant" not in base_labels(with_jax, "1")


def test_a_comment_in_the_lock_does_not_change_the_identity_of_a_base() -> None:
    def identity(lock: str = LOCK, value: str = "1", upstream: str = "u") -> str:
        return identity_of_base(lock=lock, variables={"A": value}, upstream=upstream)

    assert identity(f"# note\n\n{LOCK}") == identity()
    assert identity(LOCK.replace("aa", "ab")) != identity()
    assert identity(value="2") != identity()
    assert identity(upstream="u2") != identity()


def test_another_bootstrap_or_another_lock_makes_another_base() -> None:
    inputs = gpu_inputs()
    other = replace(inputs, lock=LOCK.replace("aa", "ab"))

    assert (
        len({base_digest(inputs, b"1"), base_digest(inputs, b"2"), base_digest(other, b"1")}) == 3
    )


def test_a_python_without_a_base_is_an_error_that_lists_those_that_have_one() -> None:
    with pytest.raises(ImageError, match=r"3\.11, 3\.12, 3\.13"):
        read_base_inputs("cpu", "2.7")


def test_a_base_that_has_everything_has_no_problem() -> None:
    assert base_problems(assembly_of(gpu_inputs()), WHOLE, python="3.12", glibc="2.41") == ()


@pytest.mark.parametrize(
    ("lost", "complaint"),
    [
        ("cloudpickle", "it lacks cloudpickle"),
        ("google-cloud-storage", "it lacks google.cloud.storage"),
        ("jax", "it lacks jax"),
        ("jax-cuda12-plugin", "its jax has none of jax-cuda12-plugin, jax-cuda13-plugin"),
        ("uv", "it lacks uv"),
    ],
)
def test_what_a_base_lacks_is_named(lost: str, complaint: str) -> None:
    rest = [item for item in WHOLE if item.name != lost]

    (problem,) = base_problems(assembly_of(gpu_inputs()), rest, python="3.12", glibc=GLIBC)

    assert complaint in problem


def test_the_image_that_a_base_starts_from_is_held_to_its_python_and_its_glibc() -> None:
    assembly = assembly_of(gpu_inputs())

    assert base_problems(assembly, WHOLE, python="3.13", glibc="2.31") == (
        "it has Python 3.13, and its tag is to say 3.12",
        f"it has glibc 2.31, and packages are resolved for {GLIBC}",
    )
    python, glibc = base_problems(assembly, WHOLE, python=None, glibc=None)
    assert (python.split(",")[0], glibc.split(",")[0]) == (
        "it has Python unknown",
        "it has glibc unknown",
    )


def test_a_lean_base_needs_no_framework() -> None:
    lean = assembly_of(lean_inputs(gpu_inputs()))
    without = [item for item in WHOLE if not item.name.startswith("jax")]

    assert base_problems(lean, without, python="3.12", glibc=GLIBC) == ()


def test_a_bootstrap_of_another_version_is_no_base() -> None:
    assembly = assembly_of(gpu_inputs())
    other = {**assembly.files, "/app/remote_runner.py": b'VERSION = "0"\n'}

    (problem,) = base_problems(replace(assembly, files=other), WHOLE, python="3.12", glibc=GLIBC)

    assert problem == f"/app/remote_runner.py is not the bootstrap of version {bootstrap_version()}"


def test_a_c_library_says_its_release() -> None:
    said = b"\0GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\n\0"

    assert glibc_of(b"\x7fELF" + said) == "2.36"
    assert glibc_of(b"\x7fELF musl libc (x86_64)") is None
