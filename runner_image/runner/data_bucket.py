"""Data of any bucket of Cloud Storage, each object pinned to its generation."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .contract import EXIT_DATA_UNAVAILABLE, Fault
from .data_checks import Refused
from .data_listing import Listed, Listing, is_wanted, joined, written
from .data_work import Work

PIECE_BYTES = 8 << 20
"""How much is asked for at once; eight threads have that much in memory each."""
TRIES = 5
FIELDS = "items(name,generation,size,crc32c),nextPageToken"


class BucketFiles:
    """The files of one source in Cloud Storage.

    Args:
        spec: The job's `DataSpec`.
        client: A `google.cloud.storage.Client`.
        work: What they are fetched for.
    """

    def __init__(self, spec: Mapping[str, Any], client: Any, work: Work) -> None:
        self._spec = spec
        self._client = client
        self._bucket = client.bucket(spec["place"]["bucket"])
        self._path: str = spec["place"]["path"]
        self._work = work
        self._newest = (0, "")
        self.is_file = bool(spec["is_file"])

    def listing(self, place: str) -> Listing:
        """Ask for the files, and return them, written to a file.

        Raises:
            Fault: Cloud Storage does not say, or there are none.
        """
        try:
            listing = written("bucket", self._files(), place)
        except Exception as error:
            raise self._fault(error) from error
        if not listing.files:
            raise Fault(EXIT_DATA_UNAVAILABLE, f"there is nothing at {self._spec['source']}")
        return listing

    @property
    def newest(self) -> str:
        """What was written last, for people."""
        generation, path = self._newest
        # Microseconds since the epoch: https://cloud.google.com/storage/docs/metadata
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(generation / 1e6))
        return f", the newest of them {path!r} of {moment} UTC" if path else ""

    def fetch(self, file: Listed, begin: int, end: int) -> Iterator[bytes]:
        """Yield bytes of a file."""
        name = self._path if self.is_file else joined(self._path, file.path)
        blob = self._bucket.blob(name, generation=int(file.version))
        for position in range(begin, end, PIECE_BYTES):
            last = min(position + PIECE_BYTES, end) - 1
            yield self._piece(blob, position, last)

    def _piece(self, blob: Any, first: int, last: int) -> bytes:
        """Return a range of an object, as it is stored, even where it is stored compressed."""

        def download() -> bytes:
            data: bytes = blob.download_as_bytes(
                start=first, end=last, raw_download=True, checksum=None
            )
            if len(data) != last + 1 - first:
                raise ConnectionError(f"{len(data)} bytes came, of {last + 1 - first}")
            return data

        try:
            return self._patiently(download)
        except Exception as error:
            raise self._fault(error, blob.name) from error

    def _patiently(self, download: Callable[[], bytes]) -> bytes:
        """Try again where a connection broke off; the library does so where none was made."""
        for number in range(TRIES - 1):
            try:
                return download()
            except Exception as error:
                if getattr(error, "code", None) is not None:
                    raise
                self._work.wait(0.2 * 2**number)
        return download()

    def _files(self) -> Iterator[Listed]:
        if self._path:
            if self._spec["is_file"] or not self._spec["identity"]:
                blob = self._bucket.get_blob(self._path)
                if blob is not None:
                    self.is_file = True
                    yield self._listed(blob, self._path.rpartition("/")[2])
                    return
            if self._spec["is_file"]:
                return
        prefix = f"{self._path}/" if self._path else ""
        # They come sorted by the bytes of their names.
        # https://cloud.google.com/storage/docs/json_api/v1/objects/list
        for blob in self._client.list_blobs(self._bucket, prefix=prefix, fields=FIELDS):
            self._work.find(1)
            relative = blob.name[len(prefix) :]
            if not blob.name.endswith("/") and is_wanted(relative, self._spec):
                yield self._listed(blob, relative)

    def _listed(self, blob: Any, relative: str) -> Listed:
        generation = int(blob.generation)
        self._newest = max(self._newest, (generation, relative))
        digest = base64.b64decode(blob.crc32c).hex() if blob.crc32c else ""
        check = f"crc32c:{digest}" if digest else ""
        size = int(blob.size)
        return Listed(relative, (str(generation), str(size)), size, check, str(generation))

    def _fault(self, error: Exception, name: str = "") -> Fault:
        if isinstance(error, Fault):
            return error
        bucket, code = self._spec["place"]["bucket"], getattr(error, "code", None)
        what = f"gs://{bucket}/{name}" if name else self._spec["source"]
        if name and code == 404:
            return Refused(what, "it is not what it was when the run was planned, or is gone")
        if code == 403:
            message = f"{what} cannot be read: {error}; give the run's service account "
            return Fault(EXIT_DATA_UNAVAILABLE, f"{message}roles/storage.objectViewer on it")
        if code == 404:
            return Fault(EXIT_DATA_UNAVAILABLE, f"{what} cannot be read: no bucket {bucket}")
        return Fault(EXIT_DATA_UNAVAILABLE, f"{what} cannot be fetched: {error}")
