"""The block in which Prefect keeps what builds came to, for everyone who uses the same cluster."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from prefect.filesystems import WritableFileSystem
from pydantic import Field, HttpUrl, PrivateAttr

from kinetic_flows.clients.google.storage import GoogleStore, StoreTimeouts
from kinetic_flows.clients.prefect.build_cache import plain_record
from kinetic_flows.core.errors import StoreError

logger = logging.getLogger(__name__)

WRITE_TRIES = 3
TIMEOUTS = StoreTimeouts(
    connect_seconds=5, read_seconds=10, retry_seconds=10, call_seconds=15, transfer_seconds=15
)
"""A cache that takes long is worth nothing: the registry answers too."""


class KineticBuildCache(WritableFileSystem):
    """The results of image builds in a bucket, by which Prefect finds a build made before.

    `@kinetic.run` saves one for each bucket that it uses. It is a cache: what cannot be read
    counts as missing, what cannot be written is left out, and what is read is never trusted
    with more than plain JSON, so nobody who can write to the bucket can have code run here.

    Example:
        Load the cache of a bucket:
        ```python
        from kinetic_flows.blocks import KineticBuildCache

        cache = KineticBuildCache.load("BLOCK_NAME")
        ```
    """

    _block_type_name: ClassVar[str | None] = "Kinetic Build Cache"
    _block_type_slug: ClassVar[str | None] = "kinetic-build-cache"
    _description: ClassVar[str | None] = (
        "What the image builds of `@kinetic.run` came to, in a bucket that a team shares."
    )
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://kinetic-flows.readthedocs.io/gke/"
    )
    _logo_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://cdn.sanity.io/images/3ugk85nk/production/"
        "10424e311932e31c477ac2b9ef3d53cefbaad708-250x250.png"
    )

    bucket: str = Field(
        description="The bucket, without gs://.",
        examples=["my-project-123-kn-kinetic-cluster-jobs"],
    )
    prefix: str = Field(
        default="results",
        description="The prefix of every object in the bucket, without a trailing slash.",
        examples=["results"],
    )
    project: str | None = Field(
        default=None,
        description="The Google Cloud project that is billed; empty for the credentials' own.",
        examples=["my-project-123"],
    )
    endpoint: str | None = Field(
        default=None,
        description="The URL of another Cloud Storage endpoint; empty for Google's.",
        examples=["https://storage.internal.example.com"],
    )
    profile: str | None = Field(
        default=None,
        description="The saved Kinetic Cluster whose Google credentials to use; empty for "
        "Application Default Credentials.",
        examples=["my-cluster"],
    )

    _store: GoogleStore | None = PrivateAttr(default=None)

    def read_path(self, path: str, **_: Any) -> bytes:  # type: ignore[override]
        """Return a record, reduced to what is safe to read.

        Prefect asks for the synchronous method with an argument that does not matter here.

        Args:
            path: The record's key.

        Raises:
            ValueError: There is no such record, it cannot be read, or it is no plain JSON.
        """
        try:
            return plain_record(self._objects().get(path).data)
        except StoreError as error:
            raise ValueError(f"the build cache has no {path}: {error.message}") from error

    def write_path(self, path: str, content: bytes, **_: Any) -> None:  # type: ignore[override]
        """Write a record over whatever is there; a failure is logged and otherwise ignored.

        Args:
            path: The record's key.
            content: The record.
        """
        try:
            for _try in range(WRITE_TRIES):
                if self._written(path, content):
                    return
        except StoreError as error:
            logger.warning("the build cache is not written: %s", error.message)

    async def aread_path(self, path: str) -> bytes:
        """Return a record, as `read_path` does."""
        return self.read_path(path)

    async def awrite_path(self, path: str, content: bytes) -> None:
        """Write a record, as `write_path` does."""
        self.write_path(path, content)

    def _written(self, path: str, content: bytes) -> bool:
        store = self._objects()
        generation = None if store.missing([path]) else store.get(path).generation
        return store.replace_if_unchanged(path, content, generation) is not None

    def _objects(self) -> GoogleStore:
        if self._store is None:
            self._store = GoogleStore(
                self.bucket,
                prefix=self.prefix,
                project=self.project,
                endpoint=self.endpoint,
                credentials=_credentials_of(self.profile) if self.profile else None,
                timeouts=TIMEOUTS,
            )
        return self._store


def _credentials_of(profile: str) -> Any:
    # All of prefect-gcp comes with it, which takes half a second.
    from .kinetic_cluster import KineticCluster

    cluster: Any = KineticCluster.load(profile, _sync=True)  # type: ignore[call-arg]
    saved = cluster.gcp_credentials
    return saved.get_credentials_from_service_account() if saved else None
