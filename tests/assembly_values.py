"""Assemblies, wheels and images as plain values, for tests of what is decided about them."""

from __future__ import annotations

import json
from typing import Any

from kinetic_flows.clients.registry.documents import digest_of
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.assembly.compose import ImageLayer, compose
from kinetic_flows.images.assembly.plan import plan_image
from kinetic_flows.images.assembly.spec import Assembly, Start
from kinetic_flows.images.assembly.start import DOCKER_MANIFEST, StartImage, read_start
from kinetic_flows.images.layers.model import LayerBlob, WheelFacts

PURE, LIBRARY, BOUND = "py3-none-any", "py3-none-manylinux_2_17_x86_64", "cp311-cp311-linux_x86_64"


def wheel(
    name: str, tag: str = BOUND, *, version: str = "1.0", size_bytes: int = 1000
) -> WheelFile:
    return WheelFile(
        name=name,
        version=version,
        filename=f"{name}-{version}-{tag}.whl",
        sha256=Sha256(sha256_hex(f"{name} {version} {tag}".encode())),
        size_bytes=size_bytes,
    )


def image(*wheels: WheelFile, starts_from: Start = "base", **more: Any) -> Assembly:
    return Assembly(
        reference="host/repo/app:tag",
        layers="host/repo/layers",
        start="" if starts_from == "nothing" else f"host/repo/base@sha256:{'0' * 64}",
        starts_from=starts_from,
        python="3.11",
        platform="x86_64-manylinux_2_36",
        wheels=wheels,
        **more,
    )


def blob(text: str) -> LayerBlob:
    digest = digest_of(text.encode())
    return LayerBlob(digest=digest, diff_id=digest, size_bytes=len(text))


def upstream(layers: int = 2, **settings: Any) -> StartImage:
    """An image of Python as Docker Hub has it."""
    blobs = [blob(f"upstream {number}") for number in range(layers)]
    history: list[dict[str, Any]] = [{"created_by": "ENV", "empty_layer": True}]
    history += [{"created_by": f"RUN {number}"} for number in range(layers)]
    history += [{"created_by": "CMD", "empty_layer": True}]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2025-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/usr/local/bin:/bin", "PYTHON_VERSION=3.11.9"], **settings},
        "rootfs": {"type": "layers", "diff_ids": [item.diff_id for item in blobs]},
        "history": history,
    }
    return from_documents(blobs, config)


def from_documents(
    blobs: list[LayerBlob], config: dict[str, Any], media_type: str = DOCKER_MANIFEST
) -> StartImage:
    described = [
        {"mediaType": "layer", "digest": item.digest, "size": item.size_bytes} for item in blobs
    ]
    manifest = json.dumps({"mediaType": media_type, "layers": described}).encode()
    return read_start("host/repo/base", digest_of(manifest), manifest, json.dumps(config).encode())


def assembled(assembly: Assembly, start: StartImage) -> StartImage:
    """Return the image that an assembly makes, as one to start from."""
    plan = plan_image(assembly, start)
    layers = [ImageLayer(plan=layer, blob=blob(layer.tag)) for layer in plan.added]
    made = compose(assembly, start, plan.kept, layers)
    return read_start("host/repo/base", made.digest, made.manifest, made.config)


def base(*wheels: WheelFile) -> StartImage:
    return assembled(image(*wheels, starts_from="upstream", files={"/app/x": b"x"}), upstream())


def facts_of(file: WheelFile, **more: Any) -> WheelFacts:
    known: dict[str, Any] = {
        "requires": (),
        "requires_python": "",
        "files": {},
        "source_bytes": 0,
        **more,
    }
    return WheelFacts(name=file.name, version=file.version, sha256=file.sha256, **known)
