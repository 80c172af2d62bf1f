"""Objects of Cloud Storage on their way: from memory or a file, and into memory."""

from __future__ import annotations

import io
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.waits import try_failed

if TYPE_CHECKING:
    from google.cloud.storage import Blob

    from kinetic_flows.core.artifact_store import Content

MEMORY_CHUNK_BYTES = 8 << 20
"""How much of what is in memory is copied at a time when it is sent; a multiple of 256 KiB."""


PART_BYTES = 32 << 20
"""What is larger is fetched in parts, several at a time."""

DOWNLOADERS = 8


def upload(blob: Blob, data: Content, **options: Any) -> None:
    """Send an object, of which no more than a chunk is copied on the way."""
    options = {"content_type": "application/octet-stream", "checksum": "crc32c", **options}
    if isinstance(data, Path):
        blob.upload_from_filename(str(data), **options)
    elif isinstance(data, memoryview):
        # Otherwise the library copies up to 100 MB at a time.
        blob.chunk_size = MEMORY_CHUNK_BYTES
        blob.upload_from_file(_MemoryFile(data), size=data.nbytes, **options)
    else:
        blob.upload_from_string(data, **options)


def download(blob: Blob, **options: Any) -> memoryview:
    """Return an object in memory of its own: its beginning, and if there is more, that in parts.

    Cloud Storage has no checksums of parts: whoever reads it has to have one.

    Args:
        blob: The object.
        options: How long requests may take, and how they are tried again.
    """
    from google.api_core.exceptions import RequestRangeNotSatisfiable

    beginning = io.BytesIO()
    try:
        blob.download_to_file(beginning, end=PART_BYTES - 1, checksum=None, **options)
    except RequestRangeNotSatisfiable:
        return beginning.getbuffer()  # it is empty
    if beginning.tell() < PART_BYTES:
        return beginning.getbuffer()
    blob.reload(**options)
    size = int(blob.size)
    # Not a bytearray: that would be filled first.
    memory = memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    memory[:PART_BYTES] = beginning.getbuffer()

    def fetch(start: int) -> None:
        part = memory[start : start + PART_BYTES]
        blob.download_to_file(
            _Window(part),
            start=start,
            end=start + part.nbytes - 1,
            checksum=None,
            if_generation_match=blob.generation,
            **options,
        )

    in_threads(fetch, range(PART_BYTES, size, PART_BYTES), threads=DOWNLOADERS)
    return memory


class NotedRetry:
    """A retry policy of Google's that notes each try that failed.

    Args:
        policy: The policy.
    """

    def __init__(self, policy: Any) -> None:
        self._policy = policy

    def __call__(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a call that is tried by the policy."""
        tried: Callable[..., Any] = self._policy(call, on_error=lambda _: try_failed())
        return tried

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


class _Window:
    """A file to write to, which is a part of some memory.

    Args:
        view: The part.
    """

    def __init__(self, view: memoryview) -> None:
        self._rest = view

    def write(self, data: bytes) -> int:
        """Take the next bytes."""
        size = len(data)
        self._rest[:size], self._rest = data, self._rest[size:]
        return size


class _MemoryFile(io.RawIOBase):
    """A file to read from, which is memory of somebody else's.

    Args:
        view: The memory.
    """

    def __init__(self, view: memoryview) -> None:
        super().__init__()
        self._view = view
        self._position = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Return a copy of the next bytes."""
        whole = size is None or size < 0
        end = self._view.nbytes if whole else self._position + (size or 0)
        data = bytes(self._view[self._position : end])
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go to a place."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._view.nbytes}
        self._position = start[whence] + offset
        return self._position

    def tell(self) -> int:
        """Return the place that is read from next."""
        return self._position

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that every place can be gone to."""
        return True
