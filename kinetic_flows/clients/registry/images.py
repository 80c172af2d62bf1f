"""Images in an OCI registry: whether they exist, under which digest, and what they say.

See https://github.com/opencontainers/distribution-spec/blob/main/spec.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from kinetic_flows.clients.deadlines import DeadlineExceeded, call_with_deadline
from kinetic_flows.clients.registry.credentials import CredentialSource, FirstFound
from kinetic_flows.clients.registry.http import (
    Answer,
    RegistryLimits,
    RegistryTransport,
    RegistryUnreachable,
    Sleep,
)
from kinetic_flows.core.accelerators.model import Architecture
from kinetic_flows.core.errors import ImageError, RegistryAccessError, RepositoryNotFoundError
from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.image_reference import (
    DOCKER_HUB,
    ImageReference,
    artifact_registry_location,
    parse_reference,
)
from kinetic_flows.core.image_registry import ImageConfig, ResolvedImage
from kinetic_flows.core.interruption import pause

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
        try:
            return call_with_deadline(
                lambda: self._resolve(image, architecture), self._limits.total_seconds
            )
        except (RegistryUnreachable, DeadlineExceeded) as error:
            raise ImageError(
                f"the registry {image.registry} cannot be asked for {image}: {error}",
                value=reference,
                hint="check the network and the registry's status, and run again",
            ) from error

    def _resolve(self, image: ImageReference, architecture: str) -> ResolvedImage | None:
        head = self._transport.ask("HEAD", image, f"manifests/{image.version}", ALL_TYPES)
        if head.status == 404:
            return self._explain_missing(image, architecture)
        _raise_unless_ok(image, head)
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
        codes = _error_codes(answer)
        if answer.status == 404 and "MANIFEST_UNKNOWN" in codes:
            return None
        if answer.status == 404 and "NAME_UNKNOWN" in codes:
            raise _no_repository(image)
        _raise_unless_ok(image, answer)
        return None

    def _digest_of(self, image: ImageReference) -> str:
        """Compute the digest of a manifest whose registry does not tell it."""
        answer = self._transport.ask("GET", image, f"manifests/{image.version}", ALL_TYPES)
        _raise_unless_ok(image, answer)
        return f"sha256:{hashlib.sha256(answer.body).hexdigest()}"

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
        known = self._documents.read(digest)
        if known is None:
            answer = self._transport.ask("GET", image, f"{kind}/{digest}", ALL_TYPES)
            _raise_unless_ok(image, answer)
            known = answer.body
            if digest != f"sha256:{hashlib.sha256(known).hexdigest()}":
                raise ImageError(
                    f"the registry {image.registry} sent something else than {image.name}@{digest}",
                    value=str(image),
                    hint="a proxy or a mirror spoils its answers; nothing of it was used",
                )
            self._documents.keep(digest, known)
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


def _error_codes(answer: Answer) -> set[str]:
    """Return the error codes in an answer's body."""
    try:
        errors = json.loads(answer.body)["errors"]
        return {str(item.get("code")) for item in errors}
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()


def _raise_unless_ok(image: ImageReference, answer: Answer) -> None:
    if answer.status == 200:
        return
    if answer.status in (401, 403):
        raise _no_access(image, answer.status)
    raise ImageError(
        f"the registry {image.registry} answered {answer.status} for {image}",
        value=str(image),
        hint="check that the reference is right and that its host is an image registry",
    )


def _no_repository(image: ImageReference) -> RepositoryNotFoundError:
    location = artifact_registry_location(image.registry)
    project, _, rest = image.repository.partition("/")
    repository = rest.partition("/")[0]
    hint = f"create it in {image.registry}, or correct the reference"
    if location and repository:
        hint = (
            f"create it with: gcloud artifacts repositories create {repository} "
            f"--repository-format=docker --location={location} --project={project}"
        )
    message = f"the repository of {image} does not exist"
    return RepositoryNotFoundError(message, value=str(image), hint=hint)


def _no_access(image: ImageReference, status: int) -> RegistryAccessError:
    if image.registry == DOCKER_HUB:
        return RegistryAccessError(
            f"Docker Hub has no image {image.repository} that this account may read: "
            "the repository does not exist, or it is private",
            value=str(image),
            hint="check its spelling, or log in with: docker login",
        )
    location = artifact_registry_location(image.registry)
    hint = f"log in with: docker login {image.registry}"
    if location:
        project, _, rest = image.repository.partition("/")
        hint = (
            "grant it with: gcloud artifacts repositories add-iam-policy-binding "
            f"{rest.partition('/')[0]} --location={location} --project={project} "
            "--member=user:YOU --role=roles/artifactregistry.reader"
        )
    return RegistryAccessError(
        f"the registry answered {status}: no access to {image.name}", value=str(image), hint=hint
    )


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
