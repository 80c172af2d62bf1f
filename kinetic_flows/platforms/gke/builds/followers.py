"""Who waits for an image: marks in the store, by which the last one knows that it is the last."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from kinetic_flows.core import object_names
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import KineticError


class Followers:
    """Those who wait for one image.

    Args:
        store: Where their marks are.
        subject: What the image's lease is called after.
        holder: Who asks.
        patience_seconds: How old a mark may be; an older one's owner has died.
    """

    def __init__(
        self, store: ArtifactStore, subject: str, *, holder: str, patience_seconds: float
    ) -> None:
        self._store = store
        self._prefix = object_names.lease_followers_prefix(subject)
        self._mark = self._prefix + holder
        self._patience = timedelta(seconds=patience_seconds)

    @contextlib.contextmanager
    def joined(self) -> Iterator[None]:
        """Count among them as long as the block runs."""
        self._store.put_if_absent(self._mark, b"")
        try:
            yield
        finally:
            with contextlib.suppress(KineticError):  # it grows old
                self._store.delete(self._mark)

    def are_others(self) -> bool:
        """Whether somebody else waits, too."""
        oldest = datetime.now(UTC) - self._patience
        return any(
            item.name != self._mark and item.updated > oldest
            for item in self._store.list(self._prefix)
        )

    def are_none(self) -> bool:
        """Whether nobody else waits."""
        return not self.are_others()
