"""A TPU base image without the gigabytes: everything of the real one but the accelerator runtime.

It is built from the real template and the real lock, of which only the packages that would need
a TPU, or gigabytes, are stood in for by their metadata: uv then takes them for installed, in the
versions that the lock names, and projects are built on top as they would be anywhere.
"""

from __future__ import annotations

import io
import re
import shutil
import tarfile
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.images.bases import BaseInputs, read_base_inputs, read_bootstrap
from kinetic_flows.images.dockerfiles import base_context
from kinetic_flows.images.tags import base_image
from loopback.cloud import LoopbackCloud
from loopback.lifted_python import MINOR

STOOD_IN_FOR = frozenset({"jax", "jaxlib", "libtpu", "ml-dtypes", "numpy", "opt-einsum", "scipy"})

_BLOCK = re.compile(r"(?m)^(?P<name>[a-z0-9][\w.-]*)==(?P<version>\S+)(?:.*\\\n)*.*\n?")


def push_small_base(cloud: LoopbackCloud, repository: str, category: Category) -> str:
    """Build a small base image into a repository, and return its tag.

    Args:
        cloud: Where it is built and kept.
        repository: The repository, as `KINETIC_BASE_IMAGE_REPO` would name it.
        category: Kind of accelerator it claims to be for.
    """
    inputs, tag = read_base_inputs(category, MINOR), version("kinetic-flows")
    reference = f"{base_image(repository, category)}:{tag}"
    directory = Path(tempfile.mkdtemp(prefix="kn-base-"))
    context = base_context(_light(inputs), bootstrap=read_bootstrap(), version=tag)
    with tarfile.open(fileobj=io.BytesIO(context.archive())) as archive:
        archive.extractall(directory, filter="data")
    dockerfile = directory / "Dockerfile"
    _write_metadata(inputs, directory / "metadata")
    site = f"/usr/local/lib/python{MINOR}/site-packages/"
    dockerfile.write_text(f"{dockerfile.read_text()}\nCOPY metadata/ {site}\n")
    cloud.containers.run("buildah", "bud", "--tag", reference, str(directory))
    shutil.rmtree(directory)
    _, _, path = reference.partition("/")
    cloud.containers.run(
        *("buildah", "push", "--tls-verify=false", reference),
        f"docker://{cloud.registry.host}/{path}",
    )
    return tag


def _light(inputs: BaseInputs) -> BaseInputs:
    """Leave out of the lock what is stood in for."""

    def keep(block: re.Match[str]) -> str:
        return "" if block["name"] in STOOD_IN_FOR else block[0]

    return replace(inputs, lock=_BLOCK.sub(keep, inputs.lock))


def _write_metadata(inputs: BaseInputs, directory: Path) -> None:
    for block in _BLOCK.finditer(inputs.lock):
        if block["name"] in STOOD_IN_FOR:
            name, number = block["name"].replace("-", "_"), block["version"]
            folder = directory / f"{name}-{number}.dist-info"
            folder.mkdir(parents=True)
            metadata = f"Metadata-Version: 2.1\nName: {block['name']}\nVersion: {number}\n"
            (folder / "METADATA").write_text(metadata)
            (folder / "INSTALLER").write_text("loopback\n")
            (folder / "RECORD").write_text("")
