"""Blobs of a registry: whether it has one, its content, and one taken over from elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from kinetic_flows.clients.registry.connections import OpenAnswer
from kinetic_flows.clients.registry.errors import no_access, spoilt, write_refused
from kinetic_flows.clients.registry.http import RegistryRequest, RegistryTransport
from kinetic_flows.clients.registry.uploads import PUSH, location_of
from kinetic_flows.clients.retry import Transient
from kinetic_flows.core.errors import ImageError
from kinetic_flows.core.image_reference import ImageReference


def mount(
    transport: RegistryTransport, image: ImageReference, digest: str, source: ImageReference
) -> str | None:
    """Have a repository take over a blob from another one of its registry.

    Returns:
        None when it has; else the URL of the upload that it opened instead.

    Raises:
        ImageError: The registry refuses uploads as well.
        RegistryUnreachable: No usable answer came.
    """
    request = RegistryRequest(
        method="POST",
        image=image,
        path=f"blobs/uploads/?mount={digest}&from={source.repository}",
        actions=PUSH,
        reads_too=source.repository,
    )
    answer = transport.send(request)
    if answer.status == 201:
        return None
    if answer.status == 202:
        return location_of(transport, request, answer)
    raise write_refused(image, answer, "take uploads to")


def download(transport: RegistryTransport, image: ImageReference, digest: str) -> Iterator[bytes]:
    """Return a blob's content piece by piece; what came is its content once all of it has come.

    Raises:
        ImageError: The registry refuses it, or sends something else.
        RegistryUnreachable: No usable answer came.
    """
    computed = hashlib.sha256()
    for piece in pieces_from(transport, image, digest, 0):
        computed.update(piece)
        yield piece
    if f"sha256:{computed.hexdigest()}" != digest:
        raise spoilt(image, digest)


def pieces_from(
    transport: RegistryTransport, image: ImageReference, digest: str, start: int
) -> Iterator[bytes]:
    """Return a blob's content from an offset on, unchecked; after a drop it goes on where it was.

    Raises:
        ImageError: The registry refuses it.
        RegistryUnreachable: No usable answer came.
    """
    position = start
    drops = 0
    while True:
        try:
            for piece in _pieces_once(transport, image, digest, position):
                position += len(piece)
                drops = 0
                yield piece
        except Transient as drop:
            drops += 1
            if drops >= transport.limits.tries:
                raise drop.error from drop
            transport.wait(drop, drops)
        else:
            return


def _pieces_once(
    transport: RegistryTransport, image: ImageReference, digest: str, position: int
) -> Iterator[bytes]:
    headers = {"Range": f"bytes={position}-"} if position else {}
    request = RegistryRequest(method="GET", image=image, path=f"blobs/{digest}", headers=headers)
    with transport.open(request) as answer:
        skipped = _start_of(image, digest, answer, position)
        for piece in answer.pieces:
            wanted = piece[skipped:]
            skipped -= len(piece) - len(wanted)
            if wanted:
                yield wanted


def _start_of(image: ImageReference, digest: str, answer: OpenAnswer, position: int) -> int:
    """Return how much of an answer comes before the position that was asked for."""
    if answer.status == 200:
        return position
    if answer.status == 206:
        first = answer.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
        if first == str(position):
            return 0
        raise spoilt(image, digest)
    if answer.status in (401, 403):
        raise no_access(image, answer.status)
    missing = answer.status == 404
    raise ImageError(
        f"the registry {image.registry} has no blob {digest} of {image.name}"
        if missing
        else f"the registry {image.registry} answered {answer.status} for {digest} of {image.name}",
        value=str(image),
        hint="it was deleted there: run it again, which makes it anew"
        if missing
        else "check the registry's status, and run again",
    )


@contextmanager
def opened_at(
    transport: RegistryTransport, image: ImageReference, digest: str, start: int
) -> Iterator[BinaryIO]:
    """Open a blob of a registry as something to read, at an offset."""
    yield cast("BinaryIO", _Pieces(pieces_from(transport, image, digest, start)))


class _Pieces:
    """Pieces as one file, as far as it is read from its beginning to its end.

    Args:
        pieces: The pieces, none of them empty.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Return the next bytes, so many at most; none at the end."""
        self._rest = self._rest or next(self._pieces, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
