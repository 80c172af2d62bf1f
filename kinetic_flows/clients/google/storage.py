"""An artifact store in a Cloud Storage bucket.

Writes carry a generation precondition, so they are safe to repeat, and a mark of their own, so
that a write whose answer was lost is recognised as ours when the repetition is refused
(https://cloud.google.com/storage/docs/request-preconditions).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import uuid4

from kinetic_flows.clients.deadlines import call_with_deadline
from kinetic_flows.clients.google.errors import (
    BucketPlace,
    bucket_missing,
    is_object_missing,
    is_precondition,
    store_error,
)
from kinetic_flows.clients.google.lifecycle import expire_rule, with_rules
from kinetic_flows.clients.google.login import require_login
from kinetic_flows.clients.google.transfers import NotedRetry, download, upload
from kinetic_flows.core.artifact_store import Content, ObjectInfo, StoredObject
from kinetic_flows.core.errors import ObjectNotFoundError, StoreError
from kinetic_flows.core.waits import waiting_for

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.storage import Blob, Bucket, Client

T = TypeVar("T")

CONCURRENT_CHECKS = 16
_Page: TypeAlias = tuple[list[ObjectInfo], str | None]

WRITE_MARK = "kinetic-write"
"""Metadata key under which an object says which write made it."""

NO_OBJECTS = "nothing-is-kept-here/"
"""A prefix that no object has: to list it moves no data, and needs no right of its own."""

GOOGLES_UNIVERSE = "googleapis.com"
"""Domain of Google's own cloud, as credentials name it; there are clouds of others with it."""

LARGE_BYTES = 1_000_000
"""From here on it pays to ask whether an object exists before sending it."""


