"""Local data that was brought into the store: packs, parts, and the manifest that names them.

The client's side is `kinetic_flows/code/data/format.py`, which describes all of it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from .contract import EXIT_OBJECT_REFUSED, Fault, pieces_of
from .data_checks import Check, Refused
from .data_draft import Draft, Piece, SlicedFile
from .data_work import Job
from .stores import BucketStore, DirectoryStore

VERSION = 1
PART_BYTES = 32 << 20
IDENTITY_SALT = b"kinetic-data-1\n"
RAW, DEFLATED = b"r", b"z"

_GZIP = 16 + zlib.MAX_WBITS
_PIECE_BYTES = 1 << 20
_LONGEST_LINE_BYTES = 64 << 20
"""A line has the digests of a file's parts: this is enough for tens of terabytes."""

Entry = Mapping[str, Any]
Store = DirectoryStore | BucketStore


class Manifest(NamedTuple):
    """A manifest that was fetched and checked.

    Attributes:
        place: The file that has it, compressed as it came.
        name: Its object's name.
    """

    place: str
    name: str

    def entries(self) -> Iterator[Entry]:
        """Yield its lines, without those that begin and end it."""
        for line in _lines(self.place, self.name):
            entry = json.loads(line)
            if "version" not in entry and "files" not in entry:
                yield entry


def fetch_manifest(store: Store, spec: Mapping[str, Any], place: str) -> Manifest:
    """Fetch the manifest of some data, and check it.

    Args:
        store: Where it is.
        spec: The job's `DataSpec`.
        place: The file that it is written to.

    Raises:
        Fault: It is not there, or not what the job says.
    """
    ref = spec["manifest"]
    with open(place, "wb") as target:
        target.writelines(store.pieces(ref["name"]))
    manifest = Manifest(place, ref["name"])
    check = Check(f"the object {ref['name']}", ref["size_bytes"], f"sha256:{ref['sha256']}")
    identity = hashlib.sha256(IDENTITY_SALT)
    entry: Entry = {}
    for number, line in enumerate(_lines(place, ref["name"])):
        check.update(line)
        entry = _entry(line, ref["name"])
        if number == 0:
            _check_version(entry, ref["name"])
        elif "path" in entry:
            identity.update(line)
    check.finish()
    if "files" not in entry:
        raise Refused(f"the object {ref['name']}", "its last line is missing")
    if identity.hexdigest() != spec["identity"]:
        why = f"its identity is {identity.hexdigest()}, not {spec['identity']}"
        raise Refused(f"the object {ref['name']}", why)
    return manifest


def jobs(store: Store, manifest: Manifest, draft: Draft) -> Iterator[Job]:
    """Yield what brings the files that a manifest names."""
    pack: Entry = {}
    small: list[Entry] = []
    for entry in manifest.entries():
        if "pack" in entry:
            if small:
                yield partial(_bring_pack, store, pack, small, draft)
            pack, small = entry, []
        elif "sha256" in entry:
            small.append(entry)
        elif "parts" in entry:
            yield from _large(store, entry, draft)
    if small:
        yield partial(_bring_pack, store, pack, small, draft)


def finish(manifest: Manifest, draft: Draft) -> None:
    """Make what is no file, once all files are there: nothing is written through a link."""
    for entry in manifest.entries():
        if "link" in entry:
            draft.link(entry["path"], entry["link"])
        elif "directory" in entry:
            draft.make_directory(entry["path"])


def _bring_pack(store: Store, pack: Entry, entries: list[Entry], draft: Draft) -> None:
    """Fetch a pack, and write the files in it that are not there yet."""
    wanted = [entry for entry in entries if not _has(draft, entry)]
    if not wanted:
        return
    name = f"data/packs/{pack['pack']}"
    missing = {entry["path"] for entry in wanted}
    content = _Content(store, name)
    for entry in entries:
        pieces = content.take(entry["size_bytes"])
        if entry["path"] in missing:
            executable = bool(entry.get("executable"))
            draft.write(entry["path"], pieces, _check(draft, entry), executable=executable)
        else:
            for _ in pieces:
                draft.work.check()


