"""The image that an assembly starts from: its layers, and which packages they hold. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from kinetic_flows.core.errors import ImageError
from kinetic_flows.images.assembly.layer_plan import LayerPlan, read_history
from kinetic_flows.images.inspection import PYTHON_VARIABLE
from kinetic_flows.images.labels import LABEL_LAYERS
from kinetic_flows.images.layers.model import LayerBlob

Json: TypeAlias = Mapping[str, Any]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, kw_only=True)
class StartLayer:
    """A layer of the image that an assembly starts from.

    Attributes:
        blob: Its digests and size.
        media_type: Its media type.
        plan: What it is, where the image was assembled; None for a layer of somebody else.
        history: The entries of the image's history that belong to it: its own, and those of
            settings before it.
    """

    blob: LayerBlob
    media_type: str
    plan: LayerPlan | None
    history: tuple[Json, ...]


@dataclass(frozen=True, kw_only=True)
class StartImage:
    """The image that an assembly starts from.

    Attributes:
        name: Its name, without tag and digest; empty for nothing.
        digest: Digest of its manifest for the platform; empty for nothing.
        media_type: Media type of its manifest.
        config: Its configuration.
        layers: Its layers, the lowest first.
        settings: What its history tells of settings after the last layer.
    """

    name: str = ""
    digest: str = ""
    media_type: str = OCI_MANIFEST
    config: Json = field(default_factory=dict)
    layers: tuple[StartLayer, ...] = ()
    settings: tuple[Json, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}@{self.digest}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that it sets."""
        settings = self.config.get("config") or {}
        return dict(item.split("=", 1) for item in settings.get("Env") or () if "=" in item)

    @property
    def python(self) -> str:
        """The minor version of Python that it says it has; empty where it does not say."""
        return ".".join(self.variables.get(PYTHON_VARIABLE, "").split(".")[:2])

    @property
    def is_assembled(self) -> bool:
        """Whether it was assembled from layers, and nobody put one of another kind on top."""
        labels = (self.config.get("config") or {}).get("Labels") or {}
        if LABEL_LAYERS not in labels:
            return False
        ours = [layer.plan is not None for layer in self.layers]
        return any(ours) and all(ours[ours.index(True) :])


def read_start(name: str, digest: str, manifest: bytes, config: bytes) -> StartImage:
    """Read an image from its manifest and its configuration.

    Args:
        name: Its name, without tag and digest.
        digest: Digest of the manifest.
        manifest: The manifest, of one platform.
        config: Its configuration.

    Raises:
        ImageError: They contradict one another, or are not what they should be.
    """
    try:
        return _read(name, digest, json.loads(manifest), json.loads(config))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(f"{name}@{digest}", f"{type(error).__name__}: {error}") from error


def _read(name: str, digest: str, manifest: Json, config: Json) -> StartImage:
    layers, diff_ids = manifest["layers"], config["rootfs"]["diff_ids"]
    if len(layers) != len(diff_ids):
        raise _damaged(f"{name}@{digest}", f"{len(layers)} layers, {len(diff_ids)} diff ids")
    entries, settings = _history_of_layers(config.get("history") or (), len(layers), name)
    return StartImage(
        name=name,
        digest=digest,
        media_type=str(manifest.get("mediaType") or OCI_MANIFEST),
        config=config,
        layers=tuple(
            _read_layer(layer, str(diff_id), history)
            for layer, diff_id, history in zip(layers, diff_ids, entries, strict=True)
        ),
        settings=settings,
    )


def _read_layer(layer: Json, diff_id: str, history: tuple[Json, ...]) -> StartLayer:
    return StartLayer(
        blob=LayerBlob(digest=str(layer["digest"]), diff_id=diff_id, size_bytes=int(layer["size"])),
        media_type=str(layer["mediaType"]),
        plan=read_history(str(history[-1].get("created_by") or "")),
        history=history,
    )


def _history_of_layers(
    history: Sequence[Json], count: int, name: str
) -> tuple[list[tuple[Json, ...]], tuple[Json, ...]]:
    """Return the entries of each layer, and those that come after the last one."""
    entries: list[tuple[Json, ...]] = []
    gathered: list[Json] = []
    for entry in history:
        gathered.append(entry)
        if not entry.get("empty_layer"):
            entries.append(tuple(gathered))
            gathered = []
    if len(entries) != count:
        # Some builders leave the history out, or tell of other layers than there are.
        return [({"created_by": f"a layer of {name}"},)] * count, ()
    return entries, tuple(gathered)


def _damaged(image: str, why: str) -> ImageError:
    return ImageError(
        f"the image {image} cannot be read: {why}",
        value=image,
        hint="it is damaged, or no image: build or push it again",
    )
