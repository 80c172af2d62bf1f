"""An image's manifest and configuration, from what it starts from and its layers. Pure.

See https://github.com/opencontainers/image-spec/blob/main/manifest.md and config.md. Docker's own
media types stay where the image it starts from has them: some tools refuse a mixture.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kinetic_flows.clients.registry.documents import digest_of
from kinetic_flows.images.assembly.layer_plan import LayerPlan
from kinetic_flows.images.assembly.spec import Assembly
from kinetic_flows.images.assembly.start import (
    DOCKER_MANIFEST,
    OCI_MANIFEST,
    StartImage,
    StartLayer,
)
from kinetic_flows.images.labels import LABEL_LAYERS
from kinetic_flows.images.layers.model import LayerBlob

CREATED = "1980-01-01T00:00:00Z"
"""When every image was made, so that equal ones are the same; also the time of all files."""

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_TYPES = {
    OCI_MANIFEST: (OCI_CONFIG, OCI_LAYER),
    DOCKER_MANIFEST: (
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ),
}
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_OF_THE_BUILDER = ("container", "container_config", "docker_version", "id", "parent")
_VARIABLE = re.compile(r"\$(?:(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\})")


@dataclass(frozen=True, kw_only=True)
class ImageLayer:
    """A layer of an image that there is.

    Attributes:
        plan: What it is.
        blob: Its digests and size.
    """

    plan: LayerPlan
    blob: LayerBlob


@dataclass(frozen=True, kw_only=True)
class ComposedImage:
    """An image's documents.

    Attributes:
        manifest: Its manifest.
        media_type: The manifest's media type.
        config: Its configuration.
    """

    manifest: bytes
    media_type: str
    config: bytes

    @property
    def digest(self) -> str:
        """Digest of its manifest (`sha256:…`)."""
        return digest_of(self.manifest)


def compose(
    assembly: Assembly, start: StartImage, kept: Sequence[StartLayer], layers: Sequence[ImageLayer]
) -> ComposedImage:
    """Return the documents of an image.

    Args:
        assembly: The image.
        start: What it starts from.
        kept: Which of those layers it has.
        layers: Its own layers, which come above them.
    """
    config = write_json(_config(assembly, start, kept, layers))
    config_type, layer_type = _TYPES.get(start.media_type, _TYPES[OCI_MANIFEST])
    manifest = {
        "schemaVersion": 2,
        "mediaType": start.media_type,
        "config": descriptor(config_type, digest_of(config), len(config)),
        "layers": [
            *(descriptor(item.media_type, item.blob.digest, item.blob.size_bytes) for item in kept),
            *(descriptor(layer_type, item.blob.digest, item.blob.size_bytes) for item in layers),
        ],
    }
    return ComposedImage(manifest=write_json(manifest), media_type=start.media_type, config=config)


def record_documents(
    plan: LayerPlan, blob: LayerBlob, known: Mapping[str, Any], platform: str
) -> ComposedImage:
    """Return the documents under which a registry keeps a single layer.

    Args:
        plan: What the layer is.
        blob: Its digests and size.
        known: What is to be known of what it holds, as plain JSON values.
        platform: uv's name of the platform.
    """
    config = write_json(
        {
            "created": CREATED,
            "architecture": architecture_of(platform),
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [blob.diff_id]},
            "history": [{"created": CREATED, "created_by": plan.to_history()}],
            "kinetic": {"tag": plan.tag, **known},
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, digest_of(config), len(config)),
        "layers": [descriptor(OCI_LAYER, blob.digest, blob.size_bytes)],
    }
    return ComposedImage(manifest=write_json(manifest), media_type=OCI_MANIFEST, config=config)


def architecture_of(platform: str) -> str:
    """Return what images call the architecture of uv's `x86_64-manylinux_2_36`."""
    machine = platform.partition("-")[0]
    return _ARCHITECTURES.get(machine, machine)


def descriptor(media_type: str, digest: str, size_bytes: int) -> dict[str, Any]:
    """Return how a manifest names a blob."""
    return {"mediaType": media_type, "digest": digest, "size": size_bytes}


def write_json(value: Any) -> bytes:
    """Return JSON without white space, its keys in the order they are given."""
    return json.dumps(value, separators=(",", ":")).encode()


def _config(
    assembly: Assembly, start: StartImage, kept: Sequence[StartLayer], layers: Sequence[ImageLayer]
) -> dict[str, Any]:
    known = {key: value for key, value in start.config.items() if key not in _OF_THE_BUILDER}
    diff_ids = [*(item.blob.diff_id for item in kept), *(item.blob.diff_id for item in layers)]
    return {
        "architecture": architecture_of(assembly.platform),
        "os": "linux",
        **known,
        "created": CREATED,
        "config": _settings(assembly, start.config.get("config") or {}),
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": list(_history(start, kept, layers)),
    }


def _settings(assembly: Assembly, known: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the image runs: what it starts with, changed as it is asked for."""
    labels = {**(known.get("Labels") or {}), **assembly.labels, LABEL_LAYERS: "1"}
    changed: dict[str, Any] = {"Labels": dict(sorted(labels.items()))}
    variables = dict(item.split("=", 1) for item in known.get("Env") or () if "=" in item)
    if assembly.environment:
        # Sorted, because an assembly that was sent elsewhere has them in that order.
        written = {
            name: _expanded(value, variables)
            for name, value in sorted(assembly.environment.items())
        }
        changed["Env"] = [f"{name}={value}" for name, value in {**variables, **written}.items()]
    if assembly.command is not None:
        changed["Cmd"] = list(assembly.command)
    return {**known, **changed}


def _expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return a value with `$NAME` and `${NAME}` replaced, as a Dockerfile's ENV has it."""
    return _VARIABLE.sub(lambda found: variables.get(found["name"] or found["braced"], ""), text)


def _history(
    start: StartImage, kept: Sequence[StartLayer], layers: Sequence[ImageLayer]
) -> Iterator[Mapping[str, Any]]:
    for layer in start.layers:
        for entry in layer.history:
            if layer in kept or entry.get("empty_layer"):
                yield entry
    yield from start.settings
    for item in layers:
        yield {"created": CREATED, "created_by": item.plan.to_history()}
