"""Rehearsals that were made, kept for the next plan and call: here, and for everyone in the store.

A user who can write to the store could put a record there which says that all fits. So only one
is believed that is signed with the key of the users who may launch runs; a store without such a
key keeps none, and what this machine made, it knows.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.core import object_names
from kinetic_flows.core.artifact_store import ArtifactStore, StoreTrust
from kinetic_flows.core.errors import ObjectNotFoundError, StoreError
from kinetic_flows.core.files import exclusive_lock, write_atomically
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.rehearsals import RehearsalRecord

HEADER = b"kinetic-rehearsals-1"
"""The first line of kept records; another says that they are to be read in another way."""

MAX_RECORDS = 8
"""How many are kept of a function: rehearsals of other code and accelerators tell something."""

MAX_BYTES = 1 << 20
"""How large all records of a function may be; the oldest go first."""

MAX_FUNCTIONS = 500
"""Of how many functions records are kept on this machine."""

LOCK = "lock"
"""File beside those of this machine, held by whoever adds a record."""

Records = tuple[RehearsalRecord, ...]


@dataclass(frozen=True, kw_only=True)
class RehearsalRecords:
    """What is known of rehearsals.

    Attributes:
        home: Directory of this machine's caches.
        store: Where they are kept for everyone.
        trust: Tells whose objects in the store are believed; asked only where it matters.
    """

    home: Path
    store: ArtifactStore
    trust: Callable[[], StoreTrust]

    def keep(self, record: RehearsalRecord) -> bool:
        """Keep a record; return whether everyone has it, which a store may refuse.

        Args:
            record: The record.
        """
        path = self._path(record.function)
        # Of two that end at once, both are kept.
        with exclusive_lock(path.parent / LOCK):
            write_atomically(path, _encoded((record, *self.here(record.function)), None))
            _forget_old(path.parent)
        key = self.trust().key
        try:
            return key is not None and self._publish(record, key)
        except StoreError:
            return False

    def last(self, function: str) -> RehearsalRecord | None:
        """Return the newest record of a function, of this machine's and the store's.

        Args:
            function: The function, as `plans.rehearsal.function_id` names it.
        """
        return next(iter(newest((*self.here(function), *self.shared(function)))), None)

    def here(self, function: str) -> Records:
        """Return what this machine knows of a function, newest first; nobody is asked.

        Args:
            function: The function.
        """
        path = self._path(function)
        try:
            if path.stat().st_size > MAX_BYTES:
                return ()
            return _decoded(path.read_bytes(), function, None)
        except OSError:
            return ()

    def shared(self, function: str) -> Records:
        """Return what the store has of a function, newest first: one request, or none.

        Args:
            function: The function.
        """
        key = self.trust().key
        if key is None:
            return ()
        try:
            found = self.store.get(object_names.rehearsals_object(function, key)).data
        except StoreError:
            return ()
        return _decoded(found, function, key)

    def _path(self, function: str) -> Path:
        return self.home / object_names.REHEARSALS / f"{sha256_hex(function.encode())}.json"

    def _publish(self, record: RehearsalRecord, key: bytes) -> bool:
        """Store a record among those of others; a client that was faster is not overwritten."""
        name = object_names.rehearsals_object(record.function, key)
        if self.store.put_if_absent(name, _encoded((record,), key)):
            return True
        for _ in range(3):
            try:
                found = self.store.get(name)
            except ObjectNotFoundError:
                return self.store.put_if_absent(name, _encoded((record,), key))
            content = _encoded((record, *_decoded(found.data, record.function, key)), key)
            if self.store.replace_if_unchanged(name, content, found.generation) is not None:
                return True
        return False


def newest(records: Iterable[RehearsalRecord]) -> Records:
    """Return records without those that are there twice, newest first."""
    kept: list[RehearsalRecord] = []
    for each in sorted(records, key=lambda each: -each.made_at):
        if each not in kept:
            kept.append(each)
    return tuple(kept)


def _encoded(records: Records, key: bytes | None) -> bytes:
    """Write the newest records of one function, as many as may be kept."""
    kept = newest(records)[:MAX_RECORDS]
    while True:
        body = canonical_json([each.to_json() for each in kept])
        if len(body) <= MAX_BYTES // 2 or not kept:
            break
        kept = kept[:-1]
    signature = _signature(body, records[0].function, key)
    return b"\n".join((HEADER, signature, body))


def _decoded(content: bytes, function: str, key: bytes | None) -> Records:
    """Read records of a function; none where they are damaged, or not signed as they must be."""
    header, _, rest = content.partition(b"\n")
    signature, _, body = rest.partition(b"\n")
    if header != HEADER or len(content) > MAX_BYTES:
        return ()
    if not hmac.compare_digest(signature, _signature(body, function, key)):
        return ()
    try:
        records = [RehearsalRecord.from_json(each) for each in json.loads(body)]
        return newest(each for each in records if each.function == function)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        # Another version may have written what this one does not know.
        return ()


def _signature(body: bytes, function: str, key: bytes | None) -> bytes:
    """Return what proves that records are whole, and with a key who wrote them."""
    signed = b"kinetic rehearsals " + sha256_hex(function.encode()).encode() + b"\n" + body
    return hmac.new(key or b"here", signed, "sha256").hexdigest().encode()


def _forget_old(directory: Path) -> None:
    """Remove the records of functions that nobody has rehearsed for the longest time."""
    found = [path for path in directory.glob("*.json") if path.is_file()]
    if len(found) <= MAX_FUNCTIONS:
        return
    found.sort(key=lambda path: path.stat().st_mtime)
    for path in found[: len(found) - MAX_FUNCTIONS]:
        path.unlink(missing_ok=True)
