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

from kinetic_flows.images.bases import UPSTREAM
from loopback.lifted_python import MINOR

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
        files: Mapping[str, bytes] | None = None,
    ) -> str:
        """Push an image of one tiny layer, and return its digest.

        Args:
            tag: Its tag.
            labels: Its labels.
            environment: Its ENV.
            architecture: What it says that it is for.
            files: What is in its layer; None for one empty file.
        """
        plain = _layer(files or {"empty": b""})
        variables = [f"{name}={value}" for name, value in (environment or {}).items()]
        config = {
            "os": "linux",
            "architecture": architecture,
            "config": {"Labels": dict(labels), "Env": variables},
            "rootfs": {"type": "layers", "diff_ids": [_digest(plain)]},
        }
        layer, config_bytes = gzip.compress(plain, mtime=0), _json(config)
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


def push_python_image(registry_url: str) -> None:
    """Push what stands for Docker Hub's image of Python, that bases start from."""
    path, _, tag = UPSTREAM.format(python=MINOR).partition("/")[2].rpartition(":")
    Pusher(registry_url, path).push_image(tag, {})


def _layer(files: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