def _has(draft: Draft, entry: Entry) -> bool:
    return draft.has(entry["path"], entry["size_bytes"], lambda: _check(draft, entry))


def _check(draft: Draft, entry: Entry) -> Check:
    name = f"{entry['path']} of {draft.what}"
    return Check(name, entry["size_bytes"], f"sha256:{entry['sha256']}")


def _large(store: Store, entry: Entry, draft: Draft) -> Iterator[Job]:
    size_bytes, digests = entry["size_bytes"], entry["parts"]
    if len(digests) != -(-size_bytes // PART_BYTES):
        raise Refused(entry["path"], f"it has {len(digests)} parts for {size_bytes} bytes")

    def fetch(begin: int, end: int) -> Iterator[Piece]:
        name = f"data/parts/{digests[begin // PART_BYTES]}"
        yield from _Content(store, name).take(end - begin)

    file = SlicedFile(
        draft,
        entry["path"],
        size_bytes,
        fetch,
        digests=digests,
        slice_bytes=PART_BYTES,
        executable=bool(entry.get("executable")),
    )
    return file.jobs()


class _Content:
    """What is in a pack or a part, read in order.

    Args:
        store: Where it is.
        name: Its name.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._name = name
        pieces = store.pieces(name)
        self._kept, self._position = next(pieces, b""), 1
        form = self._kept[:1]
        if form not in (RAW, DEFLATED):
            raise Refused(f"the object {name}", f"it begins with {form!r}")
        self._pieces = pieces
        if form == DEFLATED:
            rest = chain((self._kept[1:],), pieces)
            self._pieces = _expanded(rest, name, zlib.MAX_WBITS)
            self._kept, self._position = b"", 0

    def take(self, size_bytes: int) -> Iterator[Piece]:
        """Yield the next bytes."""
        while size_bytes:
            if self._position == len(self._kept):
                self._kept, self._position = next(self._pieces, b""), 0
                if not self._kept:
                    raise Refused(f"the object {self._name}", "it ends too early")
            # Of large files, as it came: a copy would be as large.
            end = min(self._position + size_bytes, len(self._kept))
            piece = memoryview(self._kept)[self._position : end]
            self._position = end
            size_bytes -= len(piece)
            yield piece


def _lines(place: str, name: str) -> Iterator[bytes]:
    """Yield the lines of a compressed file, each with its end."""
    with open(place, "rb") as source:
        rest = b""
        for piece in _expanded(pieces_of(source), name, _GZIP):
            *lines, rest = (rest + piece).split(b"\n")
            yield from (line + b"\n" for line in lines)
            if len(rest) > _LONGEST_LINE_BYTES:
                raise Refused(f"the object {name}", "a line of it is too long")
        if rest:
            yield rest


def _expanded(pieces: Iterator[bytes], name: str, window_bits: int) -> Iterator[bytes]:
    """Yield what was compressed in pieces of bounded size, whatever it expands to."""
    expander = zlib.decompressobj(window_bits)
    try:
        for piece in pieces:
            while piece:
                expanded = expander.decompress(piece, _PIECE_BYTES)
                if expanded:
                    yield expanded
                piece = expander.unconsumed_tail
    except zlib.error as error:
        message = f"it cannot be uncompressed ({error})"
        raise Refused(f"the object {name}", message) from error


def _entry(line: bytes, name: str) -> Entry:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise Refused(f"the object {name}", f"a line of it is no JSON ({error})") from error
    if not isinstance(entry, dict):
        raise Refused(f"the object {name}", f"a line of it is {entry!r}")
    return entry


def _check_version(entry: Entry, name: str) -> None:
    if entry.get("version") != VERSION:
        message = f"the object {name} is of version {entry.get('version')!r}, not {VERSION}"
        raise Fault(EXIT_OBJECT_REFUSED, message)
