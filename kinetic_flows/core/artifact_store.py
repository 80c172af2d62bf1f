"""The artifact store: a flat namespace of objects, with compare-and-swap."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeAlias

Content: TypeAlias = bytes | memoryview | Path
"""What an object is written from: memory, which is not copied as a whole, or a file."""


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object's content and the generation that names this version of it."""

    data: bytes
    generation: str


@dataclass(frozen=True, kw_only=True)
class ObjectInfo:
    """An object in a listing: its name, size and time, and in a bucket which version of it."""

    name: str
    size_bytes: int
    updated: datetime
    generation: str = ""


class ArtifactStore(Protocol):
    """A flat namespace of immutable and compare-and-swapped objects.

    Names are relative to the store's root and use `/`. A reader never sees a partial object.
    """

    @property
    def uri(self) -> str:
        """Where the store is, as the runner is told: `file:///…` or `gs://bucket/prefix`."""
        ...

    def check(self) -> None:
        """Raise `StoreError` where nothing can be kept: the bucket is missing, or out of reach."""
        ...

    def get(self, name: str) -> StoredObject:
        """Return an object; raise `ObjectNotFoundError` when there is none."""
        ...

    def read(self, name: str) -> memoryview:
        """Return an object's content in memory of its own, which may be written to.

        For what is large, and has a signature that is checked afterwards.

        Raises:
            ObjectNotFoundError: There is none of this name.
        """
        ...

    def put_if_absent(self, name: str, data: Content) -> bool:
        """Write an object, from memory or from a file, unless the name is taken.

        Returns:
            True when this call wrote it, False when it was already there.
        """
        ...

    def replace_if_unchanged(self, name: str, data: bytes, generation: str | None) -> str | None:
        """Write an object if its generation is still the one given (None: if there is none).

        Returns:
            The new generation, or None when another writer was faster.
        """
        ...

    def missing(self, names: Iterable[str]) -> set[str]:
        """Return those names that the store does not have, asking concurrently."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object whose name starts with the prefix, in name order."""
        ...

    def delete(self, name: str) -> None:
        """Remove an object; nothing happens when there is none."""
        ...


@dataclass(frozen=True, kw_only=True)
class StoreTrust:
    """Whose objects in a store are believed.

    Attributes:
        is_private: Whether this user alone can write to the store.
        key: The key of the users who may launch runs; None when this user does not know it.
    """

    is_private: bool = False
    key: bytes | None = field(default=None, repr=False)
