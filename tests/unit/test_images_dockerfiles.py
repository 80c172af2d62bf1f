"""Build contexts of base and project images, written out."""

from __future__ import annotations

import io
import tarfile
from hashlib import sha256

import pytest

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.accelerators.packages import pin_of, pins_of
from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.job import Sha256
from kinetic_flows.images.bases import (
    VARIABLES,
    BaseInputs,
    base_pythons,
    identity_of_base,
    lean_inputs,
    read_base_inputs,
    read_project_template,
)
from kinetic_flows.images.dockerfiles import base_context, project_context, render

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

GPU_BASE = """\
# The base image of one accelerator category: runtime, core packages and the runner's bootstrap.
FROM docker.io/library/python:3.12-slim
ENV PYTHONUNBUFFERED=1 UV_SYSTEM_PYTHON=1 UV_BREAK_SYSTEM_PACKAGES=1
ENV JAX_PLATFORMS=cuda,cpu LD_LIBRARY_PATH=/usr/local/nvidia/lib64 PATH=$PATH:/usr/local/nvidia/bin
RUN --mount=type=bind,source=.,target=/context \\
    python3 -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \\
        --no-compile --no-deps --require-hashes --requirement /context/uv.txt \\
    && uv pip install --no-cache --compile-bytecode --no-deps --require-hashes \\
        --requirement /context/lock.txt
COPY constraints.txt remote_runner.py /app/
LABEL kinetic.kind="base" \\
    kinetic.category="gpu" \\
    kinetic.python="3.12" \\
    kinetic.base-identity="{identity}" \\
    kinetic.lock-digest="sha256:{lock_digest}" \\
    kinetic.version="1.2.3" \\
    org.opencontainers.image.title="kinetic base for gpu, Python 3.12" \\
    org.opencontainers.image.base.name="docker.io/library/python:3.12-slim"
CMD ["python3", "-u", "/app/remote_runner.py"]
"""

PROJECT = """\
# One project's locked packages, as one layer on top of a base image.
FROM us-docker.pkg.dev/p/r/base-cpu@sha256:{base}
USER root
RUN --mount=type=bind,source=.,target=/context \\
    uv pip install --system --break-system-packages --no-cache --compile-bytecode --no-deps \\
        --require-hashes --index-url https://pypi.org/simple --find-links /context/wheels \\
        --requirement /context/lock.txt
LABEL kinetic.kind="project" \\
    kinetic.category="cpu" \\
    kinetic.python="3.11" \\
    kinetic.base-identity="{identity}" \\
    kinetic.dependency-hash="{dependency_hash}" \\
    kinetic.lock-digest="sha256:{lock_digest}" \\
    kinetic.version="1.2.3" \\
    org.opencontainers.image.title="kinetic project on cpu" \\
    org.opencontainers.image.base.name="us-docker.pkg.dev/p/r/base-cpu@sha256:{base}"
"""


def gpu_inputs() -> BaseInputs:
    template = read_base_inputs("gpu", "3.12").template
    return BaseInputs(
        category="gpu",
        python="3.12",
        lock=LOCK,
        template=template,
        upstream="docker.io/library/python:3.12-slim",
    )


def environment() -> EnvironmentSpec:
    return EnvironmentSpec(
        category="cpu",
        python="3.11",
        platform="x86_64-manylinux_2_28",
        base_identity="1" * 64,
        lock="# kinetic lock 1\n",
        packages=(),
        wheels=(),
        dependency_hash=Sha256("2" * 64),
    )


def digest_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def test_a_base_image_for_gpus() -> None:
    inputs = gpu_inputs()

    context = base_context(inputs, bootstrap=b"# bootstrap\n", version="1.2.3")

    assert context.files["Dockerfile"].decode() == GPU_BASE.format(
        identity=inputs.identity, lock_digest=digest_of(LOCK)
    )
    assert context.files["lock.txt"].decode() == LOCK
    assert context.files["uv.txt"].decode() == (
        "uv==0.13.9 \\\n    --hash=sha256:ff \\\n    --hash=sha256:11\n"
    )
    assert context.files["constraints.txt"].decode() == (
        "jax==0.10.2\njaxlib==0.10.2\nnvidia-cublas-cu12==12.9.3\n"
    )
    assert context.files["remote_runner.py"] == b"# bootstrap\n"


