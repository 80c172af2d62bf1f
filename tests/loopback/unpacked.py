"""Trees of images in a registry on this machine, for pods that are processes of it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import httpx

from loopback.kubernetes.image_volumes import Unpack
from loopback.small_images import MANIFEST


def unpacker(registry_url: str) -> Unpack:
    """Return what makes the tree of an image, whatever registry its reference names.

    Args:
        registry_url: The open registry that has it. Its layers take nothing away.
    """

    def unpack(image: str, directory: Path) -> None:
        path, _, digest = image.partition("/")[2].partition("@")
        base = f"{registry_url}/v2/{path}"
        found = httpx.get(f"{base}/manifests/{digest}", headers={"Accept": MANIFEST})
        directory.mkdir(parents=True)
        for layer in found.raise_for_status().json()["layers"]:
            blob = httpx.get(f"{base}/blobs/{layer['digest']}").raise_for_status().content
            with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as archive:
                archive.extractall(directory, filter="tar")

    return unpack
