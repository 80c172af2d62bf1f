"""A registry that images are put together in: its blobs, manifests and tags.

See https://github.com/opencontainers/distribution-spec/blob/main/spec.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from kinetic_flows.clients.registry import blobs, manifests
from kinetic_flows.clients.registry.connections import RegistryLimits, RegistryUnreachable
from kinetic_flows.clients.registry.credentials import CredentialSource, FirstFound
from kinetic_flows.clients.registry.documents import DocumentCache, digest_of
from kinetic_flows.clients.registry.errors import answered, unreachable
from kinetic_flows.clients.registry.http import RegistryTransport, Sleep
from kinetic_flows.clients.registry.manifests import ListedManifest, Manifest
from kinetic_flows.clients.registry.uploads import Blob, OnSent, OpenAt, Uploads, has_blob
from kinetic_flows.core.image_reference import ImageReference, parse_reference
from kinetic_flows.core.interruption import pause

T = TypeVar("T")

NOT_WORTH_ASKING_BYTES = 64 << 10
"""A blob smaller than this is sent as quickly as its registry says that it has it."""


class RegistryWriter:
    """Reads and writes the parts of images in whatever registry their names name.

    A name is a reference without a tag, such as `us-docker.pkg.dev/project/repository/app`.
    Several threads may use one writer: they share its connections and tokens.

    Args:
        credentials: Where credentials come from; None to ask without any.
        endpoints: Other URLs for registries, by host: mirrors and private endpoints.
        limits: How patient to be.
        sleep: Waits between tries.
        documents: Directory that keeps manifests and configurations by their digests; None to
            keep none.

    Every method raises ImageError when the registry refuses what it is asked, RegistryAccessError
    when these credentials may not do it, RepositoryNotFoundError when the repository has to be
    created first.
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
        self._uploads = Uploads(self._transport)
        self._opened: dict[tuple[str, str], str] = {}
        """Uploads that registries opened where they refused to mount a blob."""

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def requests(self) -> int:
        """How many requests were sent, those to token servers included."""
        return self._transport.connections.requests

    @property
    def sent_bytes(self) -> int:
        """How many bytes of blobs and manifests were sent, those of failed tries included."""
        return self._transport.connections.sent_bytes

    def manifest(self, reference: str) -> Manifest | None:
        """Return the manifest that a reference names; None when there is none."""
        image = parse_reference(reference)
        return self._answered(
            image, partial(manifests.read_manifest, self._transport, self._documents, image)
        )

    def document(self, name: str, digest: str) -> bytes:
        """Return a blob that is a document, such as an image's configuration."""
        image = parse_reference(name).at(digest)
        return self._answered(
            image, partial(self._documents.fetch, self._transport, image, "blobs", digest)
        )

    def has_blob(self, name: str, digest: str) -> bool:
        """Whether an image's repository has a blob."""
        image = parse_reference(name)
        url = self._transport.endpoint(image.registry)
        asked = partial(has_blob, self._transport, image, digest)
        return self._answered(image, partial(self._transport.insist, url, asked))

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Have an image's repository take over a blob from another one of its registry.

        Args:
            name: The image.
            digest: The blob.
            source: Name of the image whose repository has it.

        Returns:
            Whether the registry did; it may refuse for any reason.
        """
        image, origin = parse_reference(name), parse_reference(source)
        if image.registry != origin.registry:
            return False
        opened = self._answered(image, partial(blobs.mount, self._transport, image, digest, origin))
        if opened is not None:
            self._opened[image.name, digest] = opened
        return opened is None

    def upload(
        self,
        name: str,
        digest: str,
        size_bytes: int,
        open_at: OpenAt,
        on_sent: OnSent = lambda _: None,
    ) -> None:
        """Send a blob, unless the registry has it.

        After a drop it goes on where the registry is, if that takes blobs in chunks.

        Args:
            name: The image whose repository gets it.
            digest: Its digest, which the registry checks.
            size_bytes: Its size.
            open_at: Opens it at an offset.
            on_sent: Told of the bytes that were sent since it was told last; of fewer than none
                when the registry turns out to lack some of them. All that it is told adds up to
                the blob's size.
        """
        image = parse_reference(name)
        opened = self._opened.pop((image.name, digest), None)
        if size_bytes >= NOT_WORTH_ASKING_BYTES and self.has_blob(name, digest):
            on_sent(size_bytes)
            return
        blob = Blob(
            image=image, digest=digest, size_bytes=size_bytes, open_at=open_at, on_sent=on_sent
        )
        try:
            self._uploads.send(blob, location=opened)
        except RegistryUnreachable as error:
            raise unreachable(image, error) from error

    def upload_document(self, name: str, content: bytes) -> None:
        """Send a blob that is a document, unless the registry has it; `document` then knows it.

        Args:
            name: The image whose repository gets it.
            content: The document.
        """
        digest = digest_of(content)
        self.upload(name, digest, len(content), lambda start: closing(BytesIO(content[start:])))
        self._documents.keep(digest, content)

    def download(self, name: str, digest: str) -> Iterator[bytes]:
        """Return a blob piece by piece; what came is its content once all of it has come.

        After a drop it goes on where it was.

        Raises:
            ImageError: At its end, too: it was something else than its digest says.
        """
        image = parse_reference(name)
        try:
            yield from blobs.download(self._transport, image, digest)
        except RegistryUnreachable as error:
            raise unreachable(image, error) from error

    def copy(
        self,
        name: str,
        digest: str,
        size_bytes: int,
        source: str,
        on_sent: OnSent = lambda _: None,
    ) -> None:
        """Have an image's repository get a blob that another one has, of whatever registry.

        Args:
            name: The image whose repository gets it.
            digest: The blob.
            size_bytes: Its size.
            source: Name of the image whose repository has it.
            on_sent: As for `upload`.
        """
        image, origin = parse_reference(name), parse_reference(source)
        # Asked a moment ago, it opened an upload instead.
        was_refused = (image.name, digest) in self._opened
        if not was_refused and self.mount(name, digest, source):
            on_sent(size_bytes)
            return
        opened = partial(blobs.opened_at, self._transport, origin, digest)
        self.upload(name, digest, size_bytes, opened, on_sent)

    def put_manifest(self, reference: str, content: bytes, media_type: str) -> str:
        """Write a manifest, read it back, and return the digest of what has its name then.

        That is another one's where somebody else has given the tag to it meanwhile.

        Args:
            reference: Its name, with a tag or its digest.
            content: Its bytes.
            media_type: What it is.

        Raises:
            UnknownBlobs: The registry lacks blobs that it names.
            ManifestChangedError: The registry keeps something else.
        """
        image = parse_reference(reference)
        named = self._answered(
            image, partial(manifests.put_manifest, self._transport, image, content, media_type)
        )
        self._documents.keep(digest_of(content), content)
        return named

    def listing(self, name: str) -> tuple[ListedManifest, ...]:
        """Return what an image's repository has; nothing when nothing was ever pushed there."""
        image = parse_reference(name)
        return self._answered(image, partial(manifests.listing, self._transport, image))

    def tags(self, name: str) -> tuple[str, ...]:
        """Return the tags of an image; none when nothing was ever pushed there."""
        return tuple(tag for each in self.listing(name) for tag in each.tags)

    def delete(self, name: str, digest: str, tags: Iterable[str] = ()) -> None:
        """Delete a manifest and the tags that name it; nothing happens when it is not there.

        Args:
            name: The image.
            digest: The manifest.
            tags: Its tags, as far as they are known, which saves requests.

        Raises:
            DeletionNotAllowedError: The registry deletes nothing.
        """
        image = parse_reference(name)
        self._answered(image, partial(manifests.delete, self._transport, image, digest, tags))

    def _answered(self, image: ImageReference, question: Callable[[], T]) -> T:
        return answered(image, self._limits, question)
