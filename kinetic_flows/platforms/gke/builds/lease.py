"""Who builds, when many ask for the same image: a lease kept in the artifact store.

A lease is an object that is created only if it does not exist, and replaced only at the
generation that was read. Its holder renews it; a lease that nobody has renewed for a while is
taken over, under a higher fencing number. Whether it is renewed is judged by watching it, not
by comparing the clocks of two machines.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TypeAlias
from uuid import uuid4

from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import KineticError, ObjectNotFoundError
from kinetic_flows.core.job import canonical_json

Clock: TypeAlias = Callable[[], float]

TERM_SECONDS = 45.0
"""A lease that has not changed for so long has lost its holder."""

RENEWALS_PER_TERM = 4


@dataclass(frozen=True, kw_only=True)
class LeaseRecord:
    """What a lease says.

    Attributes:
        holder: Who holds it; empty when it has been given back.
        fencing: Number of the holding: each new holder's is higher.
        renewals: How often the holder has renewed it.
        build: Id of the build the holder has started; empty when there is none yet.
    """

    holder: str
    fencing: int
    renewals: int = 0
    build: str = ""

    def to_json(self) -> bytes:
        """Return the record's stored form."""
        return canonical_json(asdict(self))

    @staticmethod
    def from_json(data: bytes) -> LeaseRecord:
        """Read a record; one that cannot be read counts as given back."""
        try:
            value = json.loads(data)
            return LeaseRecord(
                holder=str(value["holder"]),
                fencing=int(value["fencing"]),
                renewals=int(value["renewals"]),
                build=str(value["build"]),
            )
        except (ValueError, KeyError, TypeError, OverflowError):
            return LeaseRecord(holder="", fencing=0)


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A lease as it was seen, and since when it has looked like that.

    Attributes:
        record: What it says; None when there is no lease.
        generation: The version that was seen; None when there is no lease.
        since: When this version was first seen, by the observer's own clock.
    """

    record: LeaseRecord | None
    generation: str | None
    since: float


def see(before: Sighting | None, record: LeaseRecord | None, generation: str | None,
        now: float) -> Sighting:  # fmt: skip
    """Return what is known after another look at a lease."""
    unchanged = before is not None and before.generation == generation
    since = before.since if before is not None and unchanged else now
    return Sighting(record=record, generation=generation, since=since)


def claim(sighting: Sighting, holder: str, now: float, term_seconds: float) -> LeaseRecord | None:
    """Return the record that makes a client the holder; None while another one is.

    Args:
        sighting: The lease as last seen.
        holder: Who wants it.
        now: The observer's clock.
        term_seconds: How long an unchanged lease is believed.
    """
    record = sighting.record
    if record is None:
        return LeaseRecord(holder=holder, fencing=1)
    expired = now - sighting.since >= term_seconds
    if record.holder and record.holder != holder and not expired:
        return None
    # A build that the lost holder had started goes on, and is taken over with the lease.
    return LeaseRecord(holder=holder, fencing=record.fencing + 1, build=record.build)


class Lease:
    """One party's view of a lease.

    Args:
        store: Where the lease is kept.
        name: The object that is the lease.
        term_seconds: How long an unchanged lease is believed.
        clock: Seconds that only ever grow.
    """

    def __init__(
        self,
        store: ArtifactStore,
        name: str,
        *,
        term_seconds: float = TERM_SECONDS,
        clock: Clock = time.monotonic,
    ) -> None:
        self._store = store
        self._name = name
        self._term_seconds = term_seconds
        self._clock = clock
        self._seen: Sighting | None = None
        self._held: LeaseRecord | None = None
        self._lock = threading.Lock()
        self.holder = uuid4().hex

    @property
    def is_held(self) -> bool:
        """Whether this party is the holder, as far as it knows."""
        return self._held is not None

    @property
    def is_first(self) -> bool:
        """Whether this party is the holder, and nobody was before."""
        return self._held is not None and self._held.fencing == 1

    @property
    def build(self) -> str:
        """Id of the build that the lease speaks of; empty for none."""
        record = self._held or (self._seen.record if self._seen else None)
        return record.build if record else ""

    def acquire(self) -> bool:
        """Become the holder, if nobody else is. Costs one look, and one write at most."""
        with self._lock:
            sighting = self._look()
            wanted = claim(sighting, self.holder, self._clock(), self._term_seconds)
            return wanted is not None and self._write(wanted)

    def renew(self) -> bool:
        """Show that the holder lives; False when the lease has been lost."""
        return self._update(lambda record: record)

    def record_build(self, build: str) -> bool:
        """Tell everyone which build makes the image; False when the lease has been lost."""
        return self._update(lambda record: replace(record, build=build))

    def release(self) -> None:
        """Give the lease back, so that nobody waits for it to expire."""
        self._update(lambda record: replace(record, holder="", build=""))
        self._held = None

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Renew the lease in the background as long as the block runs, then give it back."""
        finished = threading.Event()
        pause = self._term_seconds / RENEWALS_PER_TERM

        def keep() -> None:
            while not finished.wait(pause):
                with contextlib.suppress(KineticError):  # the next renewal may succeed
                    if not self.renew():
                        return

        keeper = threading.Thread(target=keep, name="kinetic-lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            finished.set()
            keeper.join()
            with contextlib.suppress(KineticError):  # it will expire
                self.release()

    def _update(self, change: Callable[[LeaseRecord], LeaseRecord]) -> bool:
        with self._lock:
            if self._held is None:
                return False
            return self._write(replace(change(self._held), renewals=self._held.renewals + 1))

    def _write(self, record: LeaseRecord) -> bool:
        """Write a record over the version last seen; a refusal means the lease is not ours."""
        expected = self._seen.generation if self._seen else None
        generation = self._store.replace_if_unchanged(self._name, record.to_json(), expected)
        if generation is None:
            self._held = None
            return False
        self._seen = Sighting(record=record, generation=generation, since=self._clock())
        self._held = record
        return True

    def _look(self) -> Sighting:
        try:
            stored = self._store.get(self._name)
        except ObjectNotFoundError:
            seen = see(self._seen, None, None, self._clock())
        else:
            record = LeaseRecord.from_json(stored.data)
            seen = see(self._seen, record, stored.generation, self._clock())
        self._seen = seen
        return seen
