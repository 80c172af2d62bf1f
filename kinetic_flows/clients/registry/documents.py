"""Manifests and configurations, which never change, because their names are their digests."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from kinetic_flows.clients.registry.errors import raise_unless_ok, spoilt
from kinetic_flows.clients.registry.http import RegistryTransport
from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.image_reference import ImageReference

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ALL_TYPES = (*INDEX_TYPES, *MANIFEST_TYPES)
"""Without all four an image that exists looks missing, or answers with another digest."""


def digest_of(content: bytes) -> str:
    """Return the digest by which a registry knows some content."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class DocumentCache:
    """Documents by their digests, on this machine.

    It saves requests and nothing depends on it: what cannot be read or written is fetched.

    Args:
        directory: Where they are kept; None to keep none.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    def read(self, digest: str) -> bytes | None:
        """Return the document with a digest (`sha256:…`); None when it is not here, or spoilt."""
        if self._directory is None:
            return None
        try:
            content = self._path(self._directory, digest).read_bytes()
        except OSError:
            return None
        return content if digest == digest_of(content) else None

    def keep(self, digest: str, content: bytes) -> None:
        """Keep a document that was checked against its digest."""
        if self._directory is None:
            return
        path = self._path(self._directory, digest)
        with suppress(OSError):
            write_atomically(path, content)

    def fetch(
        self, transport: RegistryTransport, image: ImageReference, kind: str, digest: str
    ) -> bytes:
        """Return a document by its digest, from the registry unless it was seen before.

        Args:
            transport: Asks the registry.
            image: Whose repository has it.
            kind: `manifests` or `blobs`.
            digest: Its digest.

        Raises:
            ImageError: The registry refuses it, or sends something else.
            RegistryUnreachable: No usable answer came.
        """
        known = self.read(digest)
        if known is not None:
            return known
        answer = transport.ask("GET", image, f"{kind}/{digest}", ALL_TYPES)
        raise_unless_ok(image, answer)
        if digest != digest_of(answer.body):
            raise spoilt(image, digest)
        self.keep(digest, answer.body)
        return answer.body

    def _path(self, directory: Path, digest: str) -> Path:
        return directory / f"{digest.replace(':', '-')}.json"
