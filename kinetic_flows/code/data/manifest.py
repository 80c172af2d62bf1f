"""Writing and reading the manifest of local data, line by line."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any, NamedTuple

from kinetic_flows.code.data.digests import Digested
from kinetic_flows.code.data.format import (
    FIRST_LINE,
    IDENTITY_SALT,
    PART_BYTES,
    line_of,
    pack_digest,
)
from kinetic_flows.core.files import open_private
from kinetic_flows.core.job_parts import ObjectRef, Sha256
from kinetic_flows.core.object_names import data_manifest_object

PACK_BYTES = 16 << 20
"""How large packs are on average."""
LEAST_PACK_BYTES = 4 << 20
MOST_PACK_BYTES = 32 << 20
ENTRY_BYTES = 512
"""What an entry counts for besides its content, so that packs of empty files end, too."""

COMPRESSION_LEVEL = 1

_FRACTION = 1 << 64


class Member(NamedTuple):
    """A small file in a pack."""

    path: str
    size_bytes: int
    sha256: str


class Pack(NamedTuple):
    """Small files that are one object.

    Attributes:
        digest: The pack's digest.
        size_bytes: Size of their content.
        members: The files, in order.
    """

    digest: str
    size_bytes: int
    members: tuple[Member, ...]


class Part(NamedTuple):
    """A part of a large file.

    Attributes:
        path: The file.
        offset: Where it begins.
        size_bytes: Its size.
        sha256: Its digest.
    """

    path: str
    offset: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A manifest that was written.

    Attributes:
        path: The file, compressed.
        ref: Its object.
        identity: The identity of the data.
        files: How many files there are.
        size_bytes: Their size.
    """

    path: Path
    ref: ObjectRef
    identity: str
    files: int
    size_bytes: int


def write_manifest(path: Path, entries: Iterable[Digested]) -> Manifest:
    """Write the manifest of what was digested; no more than a pack's lines are in memory.

    Args:
        path: The file to write, which is not there yet.
        entries: Files, links and empty directories, in the order of their walk.
    """
    with (
        os.fdopen(open_private(path), "wb") as file,
        gzip.GzipFile(
            filename="", mode="wb", compresslevel=COMPRESSION_LEVEL, fileobj=file, mtime=0
        ) as compressed,
    ):
        writer = _Writer(compressed)
        for entry in entries:
            writer.add(entry)
        writer.finish()
    sha256 = Sha256(writer.content.hexdigest())
    ref = ObjectRef(
        name=data_manifest_object(sha256), sha256=sha256, size_bytes=writer.written_bytes
    )
    return Manifest(
        path=path,
        ref=ref,
        identity=writer.identity.hexdigest(),
        files=writer.files,
        size_bytes=writer.size_bytes,
    )


class _Writer:
    """Writes the lines of a manifest.

    Args:
        file: Where to.
    """

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file = file
        self.content, self.identity = hashlib.sha256(), hashlib.sha256(IDENTITY_SALT)
        self.written_bytes = self.files = self.size_bytes = 0
        self._lines: list[bytes] = []
        self._digests: list[str] = []
        self._pack_bytes = self._counted_bytes = 0
        self._write(FIRST_LINE)

    def add(self, entry: Digested) -> None:
        """Write an entry, with the others of its pack once that is full."""
        line = _line(entry)
        self.identity.update(line)
        self._lines.append(line)
        self._counted_bytes += ENTRY_BYTES
        size_bytes = entry.found.size_bytes
        if entry.found.kind == "file":
            self.files += 1
            self.size_bytes += size_bytes
        if len(entry.digests) == 1:
            self._digests.append(entry.digests[0])
            self._pack_bytes += size_bytes
            self._counted_bytes += size_bytes
            if self._is_full(size_bytes + ENTRY_BYTES, entry.digests[0]):
                self._end_pack()
        elif not self._digests or self._counted_bytes > MOST_PACK_BYTES:
            self._end_pack()

    def finish(self) -> None:
        """Write what is left, and the last line."""
        self._end_pack()
        self._write(line_of({"files": self.files, "size_bytes": self.size_bytes}))

    def _is_full(self, added_bytes: int, sha256: str) -> bool:
        """Whether a pack ends: after the same files, whatever comes before them, as a rule.

        So a file that comes, goes or changes touches its own pack, and perhaps the next.
        """
        if self._counted_bytes >= MOST_PACK_BYTES:
            return True
        if self._counted_bytes < LEAST_PACK_BYTES:
            return False
        return int(sha256[:16], 16) * PACK_BYTES < added_bytes * _FRACTION

    def _end_pack(self) -> None:
        if self._digests:
            announced = {"pack": pack_digest(self._digests), "size_bytes": self._pack_bytes}
            self._write(line_of(announced))
        for line in self._lines:
            self._write(line)
        self._lines.clear()
        self._digests.clear()
        self._pack_bytes = self._counted_bytes = 0

    def _write(self, line: bytes) -> None:
        self.content.update(line)
        self.written_bytes += len(line)
        self._file.write(line)


def _line(entry: Digested) -> bytes:
    """Return an entry's line; what there may be a million of is written without `json.dumps`."""
    found = entry.found
    if found.kind == "link":
        return line_of({"path": found.path, "link": found.link})
    if found.kind == "directory":
        return line_of({"path": found.path, "directory": True})
    path, executable = encode_basestring_ascii(found.path), ',"executable":true'
    if found.size_bytes > PART_BYTES:
        content = '"parts":["' + '","'.join(entry.digests) + '"]'
    else:
        content = f'"sha256":"{entry.digests[0]}"'
    end = executable if found.is_executable else ""
    return f'{{"path":{path},"size_bytes":{found.size_bytes},{content}{end}}}\n'.encode("ascii")


def read_objects(path: Path) -> Iterator[Pack | Part]:
    """Yield the packs and parts of a manifest that was written here.

    Args:
        path: The file.
    """
    with gzip.open(path, "rb") as lines:
        announced: dict[str, Any] = {}
        members: list[Member] = []
        for line in lines:
            entry = json.loads(line)
            if "pack" in entry or "path" not in entry:
                if announced:
                    yield Pack(announced["pack"], announced["size_bytes"], tuple(members))
                announced, members = (entry if "pack" in entry else {}), []
            elif "sha256" in entry:
                members.append(Member(entry["path"], entry["size_bytes"], entry["sha256"]))
            for index, sha256 in enumerate(entry.get("parts", ())):
                offset = index * PART_BYTES
                size_bytes = min(PART_BYTES, entry["size_bytes"] - offset)
                yield Part(entry["path"], offset, size_bytes, sha256)
