"""Sending blobs to a registry: in chunks where it takes them, going on where it was after a drop.

See https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs. Artifact
Registry takes a blob in one request only
(https://cloud.google.com/artifact-registry/docs/reference/docker-api).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias
from urllib.parse import urlencode, urljoin

from kinetic_flows.clients.registry.connections import Answer
from kinetic_flows.clients.registry.errors import error_codes, write_refused
from kinetic_flows.clients.registry.http import RegistryRequest, RegistryTransport
from kinetic_flows.clients.retry import Transient
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.image_reference import ImageReference, is_googles
from kinetic_flows.core.interruption import LOOK_SECONDS, pause

PUSH = "pull,push"
"""What a token has to allow for whoever sends something."""

PIECE_BYTES = 256 << 10
"""How much is read and written at a time."""

MOST_AT_A_TIME = 8
"""Uploads of one client at a time: further ones would only wait for the others' connections."""

_RANGE = re.compile(r"^(?:bytes=)?0-(\d+)$")

OpenAt: TypeAlias = Callable[[int], AbstractContextManager[BinaryIO]]
OnSent: TypeAlias = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A blob to be sent.

    Attributes:
        image: Whose repository gets it.
        digest: Its digest.
        size_bytes: Its size.
        open_at: Opens it at an offset.
        on_sent: Told of the bytes that were sent since it was told last; of fewer than none when
            the registry turns out to lack some of them.
    """

    image: ImageReference
    digest: str
    size_bytes: int
    open_at: OpenAt
    on_sent: OnSent


class Uploads:
    """Sends blobs to registries, and remembers what each of them takes.

    Args:
        transport: Sends the requests.
    """

    def __init__(self, transport: RegistryTransport) -> None:
        self.transport = transport
        self._takes_no_chunks: set[str] = set()
        self._turns = threading.Semaphore(MOST_AT_A_TIME)

    def send(self, blob: Blob, *, location: str | None = None) -> None:
        """Send a blob.

        Args:
            blob: The blob.
            location: URL of an upload that the registry has opened for it; None to open one.

        Raises:
            ImageError: The registry refuses it, or its content is not what its digest says.
            RegistryUnreachable: The registry does not answer any more.
        """
        while not self._turns.acquire(timeout=LOOK_SECONDS):
            pause(0)
        try:
            _Upload(self, blob, location).run()
        finally:
            self._turns.release()

    def takes_chunks(self, registry: str) -> bool:
        """Whether a registry takes a blob in several requests, as far as is known."""
        return registry not in self._takes_no_chunks and not is_googles(registry)

    def refuses_chunks(self, registry: str) -> None:
        """Note that a registry does not take a blob in several requests."""
        self._takes_no_chunks.add(registry)


def location_of(transport: RegistryTransport, request: RegistryRequest, answer: Answer) -> str:
    """Return the URL that an answer to a request names, which may be relative, or elsewhere."""
    return urljoin(transport.url(request), answer.headers.get("location", ""))


class _Upload:
    """One blob on its way."""

    def __init__(self, uploads: Uploads, blob: Blob, location: str | None) -> None:
        self._uploads = uploads
        self._transport = uploads.transport
        self._blob = blob
        self._registry = blob.image.registry
        self._location = location
        self._offset = 0
        """How much the registry has."""
        self._told = 0
        """How much was told of."""
        self._is_certain = True
        """Whether the registry has what we believe, which a drop leaves open."""
        self._committed = False
        """Whether the registry was asked to keep the blob, whatever became of it."""
        self._begun = 0
        self._refused_digests = 0

    def run(self) -> None:
        """Send the blob."""
        url = self._transport.endpoint(self._registry)
        # Each step has all tries of its own: what a registry has taken was worth them.
        while not self._transport.insist(url, self._step, moves_data=True):
            pass
        self._tell(self._blob.size_bytes)

    def _step(self) -> bool:
        """Send the next piece; return whether the registry has the blob now."""
        if not self._is_certain and self._find_out():
            return True
        if self._location is None:
            self._begin()
        left = self._blob.size_bytes - self._offset
        chunk = self._chunk_bytes()
        if chunk is not None and left > chunk:
            self._send_chunk(chunk)
            return False
        return self._commit(left)

    def _chunk_bytes(self) -> int | None:
        """Return how much is sent at a time; None for all of it."""
        if not self._uploads.takes_chunks(self._registry):
            return None
        return self._transport.limits.chunk_bytes

    def _begin(self) -> None:
        """Open an upload.

        Raises:
            ImageError: The registry opens none, or forgets every one.
        """
        if self._begun == self._transport.limits.tries:
            raise self._never_ended()
        request = self._request("POST", "blobs/uploads/")
        answer = self._transport.send_once(request)
        if answer.status != 202 or "location" not in answer.headers:
            raise write_refused(self._blob.image, answer, "take uploads to")
        self._location = location_of(self._transport, request, answer)
        self._begun += 1

    def _send_chunk(self, size_bytes: int) -> None:
        last = self._offset + size_bytes - 1
        request = self._request(
            "PATCH",
            str(self._location),
            size_bytes=size_bytes,
            headers={"Content-Range": f"{self._offset}-{last}"},
        )
        answer = self._deliver(request)
        if answer.status not in (201, 202, 204):
            self._chunk_refused(answer)
            return
        self._location = location_of(self._transport, request, answer)
        taken = _end_of(answer)
        self._is_certain = taken is None or taken <= last + 1
        self._offset = last + 1 if taken is None else taken
        self._tell(self._offset)

    def _chunk_refused(self, answer: Answer) -> None:
        self._raise_if_lost(answer)
        if answer.status in (401, 403):
            raise write_refused(self._blob.image, answer, "take blobs of")
        # What it does not take in chunks it may take whole.
        self._uploads.refuses_chunks(self._registry)
        self._start_over()

    def _commit(self, left: int) -> bool:
        """Send what is left, and have the registry keep the blob; return whether it does."""
        location = str(self._location)
        joint = "&" if "?" in location else "?"
        request = self._request(
            "PUT",
            f"{location}{joint}{urlencode({'digest': self._blob.digest})}",
            size_bytes=left,
            read_seconds=self._transport.limits.commit_seconds,
        )
        self._committed = True
        answer = self._deliver(request)
        if answer.status not in (200, 201, 204):
            self._commit_refused(answer)
            return False
        kept = answer.headers.get("docker-content-digest", self._blob.digest)
        if kept != self._blob.digest:
            raise self._other_content(f"the registry has {kept}")
        return True

    def _commit_refused(self, answer: Answer) -> None:
        self._raise_if_lost(answer)
        codes = error_codes(answer)
        if "DIGEST_INVALID" in codes:
            # Pieces of a try that broke off may lie in the upload: a new one is without them.
            self._refused_digests += 1
            if self._refused_digests > 1:
                raise self._other_content("it was sent twice")
            self._start_over()
            return
        raise write_refused(self._blob.image, answer, "take blobs of")

    def _raise_if_lost(self, answer: Answer) -> None:
        """Try again from where the registry is when it is somewhere else.

        Raises:
            Transient: It is.
        """
        if answer.status == 404 and "NAME_UNKNOWN" not in error_codes(answer):
            self._start_over()
            raise Transient(self._never_ended())
        if answer.status == 416:
            self._is_certain = False
            raise self._transport.connections.transient("it is at another place of the upload")

    def _find_out(self) -> bool:
        """Ask where the registry is after a drop; return whether it has the whole blob."""
        if self._committed and has_blob(self._transport, self._blob.image, self._blob.digest):
            return True
        end = self._ask_where()
        # `0-0` is said of nothing as well as of one byte.
        if end is None or not 1 < end <= self._blob.size_bytes:
            self._start_over()
            return False
        self._offset, self._is_certain = end, True
        self._tell(end)
        return False

    def _ask_where(self) -> int | None:
        """Return how much of the upload the registry says that it has; None for no such upload."""
        if self._location is None or not self._uploads.takes_chunks(self._registry):
            return None
        request = self._request("GET", self._location)
        answer = self._transport.send_once(request)
        if answer.status not in (200, 202, 204):
            return None
        self._location = location_of(self._transport, request, answer)
        return _end_of(answer)

    def _start_over(self) -> None:
        self._location, self._offset, self._is_certain = None, 0, True
        self._tell(0)

    def _deliver(self, request: RegistryRequest) -> Answer:
        self._is_certain = False
        answer = self._transport.send_once(request)
        self._is_certain = True
        return answer

    def _request(
        self,
        method: str,
        path: str,
        *,
        size_bytes: int = 0,
        headers: dict[str, str] | None = None,
        read_seconds: float | None = None,
    ) -> RegistryRequest:
        start = self._offset
        kind = {"Content-Type": "application/octet-stream"} if size_bytes else {}
        return RegistryRequest(
            method=method,
            image=self._blob.image,
            path=path,
            headers={**kind, **(headers or {})},
            body=(lambda: self._read(start, size_bytes)) if size_bytes else None,
            body_bytes=size_bytes,
            actions=PUSH,
            read_seconds=read_seconds,
        )

    def _read(self, start: int, size_bytes: int) -> Iterator[bytes]:
        self._tell(start)
        with self._blob.open_at(start) as file:
            left = size_bytes
            while left:
                piece = file.read(min(PIECE_BYTES, left))
                if not piece:
                    raise self._other_content(f"it ends {left} bytes early")
                yield piece
                left -= len(piece)
                self._tell(start + size_bytes - left)

    def _tell(self, position: int) -> None:
        if position != self._told:
            self._blob.on_sent(position - self._told)
            self._told = position

    def _never_ended(self) -> ImageError:
        return ImageError(
            f"the upload of {self._blob.digest} to {self._registry} began {self._begun} times and "
            "never came to its end",
            value=str(self._blob.image),
            hint="the connection breaks off, or the registry forgets its uploads, as several "
            "without common state behind one address do; run again later",
        )

    def _other_content(self, problem: str) -> ImageError:
        return ImageError(
            f"what was sent to {self._blob.image.name} as {self._blob.digest} is something else: "
            f"{problem}",
            value=self._blob.digest,
            hint="the file has changed or is damaged, or a proxy spoils what is sent; nothing of "
            "it was kept",
        )


def has_blob(transport: RegistryTransport, image: ImageReference, digest: str) -> bool:
    """Whether a repository has a blob, asked once.

    Raises:
        ImageError: The registry does not say.
        Transient: There is no answer.
    """
    answer = transport.send_once(
        RegistryRequest(method="HEAD", image=image, path=f"blobs/{digest}")
    )
    if answer.status in (200, 404):
        return answer.status == 200
    raise write_refused(image, answer, "say what it has of")


def _end_of(answer: Answer) -> int | None:
    """Return how many bytes the registry has, by its `Range`; None when it does not say."""
    found = _RANGE.match(answer.headers.get("range", ""))
    return int(found[1]) + 1 if found else None
