"""Images in an OCI registry: whether they exist, under which digest, and what they say.

See https://github.com/opencontainers/distribution-spec/blob/main/spec.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from kinetic_flows.clients.registry.connections import RegistryLimits
from kinetic_flows.clients.registry.credentials import CredentialSource, FirstFound
from kinetic_flows.clients.registry.documents import ALL_TYPES, DocumentCache, digest_of
from kinetic_flows.clients.registry.errors import (
    NAME_UNKNOWN,
    answered,
    error_codes,
    no_repository,
    raise_unless_ok,
)
from kinetic_flows.clients.registry.http import RegistryTransport, Sleep
from kinetic_flows.core.accelerators.model import Architecture
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.image_reference import ImageReference, parse_reference
from kinetic_flows.core.image_registry import ImageConfig, ResolvedImage
from kinetic_flows.core.interruption import pause

_Json: TypeAlias = dict[str, Any]


class OciRegistry:
    """Looks images up in whatever registry their references name.

    Args:
        credentials: Where credentials come from; None to ask without any.
        endpoints: Other URLs for registries, by host: mirrors and private endpoints.
        limits: How patient to be.
        sleep: Waits between tries.
        documents: Directory that keeps manifests and configurations by their digests, so that
            an image seen before costs one request; None to keep none.
    """

    def __init__(
        self,
        *,
        credentials: CredentialSource | None = None,
        endpoints: Mapping[str, str] | None = None,
        limits: RegistryLimits | None = None,
        sleep: Sleep = pause,
        documents: Path | None = None,
    ) -> None:
        self._documents = DocumentCache(documents)
        self._limits = limits or RegistryLimits()
        self._transport = RegistryTransport(
            credentials=credentials or FirstFound(sources=()),
            endpoints=endpoints or {},
            limits=self._limits,
            sleep=sleep,
        )

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def resolve(
        self, reference: str, *, architecture: Architecture = "amd64"
    ) -> ResolvedImage | None:
        """Return the image a reference names, or None when its repository has no such image.

        Args:
            reference: The image.
            architecture: Which variant of it is described, where it has several.

        Raises:
            ImageError: The reference is malformed, its repository does not exist or cannot be
                read, or the registry gives no usable answer.
        """
        image = parse_reference(reference)
        return answered(image, self._limits, lambda: self._resolve(image, architecture))

    def _resolve(self, image: ImageReference, architecture: str) -> ResolvedImage | None:
        head = self._transport.ask("HEAD", image, f"manifests/{image.version}", ALL_TYPES)
        if head.status == 404:
            return self._explain_missing(image, architecture)
        raise_unless_ok(image, head)
        digest = head.headers.get("docker-content-digest") or self._digest_of(image)
        found = image.at(digest)
        manifest = self._manifest(found, architecture)
        config = self._config(found, manifest)
        labels = {**_texts((config.get("config") or {}).get("Labels")), **_annotations(manifest)}
        return ResolvedImage(
            reference=str(found),
            digest=digest,
            labels=labels,
            config=_image_config(config, manifest) if config else None,
        )

    def _explain_missing(self, image: ImageReference, architecture: str) -> ResolvedImage | None:
        """Tell a missing image from a missing repository, which a HEAD cannot say."""
        answer = self._transport.ask("GET", image, f"manifests/{image.version}", ALL_TYPES)
        if answer.status == 200:  # it has just been pushed
            return self._resolve(image, architecture)
        codes = error_codes(answer)
        if answer.status == 404 and "MANIFEST_UNKNOWN" in codes:
            return None
        if answer.status == 404 and NAME_UNKNOWN in codes:
            raise no_repository(image)
        raise_unless_ok(image, answer)
        return None

    def _digest_of(self, image: ImageReference) -> str:
        """Compute the digest of a manifest whose registry does not tell it."""
        answer = self._transport.ask("GET", image, f"manifests/{image.version}", ALL_TYPES)
        raise_unless_ok(image, answer)
        return digest_of(answer.body)

    def _manifest(self, image: ImageReference, architecture: str) -> _Json:
        """Return the manifest for the nodes, looking into an index if it is one."""
        manifest = self._fetch(image, "manifests", str(image.digest))
        entries = manifest.get("manifests")
        if not isinstance(entries, list):
            return manifest
        wanted = f"linux/{architecture}"
        variants = {_platform(item.get("platform") or {}): str(item["digest"]) for item in entries}
        if wanted in variants:
            chosen = self._fetch(image, "manifests", variants[wanted])
            return {**chosen, "annotations": {**_annotations(manifest), **_annotations(chosen)}}
        has = ", ".join(sorted(name for name in variants if not name.startswith("unknown")))
        raise ImageError(
            f"the image {image} has no variant for {wanted}; it has {has or 'none at all'}",
            value=str(image),
            hint=f"build it with: docker buildx build --platform {wanted}",
        )

    def _config(self, image: ImageReference, manifest: _Json) -> _Json:
        digest = str((manifest.get("config") or {}).get("digest") or "")
        return self._fetch(image, "blobs", digest) if digest else {}

    def _fetch(self, image: ImageReference, kind: str, digest: str) -> _Json:
        """Return a JSON document by its digest, from the registry unless it was seen before."""
        known = self._documents.fetch(self._transport, image, kind, digest)
        content = json.loads(known)
        return content if isinstance(content, dict) else {}


def _annotations(manifest: _Json) -> dict[str, str]:
    return _texts(manifest.get("annotations"))


def _texts(found: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in (found or {}).items()}


def _platform(described: _Json) -> str:
    """Write a platform as Docker does; see the OCI image index specification."""
    return f"{described.get('os', 'unknown')}/{described.get('architecture', 'unknown')}"


def _image_config(config: _Json, manifest: _Json) -> ImageConfig:
    """Read https://github.com/opencontainers/image-spec/blob/main/config.md."""
    runs = config.get("config") or {}
    variables = (str(item).partition("=") for item in runs.get("Env") or ())
    return ImageConfig(
        platform=_platform(config),
        environment={name: value for name, _, value in variables},
        entrypoint=tuple(str(part) for part in runs.get("Entrypoint") or ()),
        user=str(runs.get("User") or ""),
        working_directory=str(runs.get("WorkingDir") or ""),
        size_bytes=sum(int(layer.get("size") or 0) for layer in manifest.get("layers") or ()),
    )
