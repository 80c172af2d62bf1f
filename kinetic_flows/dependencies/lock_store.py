"""The cache of locks: for everyone in the store, and on this machine.

A user who can write to the store could put a lock there that has more packages than the project
asks for. So a stored lock is believed only if it is signed by a user who may launch runs, or
is the very one that was made or believed here before. Of any other only the versions count, as
preferences of a resolution that decides anew.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.core import object_names
from kinetic_flows.core.artifact_store import ArtifactStore, StoreTrust
from kinetic_flows.core.errors import LockError, ObjectNotFoundError
from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import Sha256
from kinetic_flows.dependencies.lockfile import parse_lock
from kinetic_flows.dependencies.wheels import local_wheels


def private_store() -> StoreTrust:
    """Return that this user alone can write to the store."""
    return StoreTrust(is_private=True)


@dataclass(frozen=True, kw_only=True)
class LockCache:
    """The lock of one digest.

    Attributes:
        store: Where it is kept for everyone.
        home: Directory of this machine's caches.
        digest: Digest of what it is made from.
        trust: Tells whose objects in the store are believed; asked only where it matters.
    """

    store: ArtifactStore
    home: Path
    digest: Sha256
    trust: Callable[[], StoreTrust] = private_store

    @property
    def _path(self) -> Path:
        return self.home / object_names.lock_object(self.digest)

    @property
    def _believed_path(self) -> Path:
        return self._path.with_suffix(".believed")

    def stored(self) -> str | None:
        """Return the lock that everyone shares; None when there is none."""
        try:
            return self.store.get(object_names.lock_object(self.digest)).data.decode(
                errors="replace"
            )
        except ObjectNotFoundError:
            return None

    def cached(self) -> str | None:
        """Return a lock that was made here and is complete; None when there is none."""
        try:
            text = self._path.read_text(encoding="utf-8")
            wheels = local_wheels(parse_lock(text), home=self.home)
        except (FileNotFoundError, LockError):
            return None
        return text if all(wheel.path.is_file() for wheel in wheels) else None

    def cache(self, text: str) -> None:
        """Keep a lock that was made here, so that a plan's work serves the run."""
        write_atomically(self._path, text.encode())

    def is_genuine(self, text: str) -> bool:
        """Whether a lock out of the store was written by a user who may launch runs."""
        if self._is_known(text):
            return True
        trust = self.trust()
        if not (trust.is_private or (trust.key is not None and self._is_signed(text, trust.key))):
            return False
        write_atomically(self._believed_path, sha256_hex(text.encode()).encode())
        return True

    def publish(self, text: str, accept: Callable[[str], bool]) -> str:
        """Store a lock, its wheels first; return the one that is stored in the end.

        Args:
            text: The lock.
            accept: Whether a lock that another client stored meanwhile will do as well.
        """
        name = object_names.lock_object(self.digest)
        for wheel in local_wheels(parse_lock(text), home=self.home):
            if wheel.path.is_file():
                self.store.put_if_absent(
                    object_names.wheel_object(wheel.sha256, wheel.filename), wheel.path
                )
        if not self.store.put_if_absent(name, text.encode()):
            current = self.store.get(name)
            is_ours = current.data == text.encode()
            # A client that replaced it at the same moment was as right as we are: theirs stands.
            if not is_ours and not self._replaced(text, current.generation):
                theirs = self.stored()
                return theirs if theirs is not None and accept(theirs) else text
        self._sign(text)
        return text

    def _replaced(self, text: str, generation: str) -> bool:
        name = object_names.lock_object(self.digest)
        return self.store.replace_if_unchanged(name, text.encode(), generation) is not None

    def _is_known(self, text: str) -> bool:
        try:
            if self._path.read_text(encoding="utf-8") == text:
                return True
        except (FileNotFoundError, UnicodeDecodeError):
            pass
        try:
            return self._believed_path.read_text() == sha256_hex(text.encode())
        except (FileNotFoundError, UnicodeDecodeError):
            return False

    def _is_signed(self, text: str, key: bytes) -> bool:
        try:
            found = self.store.get(object_names.lock_signature_object(self.digest, key)).data
        except ObjectNotFoundError:
            return False
        return hmac.compare_digest(found, self._signature(text, key))

    def _sign(self, text: str) -> None:
        key = self.trust().key
        if key is None:
            return
        name, signature = (
            object_names.lock_signature_object(self.digest, key),
            self._signature(text, key),
        )
        if self.store.put_if_absent(name, signature):
            return
        current = self.store.get(name)
        if current.data != signature:
            self.store.replace_if_unchanged(name, signature, current.generation)

    def _signature(self, text: str, key: bytes) -> bytes:
        signed = f"kinetic lock {self.digest}\n{text}".encode()
        return hmac.new(key, signed, "sha256").hexdigest().encode()
