"""What a store lists below a name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

FIELDS = "items(name,size,timeCreated),nextPageToken"
"""What a bucket is asked for of each object."""


class Listed(NamedTuple):
    """An object as a store lists it.

    Attributes:
        name: Its name.
        size_bytes: Its size.
        made_at: When it was written, in seconds since 1970.
    """

    name: str
    size_bytes: int
    made_at: float


def in_directory(directory: str, prefix: str) -> Iterator[Listed]:
    """Yield the files below a directory; none where there is no such directory.

    Args:
        directory: The directory.
        prefix: What their names as objects begin with, with a slash at its end.
    """
    try:
        found = list(os.scandir(directory))
    except FileNotFoundError:
        return
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from in_directory(entry.path, f"{prefix}{entry.name}/")
            continue
        # What another run deletes meanwhile is not there.
        with suppress(FileNotFoundError):
            told = entry.stat(follow_symlinks=False)
            yield Listed(prefix + entry.name, told.st_size, told.st_mtime)


def in_bucket(client: Any, bucket: Any, prefix: str, of_store: str) -> Iterator[Listed]:
    """Yield the objects of a bucket whose names begin with a prefix.

    Args:
        client: A `google.cloud.storage.Client`.
        bucket: The bucket.
        prefix: What their names in the store begin with.
        of_store: What stands before that, in the bucket.
    """
    for blob in client.list_blobs(bucket, prefix=of_store + prefix, fields=FIELDS):
        name = blob.name[len(of_store) :]
        yield Listed(name, int(blob.size or 0), blob.time_created.timestamp())
