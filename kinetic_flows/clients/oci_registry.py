"""Images in an OCI registry: whether they exist, under which digest, and what they say.

See https://github.com/opencontainers/distribution-spec/blob/main/spec.md.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import Any, TypeAlias

from kinetic_flows.clients.deadlines import DeadlineExceeded, call_with_deadline
from kinetic_flows.clients.oci_http import (
    Answer,
    RegistryLimits,
    RegistryTransport,
    RegistryUnreachable,
    Sleep,
)
from kinetic_flows.clients.registry_credentials import CredentialSource, FirstFound
from kinetic_flows.errors import ImageError, RegistryAccessError, RepositoryNotFoundError
from kinetic_flows.images.references import (
    DOCKER_HUB,
    ImageReference,
    artifact_registry_location,
    parse_reference,
)
from kinetic_flows.protocols import ResolvedImage

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

NODE_PLATFORM = {"os": "linux", "architecture": "amd64"}

_Json: TypeAlias = dict[str, Any]


class OciRegistry:
    """Looks images up in whatever registry their references name.

    Args:
        credentials: Who asks; None for nobody.
        endpoints: Other URLs for registries, by host: mirrors and private endpoints.
        limits: How patient to be.
        sleep: Waits between tries.
    """

    def __init__(
        self,
        *,
        credentials: CredentialSource | None = None,
        endpoints: Mapping[str, str] | None = None,
        limits: RegistryLimits | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
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

    def resolve(self, reference: str) -> ResolvedImage | None:
        """Return the image a reference names, or None when its repository has no such image.

        Raises:
            ImageError: The reference is malformed, its repository does not exist or cannot be
                read, or the registry gives no usable answer.
        """
        image = parse_reference(reference)
        try:
            return call_with_deadline(lambda: self._resolve(image), self._limits.total_seconds)
        except (RegistryUnreachable, DeadlineExceeded) as error:
            raise ImageError(
                f"the registry {image.registry} cannot be asked for {image}: {error}",
                value=reference,
                hint="check the network and the registry's status, and run again",
            ) from error

    def _resolve(self, image: ImageReference) -> ResolvedImage | None:
        head = self._transport.ask("HEAD", image, f"manifests/{image.version}", ALL_TYPES)
        if head.status == 404:
            return self._explain_missing(image)
        _raise_unless_ok(image, head)
        digest = head.headers.get("docker-content-digest") or self._digest_of(image)
        found = image.at(digest)
        manifest = self._manifest(found)
        labels = {**self._config_labels(found, manifest), **_annotations(manifest)}
        return ResolvedImage(reference=str(found), digest=digest, labels=labels)

    def _explain_missing(self, image: ImageReference) -> ResolvedImage | None:
        """Tell a missing image from a missing repository, which a HEAD cannot say."""
        answer = self._transport.ask("GET", image, f"manifests/{image.version}", ALL_TYPES)
        if answer.status == 200:  # it has just been pushed
            return self._resolve(image)
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

    def _manifest(self, image: ImageReference) -> _Json:
        """Return the manifest for GKE's nodes, looking into an index if it is one."""
        manifest = self._fetch(image, f"manifests/{image.digest}", str(image.digest))
        entries = manifest.get("manifests")
        if not isinstance(entries, list):
            return manifest
        for entry in entries:
            platform = entry.get("platform") or {}
            if all(platform.get(key) == value for key, value in NODE_PLATFORM.items()):
                digest = str(entry["digest"])
                chosen = self._fetch(image, f"manifests/{digest}", digest)
                return {**chosen, "annotations": {**_annotations(manifest), **_annotations(chosen)}}
        raise ImageError(
            f"the image {image} has no variant for linux/amd64",
            value=str(image),
            hint="build it with: docker buildx build --platform linux/amd64",
        )

    def _config_labels(self, image: ImageReference, manifest: _Json) -> dict[str, str]:
        digest = str((manifest.get("config") or {}).get("digest") or "")
        if not digest:
            return {}
        config = self._fetch(image, f"blobs/{digest}", digest)
        labels = (config.get("config") or {}).get("Labels") or {}
        return {str(key): str(value) for key, value in labels.items()}

    def _fetch(self, image: ImageReference, path: str, digest: str) -> _Json:
        """Fetch a JSON document and check it against its digest."""
        answer = self._transport.ask("GET", image, path, ALL_TYPES)
        _raise_unless_ok(image, answer)
        if digest != f"sha256:{hashlib.sha256(answer.body).hexdigest()}":
            raise ImageError(
                f"the registry {image.registry} sent something else than {image.name}@{digest}",
                value=str(image),
                hint="a proxy or a mirror spoils its answers; nothing of it was used",
            )
        content = json.loads(answer.body)
        return content if isinstance(content, dict) else {}


def _annotations(manifest: _Json) -> dict[str, str]:
    found = manifest.get("annotations") or {}
    return {str(key): str(value) for key, value in found.items()}


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
