"""The image registry: one protocol, and the values of an image that exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from kinetic_flows.core.accelerators.model import Architecture


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """An image's manifest and configuration, as far as they decide how it runs.

    Attributes:
        platform: Operating system and architecture, such as `linux/amd64`.
        environment: Its ENV.
        entrypoint: Its ENTRYPOINT, which a run does not use; empty for none.
        user: Its USER; empty for root.
        working_directory: Its WORKDIR; empty for `/`.
        size_bytes: Compressed size of its layers, which is what a node pulls.
    """

    platform: str
    environment: Mapping[str, str]
    entrypoint: tuple[str, ...]
    user: str
    working_directory: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class ResolvedImage:
    """An image that exists.

    Attributes:
        reference: Its immutable reference.
        digest: Digest of its manifest, or of its index of platforms.
        labels: Its labels and annotations.
        config: How it runs; None where it is no image of a registry.
    """

    reference: str
    digest: str
    labels: Mapping[str, str]
    config: ImageConfig | None = None


class ImageRegistry(Protocol):
    """Resolves references to images, or locally to virtual environments."""

    def resolve(
        self, reference: str, *, architecture: Architecture = "amd64"
    ) -> ResolvedImage | None:
        """Return the image a reference names, or None when it is known not to exist.

        Every other answer (no access, registry down) is an `ImageError`.

        Args:
            reference: The image.
            architecture: Which variant of it, where it has several.
        """
        ...
