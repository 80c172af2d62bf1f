"""Layers that were made on this machine and are not in a registry yet.

They are kept until they are, so that an assembly that was interrupted goes on where it was; what
nobody came back for goes after some days, or when there is too much of it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kinetic_flows.core.files import exclusive_lock, private_directory, write_atomically
from kinetic_flows.core.interruption import pause
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.images.assembly.records import LayerRecord

MAX_BYTES = 10 << 30
MAX_AGE_SECONDS = 3 * 86400.0
_LOOK_SECONDS = 0.1


class KeptLayers:
    """The directory of made layers.

    Args:
        home: `KINETIC_HOME`.
        max_bytes: How much of the disk they may take; one layer may always be made.
    """

    def __init__(self, home: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._directory = private_directory(home / "layers" / "blobs")
        self._locks = home / "layers" / "locks"
        self._max_bytes = max_bytes
        self._taken: dict[str, int] = {}
        self._sent: list[str] = []
        self._changed = threading.Lock()

    @contextmanager
    def room_for(self, tag: str, size_bytes: int) -> Iterator[None]:
        """Wait until there is room for a layer; one that was sent has it until it is discarded.

        Args:
            tag: The layer's tag.
            size_bytes: About how much it takes.
        """
        while not self._take(tag, size_bytes):
            if not self._discard_one():
                pause(_LOOK_SECONDS)
        try:
            yield
        finally:
            if tag not in self._sent:
                self._give_back(tag)

    @contextmanager
    def held(self, tag: str) -> Iterator[None]:
        """Be the only one on this machine that makes and sends a layer."""
        # Few files, which stay: one that is removed may be held by somebody who waited for it.
        with exclusive_lock(self._locks / sha256_hex(tag.encode())[:3]):
            yield

    def path(self, tag: str) -> Path:
        """Return the file of a layer, which need not be there."""
        return self._directory / f"{tag}.tar.gz"

    def find(self, tag: str) -> LayerRecord | None:
        """Return a layer that was made before; None when there is none, or a damaged one."""
        try:
            record = LayerRecord.from_json(self._note(tag).read_bytes())
            is_whole = record.tag == tag and _digest(self.path(tag)) == record.blob.digest
        except (OSError, ValueError):
            return None
        return record if is_whole else None

    def keep(self, record: LayerRecord, made: Path) -> None:
        """Keep a layer.

        Args:
            record: What there is to know of it.
            made: Its file, which is moved.
        """
        made.replace(self.path(record.tag))
        write_atomically(self._note(record.tag), record.to_json())

    def is_sent(self, tag: str) -> None:
        """Note that the registry has a layer: it goes when there is no room for another one."""
        with self._changed:
            self._sent.append(tag)

    def discard(self, tag: str) -> None:
        """Remove a layer that is not needed here any more."""
        with suppress(OSError):
            self._note(tag).unlink(missing_ok=True)
            self.path(tag).unlink(missing_ok=True)
        self._give_back(tag)

    def discard_sent(self) -> None:
        """Remove every layer that was sent."""
        while self._discard_one():
            pass

    def tidy(self) -> None:
        """Remove what earlier assemblies left for too long, and the oldest where it is too much."""
        with suppress(OSError):
            found = sorted(self._directory.iterdir(), key=lambda path: -path.stat().st_mtime)
            total = 0
            for path in found:
                size, modified = path.stat().st_size, path.stat().st_mtime
                total += size
                if total > self._max_bytes or time.time() - modified > MAX_AGE_SECONDS:
                    path.unlink(missing_ok=True)

    def _discard_one(self) -> bool:
        """Remove a layer that was sent; return whether there was one."""
        # Several threads may want the last one.
        try:
            tag = self._sent.pop()
        except IndexError:
            return False
        self.discard(tag)
        return True

    def _note(self, tag: str) -> Path:
        return self._directory / f"{tag}.json"

    def _take(self, tag: str, size_bytes: int) -> bool:
        with self._changed:
            taken = sum(self._taken.values())
            if self._taken and taken + size_bytes > self._max_bytes:
                return False
            self._taken[tag] = size_bytes
            return True

    def _give_back(self, tag: str) -> None:
        with self._changed:
            self._taken.pop(tag, None)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