@dataclass(frozen=True, kw_only=True)
class StoreTimeouts:
    """Limits on the duration of the store's calls.

    Attributes:
        connect_seconds: Until a connection stands.
        read_seconds: Until the next byte arrives.
        retry_seconds: For all tries of one request together.
        call_seconds: For a call that moves little data, whatever happens.
        transfer_seconds: For a call that reads or writes an object's content.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 60.0
    retry_seconds: float = 120.0
    call_seconds: float = 150.0
    transfer_seconds: float = 3600.0


class GoogleStore:
    """Objects in a bucket, below a prefix.

    Nothing is sent, and no SDK is imported, before the first call.

    Args:
        bucket: Name of the bucket, which must exist.
        prefix: Prefix of every object, without a trailing slash; empty for none.
        project: Project that is billed; None for the credentials' own.
        location: Where the bucket belongs, for who has to make it; None where that is not known.
        endpoint: URL of another Cloud Storage endpoint (a private one, or an emulator's, which
            is plain `http` and asked without credentials); None for Google's.
        credentials: Google credentials; None for Application Default Credentials.
        timeouts: How long calls may take.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        project: str | None = None,
        location: str | None = None,
        endpoint: str | None = None,
        credentials: Credentials | None = None,
        timeouts: StoreTimeouts | None = None,
    ) -> None:
        self._place = BucketPlace(name=bucket, project=project, location=location)
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._endpoint = endpoint
        self._credentials = credentials
        self._timeouts = timeouts or StoreTimeouts()
        self._client: Client | None = None
        self._lock = threading.Lock()

    @property
    def uri(self) -> str:
        """The store as `gs://bucket` or `gs://bucket/prefix`."""
        return f"gs://{self._place.name}/{self._prefix}".rstrip("/")

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None

    def check(self) -> None:
        """Ask whether the bucket is there, and open to these credentials; one request.

        Raises:
            StoreError: It is not, or cannot be reached.
        """
        look = partial(self._page, NO_OBJECTS, None)
        try:
            self._call(look, NO_OBJECTS, self._timeouts.call_seconds)
        except ObjectNotFoundError as error:  # a listing can miss nothing but the bucket
            raise bucket_missing(self._place) from error

    def get(self, name: str) -> StoredObject:
        """Return an object, its content checked against Cloud Storage's own checksum.

        Raises:
            ObjectNotFoundError: There is none of this name.
            StoreError: It cannot be read.
        """

        def read() -> StoredObject:
            blob = self._blob(name)
            data = blob.download_as_bytes(checksum="crc32c", **self._options())
            return StoredObject(data=data, generation=str(blob.generation))

        return self._call(read, name, self._timeouts.transfer_seconds)

    def read(self, name: str) -> memoryview:
        """Return an object's content in memory of its own, which may be written to.

        It is not checked: what is read so has a signature.

        Raises:
            ObjectNotFoundError: There is none of this name.
            StoreError: It cannot be read.
        """

        def read() -> memoryview:
            return download(self._blob(name), **self._options())

        return self._call(read, name, self._timeouts.transfer_seconds)

    def put_if_absent(self, name: str, data: Content) -> bool:
        """Write an object, from memory or streamed from a file, unless the name is taken.

        Returns:
            True when this call wrote it, False when it was already there.

        Raises:
            StoreError: It cannot be written.
        """
        size = data.stat().st_size if isinstance(data, Path) else memoryview(data).nbytes
        if size >= LARGE_BYTES and not self.missing([name]):
            return False
        return self._write(name, data, generation=0) is not None

    def replace_if_unchanged(self, name: str, data: bytes, generation: str | None) -> str | None:
        """Write an object if its generation is still the one given (None: if there is none).

        Returns:
            The new generation, or None when another writer was faster.

        Raises:
            StoreError: It cannot be written.
        """
        return self._write(name, data, generation=int(generation or 0))

    def missing(self, names: Iterable[str]) -> set[str]:
        """Return those names that the store does not have, asking concurrently.

        Raises:
            StoreError: The store cannot answer; nothing is called missing for that.
        """
        wanted = list(dict.fromkeys(names))
        if len(wanted) < 2:
            return {name for name in wanted if not self._exists(name)}
        with ThreadPoolExecutor(min(CONCURRENT_CHECKS, len(wanted))) as pool:
            found = pool.map(self._exists, wanted)
            return {name for name, exists in zip(wanted, found, strict=True) if not exists}

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with the prefix, in name order.

        Raises:
            StoreError: The store cannot answer.
        """
        token: str | None = ""
        while token is not None:
            page_of = partial(self._page, prefix, token or None)
            page, token = self._call(page_of, prefix, self._timeouts.call_seconds)
            yield from page

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens when there is none.

        Raises:
            StoreError: It cannot be removed.
        """

        def remove() -> None:
            self._blob(name).delete(**self._options())

        try:
            self._call(remove, name, self._timeouts.call_seconds)
        except ObjectNotFoundError:
            return

    def expire(self, prefix: str, days: int) -> bool:
        """Have the bucket remove objects below a prefix by their age, from now on.

        Other rules of the bucket stay. https://cloud.google.com/storage/docs/lifecycle

        Args:
            prefix: Beginning of the objects' names in this store.
            days: Their age.

        Returns:
            True when the rule is new or was changed, False when it was there.

        Raises:
            StoreError: The bucket cannot be changed.
        """
        full = f"{self._prefix}{prefix}"

        def change() -> bool:
            bucket = self._bucket()
            bucket.reload(**self._options())
            rules = with_rules(bucket.lifecycle_rules, [expire_rule(full, days)])
            if rules is None:
                return False
            bucket.lifecycle_rules = rules
            bucket.patch(**self._options())
            return True

        return self._call(change, prefix, self._timeouts.transfer_seconds)

    def _page(self, prefix: str, token: str | None) -> _Page:
        """Fetch one page of a listing, and the token of the next."""
        pages = self._connect().list_blobs(
            self._place.name,
            prefix=self._prefix + prefix,
            page_token=token,
            fields="items(name,size,updated,generation),nextPageToken",
            **self._options(),
        )
        items = [
            ObjectInfo(
                name=blob.name.removeprefix(self._prefix),
                size_bytes=int(blob.size),
                updated=blob.updated,
                generation=str(blob.generation),
            )
            for blob in next(pages.pages, ())
        ]
        return items, pages.next_page_token

    def _exists(self, name: str) -> bool:
        def look() -> None:
            self._blob(name).reload(**self._options())

        try:
            self._call(look, name, self._timeouts.call_seconds)
        except ObjectNotFoundError:
            return False
        return True

    def _write(self, name: str, data: Content, *, generation: int) -> str | None:
        """Write an object over a generation (0: none), and return its new generation."""

        def write() -> str | None:
            blob = self._blob(name)
            mark = uuid4().hex
            blob.metadata = {WRITE_MARK: mark}
            try:
                upload(blob, data, if_generation_match=generation, **self._options())
            except Exception as error:
                if not is_precondition(error):
                    raise
                return self._generation_if_ours(name, mark)
            return str(blob.generation)

        try:
            return self._call(write, name, self._timeouts.transfer_seconds)
        except ObjectNotFoundError as error:  # a write can miss nothing but the bucket
            raise bucket_missing(self._place) from error

    def _generation_if_ours(self, name: str, mark: str) -> str | None:
        """Return the generation of an object when a lost answer was to our own write of it."""
        blob = self._blob(name)
        try:
            blob.reload(**self._options())
        except Exception as error:
            if is_object_missing(error):
                return None
            raise
        return str(blob.generation) if (blob.metadata or {}).get(WRITE_MARK) == mark else None

    def _call(self, call: Callable[[], T], name: str, seconds: float) -> T:
        moves_data = seconds > self._timeouts.call_seconds
        try:
            with waiting_for(f"bucket {self._place.name}", moves_data=moves_data):
                return call_with_deadline(call, seconds)
        except Exception as error:
            raise store_error(error, bucket=self._place, name=name) from error

    def _options(self) -> dict[str, Any]:
        from google.cloud.storage.retry import (
            DEFAULT_RETRY,
        )

        limits = self._timeouts
        retry = DEFAULT_RETRY.with_delay(initial=0.2, maximum=8.0).with_timeout(
            limits.retry_seconds
        )
        timeout = (limits.connect_seconds, limits.read_seconds)
        return {"retry": NotedRetry(retry), "timeout": timeout}

    def _blob(self, name: str) -> Blob:
        parts = name.split("/")
        if any(part in ("", ".", "..") for part in parts) or any(ord(sign) < 32 for sign in name):
            raise StoreError(
                f"object name {name!r} is malformed",
                value=name,
                hint="use relative names such as packs/abc: no '..', no empty part",
            )
        return self._bucket().blob(self._prefix + name)

    def _bucket(self) -> Bucket:
        return self._connect().bucket(self._place.name)

    def _connect(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = open_storage(self._place.project, self._endpoint, self._credentials)
            return self._client


def open_storage(
    project: str | None, endpoint: str | None, credentials: Credentials | None
) -> Client:
    """Make a client with room for the concurrent checks' connections.

    Args:
        project: Project that is billed; None for the credentials' own.
        endpoint: URL of another Cloud Storage endpoint; None for Google's.
        credentials: Google credentials; None for Application Default Credentials.
    """
    from google.auth.credentials import AnonymousCredentials
    from google.cloud.storage import Client

    from kinetic_flows.clients.google.internals import allow_connections

    if endpoint and endpoint.startswith("http://"):
        credentials = credentials or AnonymousCredentials()
        project = project or "emulated"
    if credentials is None:
        require_login(project)
    options = {"api_endpoint": endpoint} if endpoint else {}
    # The client refuses credentials of another cloud of Google's unless it is told that it is one.
    universe = getattr(credentials, "universe_domain", None)
    if universe not in (None, GOOGLES_UNIVERSE):
        options["universe_domain"] = universe
    client = Client(project=project, credentials=credentials, client_options=options or None)
    allow_connections(client, 2 * CONCURRENT_CHECKS)
    return client
