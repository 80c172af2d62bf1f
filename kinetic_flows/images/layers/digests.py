"""SHA-256 digests that are computed beside other work."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256

_BATCH_BYTES = 1 << 18
_WAITING_BATCHES = 4


class Digest:
    """A SHA-256 that is computed while the data for it is being made.

    Args:
        in_thread: Whether that is done in a thread of its own, which pays for much data.
    """

    def __init__(self, *, in_thread: bool = True) -> None:
        self._hash = sha256()
        self._pool = ThreadPoolExecutor(1) if in_thread else None
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._waiting: deque[Future[None]] = deque()

    def update(self, data: bytes) -> None:
        """Add data."""
        if self._pool is None:
            self._hash.update(data)
            return
        self._batch.append(data)
        self._batch_bytes += len(data)
        if self._batch_bytes >= _BATCH_BYTES:
            self._send(self._pool)

    def _send(self, pool: ThreadPoolExecutor) -> None:
        if len(self._waiting) >= _WAITING_BATCHES:
            self._waiting.popleft().result()
        data = self._batch[0] if len(self._batch) == 1 else b"".join(self._batch)
        self._waiting.append(pool.submit(self._hash.update, data))
        self._batch, self._batch_bytes = [], 0

    def finish(self) -> str:
        """Return the digest in hexadecimal digits, and let the thread end."""
        if self._pool and self._batch:
            self._send(self._pool)
        if self._pool:
            self._pool.shutdown()
        return self._hash.hexdigest()

    def abandon(self) -> None:
        """Let the thread end."""
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
