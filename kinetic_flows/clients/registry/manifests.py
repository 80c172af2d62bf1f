"""Manifests of a registry: read, written and read back, listed and deleted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import urljoin

from kinetic_flows.clients.registry.connections import Answer
from kinetic_flows.clients.registry.documents import ALL_TYPES, DocumentCache, digest_of
from kinetic_flows.clients.registry.errors import (
    ADMINISTRATOR,
    NAME_UNKNOWN,
    UNSUPPORTED,
    DeletionNotAllowedError,
    ManifestChangedError,
    UnknownBlobs,
    error_codes,
    error_words,
    no_repository,
    raise_unless_ok,
    spoilt,
    write_refused,
)
from kinetic_flows.clients.registry.http import RegistryRequest, RegistryTransport
from kinetic_flows.clients.registry.uploads import PUSH
from kinetic_flows.clients.retry import Transient
from kinetic_flows.core.image_reference import DOCKER_HUB, ImageReference, is_googles

CLEANUP_POLICIES = "https://cloud.google.com/artifact-registry/docs/repositories/cleanup-policy"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NEXT = re.compile(r"<([^>]*)>;\s*rel=\"?next\"?")
_BLOB_CODES = frozenset({"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"})
_TAGS_AT_A_TIME = 1000


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest as the registry has it.

    Attributes:
        content: Its bytes.
        media_type: What it is.
        digest: Digest of its bytes.
    """

    content: bytes
    media_type: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class ListedManifest:
    """What a registry lists of one manifest.

    Attributes:
        digest: Its digest; None where the registry lists tags alone.
        tags: Its tags; none for one that lost them all.
        pushed: When it was pushed; None where the registry does not tell.
    """

    digest: str | None = None
    tags: tuple[str, ...]
    pushed: datetime | None = None


def read_manifest(
    transport: RegistryTransport, documents: DocumentCache, image: ImageReference
) -> Manifest | None:
    """Return the manifest of an image, by its tag or digest; None when there is none.

    Raises:
        ImageError: Its repository does not exist or cannot be read, or it is something else than
            its digest says.
        RegistryUnreachable: No usable answer came.
    """
    known = documents.read(image.digest) if image.digest else None
    if known is not None and image.digest:
        media_type = str(json.loads(known).get("mediaType") or "")
        if media_type:
            return Manifest(content=known, media_type=media_type, digest=image.digest)
    answer = transport.ask("GET", image, f"manifests/{image.version}", ALL_TYPES)
    if answer.status == 404:
        if NAME_UNKNOWN in error_codes(answer) and is_googles(image.registry):
            raise no_repository(image)
        return None
    raise_unless_ok(image, answer)
    digest = digest_of(answer.body)
    if digest != (image.digest or answer.headers.get("docker-content-digest", digest)):
        raise spoilt(image, str(image.digest or answer.headers["docker-content-digest"]))
    documents.keep(digest, answer.body)
    media_type = answer.headers.get("content-type", "").partition(";")[0].strip()
    return Manifest(content=answer.body, media_type=media_type, digest=digest)


def put_manifest(
    transport: RegistryTransport, image: ImageReference, content: bytes, media_type: str
) -> str:
    """Write a manifest, read it back, and return the digest of what has its name then.

    Raises:
        UnknownBlobs: The registry lacks blobs that it names.
        ManifestChangedError: The registry keeps something else.
        ImageError: The registry refuses it.
        RegistryUnreachable: No usable answer came.
    """
    digest = digest_of(content)
    answer = transport.send(
        RegistryRequest(
            method="PUT",
            image=image,
            path=f"manifests/{image.version}",
            headers={"Content-Type": media_type},
            body=lambda: (content,),
            body_bytes=len(content),
            actions=PUSH,
        )
    )
    if answer.status not in (200, 201, 202, 204):
        _raise_manifest_refused(image, answer, content)
    kept = answer.headers.get("docker-content-digest", digest)
    if kept != digest:
        raise _changed(image, digest, kept)
    url = transport.endpoint(image.registry)
    return transport.insist(url, partial(_read_back, transport, image, content, digest))


def _read_back(
    transport: RegistryTransport, image: ImageReference, content: bytes, digest: str
) -> str:
    """Read a manifest that was written, by its tag and, where that has another, by its digest.

    Somebody else may have given the tag to another image a moment later, whose digest is returned
    then.

    Raises:
        Transient: It is not there, or another one is, which a registry may say for a moment.
    """
    answer = _read_once(transport, image, image.version)
    if answer.body == content:
        return digest
    if answer.status == 404:
        raise transport.connections.transient("it does not have the manifest that it was given")
    if image.version == digest or _read_once(transport, image, digest).body != content:
        raise Transient(_changed(image, digest, digest_of(answer.body)))
    return digest_of(answer.body)


def _read_once(transport: RegistryTransport, image: ImageReference, version: str) -> Answer:
    accept = {"Accept": ", ".join(ALL_TYPES)}
    answer = transport.send_once(
        RegistryRequest(
            method="GET", image=image, path=f"manifests/{version}", headers=accept, actions=PUSH
        )
    )
    if answer.status != 404:
        raise_unless_ok(image, answer)
    return answer


