"""A TPU base image without the gigabytes: everything of the real one but the accelerator runtime.

It is assembled from the real lock, of which only the packages that would need a TPU, or
gigabytes, are stood in for by wheels of metadata alone: they are there in the versions that the
lock names, and projects are put on top as they would be anywhere. The image says that it has the
wheels that are stood in for: a project, whose lock has them too, would bring them along else.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

from kinetic_flows.clients.registry.images import OciRegistry
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.accelerators.model import Category
from kinetic_flows.core.accelerators.packages import pins_of
from kinetic_flows.core.image_reference import parse_reference
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.wheel_file import WheelFile, WheelSource
from kinetic_flows.dependencies.wheel_files import WheelDownloads, choose_wheels
from kinetic_flows.images.assembly.assemble import assemble
from kinetic_flows.images.assembly.bases import base_assembly, base_labels
from kinetic_flows.images.bases import PLATFORM, BaseInputs, read_base_inputs
from kinetic_flows.images.tags import base_image
from loopback.cloud import LoopbackCloud
from loopback.lifted_python import MINOR
from loopback.small_wheels import make_wheel

STOOD_IN_FOR = frozenset({"jax", "jaxlib", "libtpu", "ml-dtypes", "numpy", "opt-einsum", "scipy"})


@dataclass(frozen=True, kw_only=True)
class WheelsHere:
    """Wheels in a directory, and all others from where they come from."""

    directory: Path
    others: WheelSource

    def fetch(self, wheel: WheelFile) -> Path:
        here = self.directory / wheel.filename
        return here if here.is_file() else self.others.fetch(wheel)


def push_small_base(cloud: LoopbackCloud, repository: str, category: Category) -> str:
    """Assemble a small base image into a repository, and return its tag.

    Args:
        cloud: Where it is kept.
        repository: The repository, as `KINETIC_BASE_IMAGE_REPO` would name it.
        category: Kind of accelerator it claims to be for.
    """
    inputs, tag = read_base_inputs(category, MINOR), version("kinetic-flows")
    endpoints = {repository.partition("/")[0]: cloud.registry.url, "docker.io": cloud.registry.url}
    with (
        tempfile.TemporaryDirectory(prefix="kn-base-") as directory,
        closing(OciRegistry(endpoints=endpoints)) as registry,
        closing(RegistryWriter(endpoints=endpoints)) as writer,
    ):
        home = Path(directory)
        upstream = registry.resolve(inputs.upstream)
        assert upstream is not None
        stood_in = _stand_ins(inputs, home)
        names = {wheel.name for wheel in stood_in}
        chosen = choose_wheels(
            inputs.lock, python=MINOR, platform=PLATFORM, home=home, environ=os.environ
        )
        assembly = base_assembly(
            inputs,
            repository=repository,
            references=(f"{base_image(repository, category)}:{tag}",),
            upstream=upstream.reference,
            wheels=[*stood_in, *(each for each in chosen.wheels if each.name not in names)],
            labels=base_labels(inputs, tag),
        )
        assemble(
            assembly,
            writer,
            WheelsHere(directory=home, others=WheelDownloads(home, os.environ)),
            home=home,
            environ=os.environ,
            on_output=lambda _: None,
        )
        meant = {wheel.name: wheel.sha256 for wheel in chosen.wheels}
        _claim(writer, assembly.reference, {each.sha256: meant[each.name] for each in stood_in})
    return tag


def _claim(writer: RegistryWriter, reference: str, meant: Mapping[str, str]) -> None:
    """Have an image say that it has other wheels than it has, by their digests."""
    manifest, name = writer.manifest(reference), parse_reference(reference).name
    assert manifest is not None
    document = json.loads(manifest.content)
    text = writer.document(name, document["config"]["digest"]).decode()
    for digest, other in meant.items():
        assert digest in text
        text = text.replace(digest, other)
    config = text.encode()
    digest = f"sha256:{sha256_hex(config)}"
    writer.upload(name, digest, len(config), lambda start: closing(BytesIO(config[start:])))
    document["config"] |= {"digest": digest, "size": len(config)}
    writer.put_manifest(reference, json.dumps(document).encode(), manifest.media_type)


def _stand_ins(inputs: BaseInputs, directory: Path) -> Sequence[WheelFile]:
    pins = (pin.split("==") for pin in pins_of(inputs.lock))
    return [make_wheel(directory, name, number) for name, number in pins if name in STOOD_IN_FOR]
