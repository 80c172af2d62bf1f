"""Images of a few bytes, pushed over the distribution API without any builder."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

import httpx

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


class Pusher:
    """Pushes to one repository of an open registry.

    Args:
        url: The registry.
        repository: Path of the image.
    """

    def __init__(self, url: str, repository: str) -> None:
        self._base = f"{url}/v2/{repository}"

    def push_image(
        self,
        tag: str,
        labels: Mapping[str, str],
        *,
        environment: Mapping[str, str] | None = None,
        architecture: str = "amd64",
    ) -> str:
        """Push an image of one tiny layer, and return its digest."""
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        config = {
            "os": "linux",
            "architecture": architecture,
            "config": {"Labels": dict(labels), "Env": variables},
            "rootfs": {"type": "layers", "diff_ids": []},
        }
        layer, config_bytes = _layer(), _json(config)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                **self._push_blob(config_bytes),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    **self._push_blob(layer),
                }
            ],
        }
        return self.push_manifest(tag, MANIFEST, _json(manifest))

    def push_index(self, tag: str, entries: Mapping[str, str]) -> str:
        """Push an index of images by their architecture, and return its digest."""
        manifests = [
            {
                "mediaType": MANIFEST,
                "digest": digest,
                "size": 1,
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture, digest in entries.items()
        ]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        return self.push_manifest(tag, INDEX, _json(index))

    def push_manifest(self, tag: str, media_type: str, content: bytes) -> str:
        answer = httpx.put(
            f"{self._base}/manifests/{tag}", content=content, headers={"Content-Type": media_type}
        )
        answer.raise_for_status()
        return _digest(content)

    def _push_blob(self, content: bytes) -> dict[str, Any]:
        started = httpx.post(f"{self._base}/blobs/uploads/")
        started.raise_for_status()
        location = httpx.URL(self._base).join(started.headers["Location"])
        url = location.copy_merge_params({"digest": _digest(content)})
        httpx.put(url, content=content).raise_for_status()
        return {"digest": _digest(content), "size": len(content)}


def _layer() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    return gzip.compress(archive.getvalue(), mtime=0)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