def test_a_project_image_is_one_layer_on_a_base_by_digest() -> None:
    context = project_context(
        environment(),
        base=f"us-docker.pkg.dev/p/r/base-cpu@sha256:{'3' * 64}",
        template=read_project_template(),
        wheels={"mine-1-py3-none-any.whl": b"wheel"},
        version="1.2.3",
    )

    assert context.files["Dockerfile"].decode() == PROJECT.format(
        base="3" * 64,
        identity="1" * 64,
        dependency_hash="2" * 64,
        lock_digest=digest_of("# kinetic lock 1\n"),
    )
    assert context.files["wheels/mine-1-py3-none-any.whl"] == b"wheel"
    assert set(context.files) == {
        "Dockerfile",
        "lock.txt",
        "wheels/.keep",
        "wheels/mine-1-py3-none-any.whl",
    }


def test_equal_contexts_give_equal_archives() -> None:
    first = base_context(gpu_inputs(), bootstrap=b"b", version="1")
    second = base_context(gpu_inputs(), bootstrap=b"b", version="1")

    assert first.archive() == second.archive()
    with tarfile.open(fileobj=io.BytesIO(first.archive())) as tar:
        assert tar.getnames() == sorted(first.files)
        assert {entry.mtime for entry in tar} == {0}


def test_a_template_and_its_values_must_agree() -> None:
    with pytest.raises(ImageError, match="tail"):
        render("FROM {{base}} {{tail}}", {"base": "a"})
    with pytest.raises(ImageError, match="extra"):
        render("FROM {{base}}", {"base": "a", "extra": "b"})


@pytest.mark.parametrize("category", ["cpu", "gpu", "tpu"])
@pytest.mark.parametrize("python", base_pythons())
def test_every_base_comes_with_runtime_core_packages_and_uv(
    category: Category, python: str
) -> None:
    inputs = read_base_inputs(category, python)
    context = base_context(inputs, bootstrap=b"", version="1")

    pins = [line.partition("==")[0] for line in inputs.lock.splitlines() if line[0] != " "]
    runtime = {"cpu": "jaxlib", "gpu": "nvidia-cudnn-cu12", "tpu": "libtpu"}[category]
    assert {"jax", runtime, "cloudpickle", "google-cloud-storage", "uv"} <= set(pins)
    assert f"{runtime}==" in context.files["constraints.txt"].decode()
    assert b"--hash=sha256:" in context.files["uv.txt"]


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
    context = base_context(inputs, bootstrap=b"", version="1")

    names = {pin.partition("==")[0] for pin in pins_of(inputs.lock)}
    gone = {pin.partition("==")[0] for pin in pins_of(with_jax.lock)} - names
    assert {"cloudpickle", "google-cloud-storage", "uv"} <= names
    assert {"jax", "jaxlib", "ml-dtypes", "numpy", "opt-einsum", "scipy"} <= gone
    assert inputs.lock == "".join(pin_of(with_jax.lock, name) for name in sorted(names))
    assert context.files["constraints.txt"] == b""
    assert b'kinetic.variant="lean"' in context.files["Dockerfile"]
    assert (
        b"kinetic.variant"
        not in base_context(with_jax, bootstrap=b"", version="1").files["Dockerfile"]
    )


def test_a_comment_in_the_lock_does_not_change_the_identity_of_a_base() -> None:
    plain = identity_of_base(lock=LOCK, template="t", upstream="u")

    assert identity_of_base(lock=f"# note\n\n{LOCK}", template="t", upstream="u") == plain
    assert identity_of_base(lock=LOCK.replace("aa", "ab"), template="t", upstream="u") != plain
    assert identity_of_base(lock=LOCK, template="t2", upstream="u") != plain
    assert identity_of_base(lock=LOCK, template="t", upstream="u2") != plain


def test_a_python_without_a_base_is_an_error_that_lists_those_that_have_one() -> None:
    with pytest.raises(ImageError, match=r"3\.11, 3\.12, 3\.13"):
        read_base_inputs("cpu", "2.7")
