"""Output directories in Cloud Storage."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from kinetic_flows.clients.google.errors import is_precondition, status_of
from kinetic_flows.clients.google.storage import GoogleStore
from kinetic_flows.core.errors import KineticError, ObjectNotFoundError, StoreError
from kinetic_flows.core.output_files import OutputFile

PIECE_BYTES = 16 << 20
"""How much is asked for at a time; what has arrived is kept when the next does not."""


class OutputBucket(GoogleStore):
    """A bucket and a prefix of which objects are read in parts, whatever they are called."""

    def files(self) -> Iterator[OutputFile]:
        """Yield every object, in the order of their names, but for what stands for a directory."""
        token: str | None = ""
        while token is not None:
            ask = partial(self._files, token or None)
            page, token = self._call(ask, "", self._timeouts.call_seconds)
            yield from page

    def part(self, file: OutputFile, start: int, end: int) -> bytes:
        """Return a part of an object.

        Raises:
            ObjectNotFoundError: It is gone, or another version has taken its place.
            StoreError: It cannot be read.
        """

        def read() -> bytes:
            blob = self._bucket().blob(self._prefix + file.name)
            data: bytes = blob.download_as_bytes(
                start=start,
                end=end - 1,
                if_generation_match=int(file.version),
                raw_download=True,
                checksum=None,
                **self._options(),
            )
            return data

        try:
            return self._call(read, file.name, self._timeouts.transfer_seconds)
        except KineticError as error:
            if isinstance(error.cause, Exception) and is_precondition(error.cause):
                where = f"{self.uri}/{file.name}"
                raise ObjectNotFoundError(f"{where} has changed", value=where) from error
            raise

    def _files(self, token: str | None) -> tuple[list[OutputFile], str | None]:
        """Fetch one page of the listing, and the token of the next."""
        pages = self._connect().list_blobs(
            self._place.name,
            prefix=self._prefix,
            page_token=token,
            fields="items(name,size,updated,generation,crc32c),nextPageToken",
            **self._options(),
        )
        found = [
            OutputFile(
                name=blob.name.removeprefix(self._prefix),
                size_bytes=int(blob.size),
                updated=blob.updated,
                version=str(blob.generation),
                checksum=blob.crc32c or "",
            )
            for blob in next(pages.pages, ())
            if not blob.name.endswith("/")
        ]
        return found, pages.next_page_token


class BucketOutputs:
    """The files of an output directory in Cloud Storage.

    Args:
        bucket: The bucket and the prefix.
    """

    def __init__(self, bucket: OutputBucket) -> None:
        self._bucket = bucket

    def check(self) -> None:
        """Ask whether the bucket is there; who may write to it, only the run knows.

        Raises:
            StoreError: It is not.
        """
        try:
            self._bucket.check()
        except StoreError as error:
            cause = error.cause
            if isinstance(cause, ObjectNotFoundError) or (cause and status_of(cause) == 404):
                raise

    def list(self) -> Iterator[OutputFile]:
        """Yield every file, in the order of their names.

        Raises:
            StoreError: Cloud Storage does not answer.
        """
        yield from self._bucket.files()

    def read(self, file: OutputFile, start: int) -> Iterator[bytes]:
        """Yield a file's content from a position on.

        Raises:
            ObjectNotFoundError: It is gone, or another version has taken its place.
            StoreError: It cannot be read.
        """
        while start < file.size_bytes:
            end = min(start + PIECE_BYTES, file.size_bytes)
            yield self._bucket.part(file, start, end)
            start = end

    def checksum(self, file: OutputFile) -> str:
        """Return what Cloud Storage says of an object's content: its CRC32C."""
        return file.checksum

    def checksum_of(self, path: Path) -> str:
        """Return the CRC32C of a copy, as Cloud Storage writes it: base64, big-endian."""
        import google_crc32c

        checksum = google_crc32c.Checksum()
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                checksum.update(piece)
        return base64.b64encode(checksum.digest()).decode()
