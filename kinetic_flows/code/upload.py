"""Uploading what a snapshot needs and the store does not have."""

from __future__ import annotations

import hashlib
import itertools
import zlib
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from kinetic_flows.code.distributions import own_distributions
from kinetic_flows.code.ignore import read_rules
from kinetic_flows.code.main_module import main_name
from kinetic_flows.code.manifest import decode_manifest, encode_manifest
from kinetic_flows.code.packs import (
    Contents,
    FileRead,
    Member,
    archive,
    member_of,
    pack_inputs,
    plan_packs,
)
from kinetic_flows.code.reading import became_secret
from kinetic_flows.code.resting import settle
from kinetic_flows.code.root import PackageRoot
from kinetic_flows.code.snapshot import CodeSnapshot
from kinetic_flows.code.tree import Tree
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.files import scratch_directory
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.job import CodeSpec
from kinetic_flows.core.job_parts import ObjectRef, Sha256
from kinetic_flows.core.object_names import pack_object

UPLOADERS = 4
COMPRESSION_LEVEL = 6
SAMPLE_BYTES = 1 << 16
WORTH_COMPRESSING = 0.95

_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, kw_only=True)
class UploadSummary:
    """The objects and bytes that an upload sent.

    Attributes:
        snapshot: What is in the store now: the snapshot that was asked for, or, where files
            changed since it was taken, another with versions of these.
        bytes_uploaded: Size of the objects that this client wrote, compressed.
        warnings: What was left out or is not as it was, a sentence each.
    """

    snapshot: CodeSnapshot
    bytes_uploaded: int
    warnings: tuple[str, ...] = ()


def upload_code(snapshot: CodeSnapshot, store: ArtifactStore, *, home: Path) -> UploadSummary:
    """Put those packs of a snapshot into the store that it lacks, then the manifest.

    Args:
        snapshot: What to upload; its files are read again as far as they are needed, and where
            one has changed, a version of it takes its place.
        store: Where to.
        home: `KINETIC_HOME`, where packs are made.

    Raises:
        StoreError: The store refused an object.
    """
    planned = snapshot.manifest_ref
    missing = store.missing([planned.name, *(pack.name for pack in snapshot.packs)])
    sent: list[int] = []
    warnings: tuple[str, ...] = ()
    if any(pack.name in missing for pack in snapshot.packs):
        with scratch_directory(home) as folder:
            upload = _Upload(snapshot, store, folder)
            snapshot, warnings = upload.run(missing)
            sent = upload.sent
    # The manifest comes last: where it is, its packs are.
    manifest = snapshot.manifest_ref
    is_there = manifest == planned and manifest.name not in missing
    if not is_there and store.put_if_absent(manifest.name, snapshot.manifest):
        sent.append(manifest.size_bytes)
    return UploadSummary(
        snapshot=snapshot,
        bytes_uploaded=sum(sent),
        warnings=warnings,
    )


def code_spec(snapshot: CodeSnapshot, root: PackageRoot) -> CodeSpec:
    """Describe a snapshot and where it comes from, as the runner needs it."""
    main_file = root.main_file
    inside = main_file is not None and main_file.is_relative_to(root.path)
    return CodeSpec(
        packs=snapshot.packs,
        manifest=snapshot.manifest_ref,
        sys_path=tuple(entry for entry in root.sys_path if entry not in root.late),
        late_sys_path=root.late,
        working_directory=root.working_directory,
        entry_module_file=str(main_file.relative_to(root.path)) if main_file and inside else None,
        entry_module_name=main_name(),
        root=str(root.path),
        distributions=own_distributions(root),
    )


