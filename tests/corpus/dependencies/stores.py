"""An artifact store in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from kinetic_flows.core.errors import ObjectNotFoundError
from kinetic_flows.core.artifact_store import Content, ObjectInfo, StoredObject


class MemoryStore:
    """Objects in a dictionary, and a note of every write."""

    uri = "memory:"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.reads: list[str] = []

    def check(self) -> None:
        pass

    def get(self, name: str) -> StoredObject:
        self.reads.append(name)
        try:
            data = self.objects[name]
        except KeyError:
            raise ObjectNotFoundError(f"no object {name}", value=name) from None
        return StoredObject(data=data, generation=str(hash(data)))

    def read(self, name: str) -> memoryview:
        return memoryview(bytearray(self.get(name).data))

    def put_if_absent(self, name: str, data: Content) -> bool:
        if name in self.objects:
            return False
        self.objects[name] = data.read_bytes() if isinstance(data, Path) else bytes(data)
        return True

    def replace_if_unchanged(self, name: str, data: bytes, generation: str | None) -> str | None:
        current = self.objects.get(name)
        if generation != (None if current is None else str(hash(current))):
            return None
        self.objects[name] = data
        return str(hash(data))

    def missing(self, names: Iterable[str]) -> set[str]:
        return {name for name in names if name not in self.objects}

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        for name in sorted(self.objects):
            if name.startswith(prefix):
                size = len(self.objects[name])
                yield ObjectInfo(name=name, size_bytes=size, updated=datetime.now(UTC))

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)
