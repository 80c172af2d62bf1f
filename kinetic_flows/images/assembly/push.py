"""Pushing an assembled image: its manifest first tried as if the registry had all of it.

Mostly it has: registries keep a layer once for a whole repository, and an image of one's own had
most of them before. What it lacks it says.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial

from kinetic_flows.clients.registry.documents import digest_of
from kinetic_flows.clients.registry.errors import UnknownBlobs
from kinetic_flows.clients.registry.repository import RegistryWriter
from kinetic_flows.core.image_reference import parse_reference
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.images.assembly.compose import ComposedImage, ImageLayer
from kinetic_flows.images.assembly.records import REQUESTS_AT_A_TIME
from kinetic_flows.images.assembly.start import StartImage, StartLayer
from kinetic_flows.images.assembly.workshop import Sending, Workshop, open_at

TRIES = 3
"""How often a manifest is sent, each time with what the registry said that it lacks."""


class LayersLost(Exception):
    """The registry lost layers that it has records of.

    Args:
        layers: The layers.
    """

    def __init__(self, layers: Sequence[ImageLayer]) -> None:
        super().__init__(", ".join(layer.plan.title for layer in layers))
        self.layers = tuple(layers)


@dataclass(frozen=True, kw_only=True)
class Push:
    """An image to be pushed.

    Attributes:
        image: Its documents.
        start: What it starts from.
        kept: The layers of that which it has.
        layers: Its own layers.
        shop: What the layers were made with.
    """

    image: ComposedImage
    start: StartImage
    kept: Sequence[StartLayer]
    layers: Sequence[ImageLayer]
    shop: Workshop

    def to(self, reference: str) -> None:
        """Push the image under a name.

        Args:
            reference: The name, with a tag.

        Raises:
            LayersLost: The registry has layers no more.
            ImageError: It refuses the image, or keeps another one.
        """
        name, registry = parse_reference(reference).name, self._registry
        registry.upload_document(name, self.image.config)
        for number in range(TRIES - 1):
            try:
                registry.put_manifest(reference, self.image.manifest, self.image.media_type)
            except UnknownBlobs as unknown:
                # Some name only the first one that they lack.
                rest = self._lacking(name) if number or not unknown.digests else frozenset()
                self._provide(name, {*unknown.digests, *rest})
            else:
                return
        registry.put_manifest(reference, self.image.manifest, self.image.media_type)

    @property
    def _registry(self) -> RegistryWriter:
        return self.shop.registry

    @property
    def _parts(self) -> list[StartLayer | ImageLayer]:
        return [*self.kept, *self.layers]

    def _provide(self, name: str, missing: Collection[str]) -> None:
        """Have an image's repository get the blobs that it lacks."""
        if digest_of(self.image.config) in missing:
            self._registry.upload_document(name, self.image.config)
        wanted = [item for item in self._parts if item.blob.digest in missing]
        found = in_threads(partial(self._give, name), wanted, threads=REQUESTS_AT_A_TIME)
        lost = [layer for layer in found if layer is not None]
        if lost:
            raise LayersLost(lost)

    def _give(self, name: str, layer: StartLayer | ImageLayer) -> ImageLayer | None:
        """Have an image's repository get a layer; return one of ours that is lost."""
        with self.shop.talk.together():
            if isinstance(layer, ImageLayer):
                return self._take(name, layer)
            self._copy(name, layer)
            return None

    def _lacking(self, name: str) -> frozenset[str]:
        """Return which blobs a repository lacks, where the registry does not name all."""
        digests = [item.blob.digest for item in self._parts]
        digests.append(digest_of(self.image.config))
        has = in_threads(
            partial(self._registry.has_blob, name), digests, threads=REQUESTS_AT_A_TIME
        )
        return frozenset(digest for digest, there in zip(digests, has, strict=True) if not there)

    def _copy(self, name: str, layer: StartLayer) -> None:
        """Have a repository get a layer of the image that this one starts from."""
        title = f"layer of {self.start.name}"
        sending = Sending(title, layer.blob.size_bytes, self.shop.talk)
        blob = layer.blob
        if not self._registry.mount(name, blob.digest, self.start.name):
            self._registry.copy(name, blob.digest, blob.size_bytes, self.start.name, sending)
            sending.end()

    def _take(self, name: str, layer: ImageLayer) -> ImageLayer | None:
        """Have a repository get a layer from the one that keeps them; return one that it lost."""
        source, blob = self.shop.assembly.layers, layer.blob
        if self._registry.mount(name, blob.digest, source):
            return None
        sending = Sending(f"layer {layer.plan.title}", blob.size_bytes, self.shop.talk)
        file = self.shop.kept_file(layer.plan.tag, blob.digest)
        if file is not None:
            opened = partial(open_at, file)
            self._registry.upload(name, blob.digest, blob.size_bytes, opened, sending)
        elif not self._registry.has_blob(source, blob.digest):
            return layer
        else:
            self._registry.copy(name, blob.digest, blob.size_bytes, source, sending)
        sending.end()
        return None
