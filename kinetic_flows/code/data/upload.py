"""Bringing local data to the store: what it does not have yet, in packs and parts, at once.

What was interrupted goes on where it was, as what is there is not sent again; the manifest comes
last. Memory holds one pack or part for each thread.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.code.data.format import DEFLATED, RAW
from kinetic_flows.code.data.listening import Listener, Sent, Unheard
from kinetic_flows.code.data.manifest import Member, Pack, Part, read_objects
from kinetic_flows.code.data.scan import Scan, scan
from kinetic_flows.code.data.uses import await_cleanup, note_use
from kinetic_flows.code.data.walk import Walk
from kinetic_flows.code.resting import open_regular
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import PackagingError
from kinetic_flows.core.files import listed
from kinetic_flows.core.interruption import in_threads, pause
from kinetic_flows.core.object_names import data_pack_object, data_part_object

UPLOADERS = 4
WINDOW, WINDOW_FILES = 256, 50_000
"""How many objects the store is asked for at a time, and with how many files: some 10 MB of
memory, however many there are."""
ROUNDS = 5
"""How often files are read again that change while they are sent."""
SAMPLE_BYTES = 1 << 16
WORTH_DEFLATING = 0.8
"""Of its size, to what a sample must shrink for its object to be deflated."""
DEFLATE_LEVEL = 1

_READ_BYTES = 1 << 20
_UNHEARD = Unheard()


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """Data that is in the store.

    Attributes:
        scan: What it was when it was sent.
        sent_bytes: Size of the objects that this client wrote.
    """

    scan: Scan
    sent_bytes: int


def upload(
    scanned: Scan, store: ArtifactStore, home: Path, listener: Listener = _UNHEARD
) -> Uploaded:
    """Bring data to the store.

    Args:
        scanned: What it is; where files have changed since, they are read again.
        store: Where to.
        home: `KINETIC_HOME`.
        listener: Told how far it is.

    Raises:
        PackagingError: Files keep changing, or cannot be read any more.
        StoreError: The store refused an object.
    """
    sent_bytes, changed = 0, list[str]()
    for _ in range(ROUNDS):
        note_use(scanned.manifest.ref.sha256, store)
        if not store.missing([scanned.manifest.ref.name]):
            return Uploaded(scan=scanned, sent_bytes=sent_bytes)
        sending = _Sending(scanned, store, listener)
        sending.run()
        sent_bytes += sending.sent_bytes
        changed = sorted(sending.changed)
        if changed:
            scanned = scan(scanned.data, home, reread=changed, listener=listener)
            continue
        sent_bytes += sending.finish()
        if sending.is_whole():
            return Uploaded(scan=scanned, sent_bytes=sent_bytes)
    raise PackagingError(
        f"{scanned.data!r}: {listed(changed, limit=5) or 'the store'} keeps changing meanwhile",
        value=tuple(changed),
        hint="wait until whoever writes it has finished, or leave it out with exclude=[...]",
    )


def unsent_bytes(scanned: Scan, store: ArtifactStore) -> int:
    """Return how many bytes of data's files the store does not have."""
    if not store.missing([scanned.manifest.ref.name]):
        return 0
    return sum(item.size_bytes for window in _windows(scanned) for item in _missing(window, store))


def _windows(scanned: Scan) -> Iterator[list[Pack | Part]]:
    window: list[Pack | Part] = []
    files = 0
    for item in read_objects(scanned.manifest.path):
        window.append(item)
        files += len(item.members) if isinstance(item, Pack) else 1
        if len(window) >= WINDOW or files >= WINDOW_FILES:
            yield window
            window, files = [], 0
    yield window


def _missing(window: Sequence[Pack | Part], store: ArtifactStore) -> list[Pack | Part]:
    """Return those that the store does not have, equal ones once."""
    names = {_name(item): item for item in window}
    if not names:
        return []
    return [names[name] for name in sorted(store.missing(names))]


def _name(item: Pack | Part) -> str:
    return (
        data_part_object(item.sha256) if isinstance(item, Part) else data_pack_object(item.digest)
    )


class _Changed(Exception):
    """A file is not what it was when it was digested."""