def _raise_manifest_refused(image: ImageReference, answer: Answer, content: bytes) -> None:
    ours = set(_DIGEST.findall(content.decode()))
    said = answer.body.decode(errors="replace")  # a proxy's page may be of any encoding
    named = [digest for digest in _DIGEST.findall(said) if digest in ours]
    # Registries have several codes for this; what they have in common is that blobs are named.
    if error_codes(answer) & _BLOB_CODES or (named and answer.status in (400, 404)):
        digests = tuple(dict.fromkeys(named))
        what = ", ".join(digests) or "blobs that it does not name"
        raise UnknownBlobs(
            f"the registry {image.registry} lacks blobs of {image}: {what} ({error_words(answer)})",
            value=str(image),
            digests=digests,
        )
    raise write_refused(image, answer, "take the manifest of")


def _changed(image: ImageReference, digest: str, kept: str) -> ManifestChangedError:
    return ManifestChangedError(
        f"the registry {image.registry} keeps another manifest of {image} than it was given: "
        f"{kept} instead of {digest}",
        value=str(image),
        hint="it converts manifests, or a proxy spoils them: no image can be trusted there; use "
        "another registry",
    )


def listing(transport: RegistryTransport, image: ImageReference) -> tuple[ListedManifest, ...]:
    """Return what an image's repository has; nothing when nothing was ever pushed there.

    Google's registries tell all of their manifests, with their times, among the tags
    (https://pkg.go.dev/github.com/google/go-containerregistry/pkg/v1/google#Tags); others tell
    their tags alone.

    Raises:
        ImageError: The repository cannot be read.
        RegistryUnreachable: No usable answer came.
    """
    found: list[ListedManifest] = []
    for page in _tag_pages(transport, image):
        described = page.get("manifest")
        if isinstance(described, dict) and described:
            found += (_listed(digest, entry) for digest, entry in described.items())
        else:
            found += (ListedManifest(tags=(str(tag),)) for tag in page.get("tags") or ())
    return tuple(found)


def _listed(digest: str, described: dict[str, Any]) -> ListedManifest:
    milliseconds = str(described.get("timeUploadedMs") or "")
    pushed = int(milliseconds) / 1000 if milliseconds.isdigit() else 0.0
    return ListedManifest(
        digest=digest,
        tags=tuple(str(tag) for tag in described.get("tag") or ()),
        pushed=datetime.fromtimestamp(pushed, UTC) if pushed else None,
    )


def _tag_pages(transport: RegistryTransport, image: ImageReference) -> Iterator[dict[str, Any]]:
    path = f"tags/list?n={_TAGS_AT_A_TIME}"
    while path:
        request = RegistryRequest(method="GET", image=image, path=path)
        answer = transport.send(request)
        if answer.status == 404:
            if NAME_UNKNOWN in error_codes(answer) and is_googles(image.registry):
                raise no_repository(image)
            return
        raise_unless_ok(image, answer)
        page = json.loads(answer.body)
        yield page if isinstance(page, dict) else {}
        following = _NEXT.search(answer.headers.get("link", ""))
        path = urljoin(transport.url(request), following[1]) if following else ""


def delete(
    transport: RegistryTransport, image: ImageReference, digest: str, tags: Iterable[str] = ()
) -> None:
    """Delete a manifest and the tags that name it; nothing happens when it is not there.

    Args:
        transport: Asks the registry.
        image: Whose repository.
        digest: The manifest.
        tags: Its tags, as far as they are known. Google's registries want them deleted first.

    Raises:
        DeletionNotAllowedError: The registry deletes nothing.
        ImageError: It refuses this.
        RegistryUnreachable: No usable answer came.
    """
    if is_googles(image.registry):
        for tag in tags:
            _untag(transport, image, tag, digest)
    answer = _delete(transport, image, digest)
    if "GOOGLE_MANIFEST_DANGLING_TAG" in error_codes(answer):
        listed = listing(transport, image)
        for tag in (tag for each in listed if each.digest == digest for tag in each.tags):
            _untag(transport, image, tag, digest)
        answer = _delete(transport, image, digest)
    _raise_if_kept(image, answer)


def _untag(transport: RegistryTransport, image: ImageReference, tag: str, digest: str) -> None:
    """Delete a tag, unless somebody has given it to another manifest meanwhile."""
    answer = transport.ask("HEAD", image, f"manifests/{tag}", ALL_TYPES)
    if answer.headers.get("docker-content-digest") == digest:
        _raise_if_kept(image, _delete(transport, image, tag))


def _delete(transport: RegistryTransport, image: ImageReference, version: str) -> Answer:
    return transport.send(
        RegistryRequest(
            method="DELETE", image=image, path=f"manifests/{version}", actions="pull,push,delete"
        )
    )


def _raise_if_kept(image: ImageReference, answer: Answer) -> None:
    if answer.status in (200, 202, 204, 404):
        return
    if answer.status == 405 or UNSUPPORTED in error_codes(answer):
        raise DeletionNotAllowedError(
            f"the registry {image.registry} deletes nothing (it answered {answer.status}"
            f"{': ' + error_words(answer) if error_words(answer) else ''})",
            value=image.name,
            hint=_how_to_delete(image),
        )
    raise write_refused(image, answer, "delete from", role=ADMINISTRATOR)


def _how_to_delete(image: ImageReference) -> str:
    if image.registry == DOCKER_HUB:
        return f"delete it on its page: https://hub.docker.com/r/{image.repository}/tags"
    if is_googles(image.registry):
        return f"have Artifact Registry do it by itself: {CLEANUP_POLICIES}"
    return (
        "have whoever runs it allow that (storage.delete.enabled, or "
        "REGISTRY_STORAGE_DELETE_ENABLED=true, for docker-registry)"
    )
