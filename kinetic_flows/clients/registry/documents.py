"""Manifests and configurations of images, kept on this machine by their digests."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from kinetic_flows.core.files import write_atomically


class DocumentCache:
    """Documents that never change, because their names are their digests.

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
        return content if digest == f"sha256:{hashlib.sha256(content).hexdigest()}" else None

    def keep(self, digest: str, content: bytes) -> None:
        """Keep a document that was checked against its digest."""
        if self._directory is None:
            return
        path = self._path(self._directory, digest)
        with suppress(OSError):
            write_atomically(path, content)

    def _path(self, directory: Path, digest: str) -> Path:
        return directory / f"{digest.replace(':', '-')}.json"