class _Sending:
    """Sends what the store does not have of some data.

    Args:
        scanned: The data.
        store: Where to.
        listener: Told how far it is.
    """

    def __init__(self, scanned: Scan, store: ArtifactStore, listener: Listener) -> None:
        self._scan = scanned
        self._store = store
        self._listener = listener
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._done_bytes = self._files = 0
        self._found: list[str] = []
        self.sent_bytes = 0
        self.changed: set[str] = set()

    def run(self) -> None:
        """Send what is missing, but no object of which a file has changed."""
        for window in _windows(self._scan):
            missing = _missing(window, self._store)
            absent = {_name(item) for item in missing}
            there = [item for item in window if _name(item) not in absent]
            self._found += (_name(item) for item in there)
            for item in there:
                self._note(item, 0)
            in_threads(self._send, missing, threads=UPLOADERS)

    def finish(self) -> int:
        """Write the manifest, and return its size."""
        pause(0)
        manifest = self._scan.manifest
        self._store.put_if_absent(manifest.ref.name, manifest.path)
        return manifest.path.stat().st_size

    def is_whole(self) -> bool:
        """Whether what was there before still is, now that the manifest names it."""
        if not self._found:
            return True
        await_cleanup(self._store)
        if not self._store.missing(self._found):
            return True
        # Its packs come first again.
        self._store.delete(self._scan.manifest.ref.name)
        return False

    def _send(self, item: Pack | Part) -> None:
        try:
            content = _framed(_content(item, self._scan.walk))
        except _Changed as changed:
            with self._lock:
                self.changed.add(str(changed))
            return
        is_new = self._store.put_if_absent(_name(item), content)
        self._note(item, len(content) if is_new else 0)

    def _note(self, item: Pack | Part, sent_bytes: int) -> None:
        with self._lock:
            self._done_bytes += item.size_bytes
            if isinstance(item, Pack):
                self._files += len(item.members)
            elif item.offset == 0:
                self._files += 1
            self.sent_bytes += sent_bytes
            sent = Sent(
                done_bytes=self._done_bytes,
                total_bytes=self._scan.manifest.size_bytes,
                files=self._files,
                sent_bytes=self.sent_bytes,
                seconds=time.monotonic() - self._begun,
            )
        self._listener.sent(sent)


def _content(item: Pack | Part, walk: Walk) -> bytes:
    """Read what an object holds, each file as it was digested, behind the byte that it begins with.

    Raises:
        _Changed: A file is another by now.
    """
    # What it gives out in the end is not copied.
    content = io.BytesIO()
    content.write(RAW)
    if isinstance(item, Part):
        whole = Member(item.path, item.size_bytes, item.sha256)
        _read(whole, walk, item.offset, content)
    else:
        for member in item.members:
            _read(member, walk, 0, content)
    return content.getvalue()


def _read(member: Member, walk: Walk, offset: int, content: io.BytesIO) -> None:
    handle = open_regular(os.fsdecode(walk.place(member.path)))
    if handle is None:
        raise _Changed(member.path)
    digest, end = hashlib.sha256(), offset + member.size_bytes
    try:
        while piece := os.pread(handle, min(_READ_BYTES, end - offset), offset):
            offset += len(piece)
            digest.update(piece)
            content.write(piece)
    except OSError as error:
        raise _Changed(member.path) from error
    finally:
        os.close(handle)
    if digest.hexdigest() != member.sha256:
        raise _Changed(member.path)


def _framed(whole: bytes) -> bytes:
    """Return an object's bytes, deflated where that gains something.

    Args:
        whole: Its bytes where that gains nothing.
    """
    half = len(whole) // 2
    sample = whole[:SAMPLE_BYTES] + whole[half : half + SAMPLE_BYTES]
    if len(zlib.compress(sample, DEFLATE_LEVEL)) > WORTH_DEFLATING * len(sample):
        return whole
    compressor = zlib.compressobj(DEFLATE_LEVEL)
    deflated = compressor.compress(memoryview(whole)[1:])
    del whole
    return b"".join((DEFLATED, deflated, compressor.flush()))