class _Upload:
    """Uploads the packs of a snapshot, and of what becomes of it where files have changed."""

    def __init__(self, snapshot: CodeSnapshot, store: ArtifactStore, folder: Path) -> None:
        self.snapshot = snapshot
        self.store = store
        self.folder = folder
        self.contents = Contents(snapshot.root)
        self.entries = {entry.path: entry for entry in decode_manifest(snapshot.manifest)}
        self.numbers = itertools.count()
        self.changed: set[str] = set()
        self.vanished: list[str] = []
        self.secrets: list[str] = []
        self.mixed: list[str] = []
        self.refs: dict[str, ObjectRef] = {}
        self.sent: list[int] = []

    def run(self, missing: Set[str]) -> tuple[CodeSnapshot, tuple[str, ...]]:
        """Upload what is missing, and return what is in the store then."""
        planned = self.snapshot.members()
        for pack, members in zip(self.snapshot.packs, planned, strict=True):
            if pack.name not in missing:
                self.refs[self._inputs(members)] = pack
        while True:
            wanted = [members for members in planned if self._inputs(members) not in self.refs]
            self.sent += in_threads(self._upload, wanted, threads=UPLOADERS)
            if not self.changed:
                return self._revised(planned), self._warnings()
            self._settle_changed()
            planned = plan_packs(member_of(entry) for entry in self.entries.values())

    def _inputs(self, members: Sequence[Member]) -> str:
        digests = {member.path: self.entries[member.path].sha256 for member in members}
        return pack_inputs(members, digests)

    def _upload(self, members: Sequence[Member]) -> int:
        """Make a pack and store it if its files are what they should be; return its size."""
        inputs, name = self._inputs(members), next(self.numbers)
        path = self.folder / f"pack-{name}"
        try:
            with path.open("wb") as file:
                digest, size_bytes = self._write(members, file)
            if not self.changed.isdisjoint(member.path for member in members):
                return 0
            pack = ObjectRef(name=pack_object(digest), sha256=digest, size_bytes=size_bytes)
            stored = path.stat().st_size if self.store.put_if_absent(pack.name, path) else 0
            self.refs[inputs] = pack
            return stored
        finally:
            path.unlink(missing_ok=True)

    def _write(self, members: Sequence[Member], file: BinaryIO) -> tuple[Sha256, int]:
        digest, size_bytes = hashlib.sha256(), 0
        compressor = zlib.compressobj(self._level(members), wbits=_GZIP_WINDOW_BITS)
        for piece in archive(self.contents, members, self._note):
            digest.update(piece)
            size_bytes += len(piece)
            file.write(compressor.compress(piece))
        file.write(compressor.flush())
        return Sha256(digest.hexdigest()), size_bytes

    def _note(self, read: FileRead) -> None:
        if not read.is_complete or read.sha256 != self.entries[read.path].sha256:
            self.changed.add(read.path)

    def _level(self, members: Sequence[Member]) -> int:
        """Return 0 for a large file whose beginning does not compress, such as an image."""
        if len(members) > 1 or members[0].size_bytes < SAMPLE_BYTES:
            return COMPRESSION_LEVEL
        file = self.contents.open(members[0].path)
        if file is None:
            return COMPRESSION_LEVEL
        with file:
            sample = file.read(SAMPLE_BYTES)
        compressed = len(zlib.compress(sample, 1))
        return 0 if compressed > WORTH_COMPRESSING * len(sample) else COMPRESSION_LEVEL

    def _settle_changed(self) -> None:
        """Have a version stand for each file that is not what it was any more."""
        rules = read_rules(self.snapshot.root)
        settled = settle(self.snapshot.root, self.changed, self._new_copy)
        for path, version in settled.items():
            entry = self.entries[path]
            if version is None:
                self.vanished.append(path)
                del self.entries[path]
            elif became_secret(path, version, rules):
                self.secrets.append(path)
                del self.entries[path]
            else:
                self.contents.add({path: version})
                self.entries[path] = entry._replace(
                    size_bytes=version.size_bytes, sha256=version.sha256
                )
                self.mixed += [path] if version.is_mixed else []
        self.changed.clear()

    def _new_copy(self) -> Path:
        return self.folder / f"copy-{next(self.numbers)}"

    def _revised(self, planned: Sequence[Sequence[Member]]) -> CodeSnapshot:
        sizes = [member.size_bytes for members in planned for member in members if member.is_file]
        return replace(
            self.snapshot,
            files=len(sizes),
            size_bytes=sum(sizes),
            packs=tuple(self.refs[self._inputs(members)] for members in planned),
            manifest=encode_manifest(self.entries.values()),
        )

    def _warnings(self) -> tuple[str, ...]:
        tree = Tree(vanished=self.vanished, secrets=self.secrets, mixed=self.mixed)
        return tree.warnings()
