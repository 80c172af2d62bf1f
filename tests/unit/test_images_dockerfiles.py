"""Build contexts of project images, written out."""

from __future__ import annotations

import io
import tarfile
from hashlib import sha256

import pytest

from kinetic_flows.core.environment import EnvironmentSpec
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.images.bases import read_project_template
from kinetic_flows.images.dockerfiles import project_context, render

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
    first, second = (
        project_context(environment(), base="b", template="FROM {{base}}\nLABEL {{labels}}\n",
                        wheels={"b.whl": b"b", "a.whl": b"a"}, version="1")
        for _ in range(2)
    )  # fmt: skip

    assert first.archive() == second.archive()
    with tarfile.open(fileobj=io.BytesIO(first.archive())) as tar:
        assert tar.getnames() == sorted(first.files)
        assert {entry.mtime for entry in tar} == {0}


def test_a_template_and_its_values_must_agree() -> None:
    with pytest.raises(ImageError, match="tail"):
        render("FROM {{base}} {{tail}}", {"base": "a"})
    with pytest.raises(ImageError, match="extra"):
        render("FROM {{base}}", {"base": "a", "extra": "b"})
