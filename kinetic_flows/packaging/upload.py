"""Uploading what a snapshot needs and the store does not have."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from kinetic_flows.errors import PackagingError
from kinetic_flows.interruption import in_threads
from kinetic_flows.job import CodeSpec, ObjectRef
from kinetic_flows.packaging.packs import ChangedWhileRead, Member, archive
from kinetic_flows.packaging.root import PackageRoot
from kinetic_flows.packaging.snapshot import CodeSnapshot
from kinetic_flows.packaging.wording import printable
from kinetic_flows.protocols import ArtifactStore
from kinetic_flows.scratch import scratch_directory

UPLOADERS = 4
COMPRESSION_LEVEL = 6
SAMPLE_BYTES = 1 << 16
WORTH_COMPRESSING = 0.95

_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS


@dataclass(frozen=True, kw_only=True)
class UploadSummary:
    """What an upload sent.

    Attributes:
        objects_uploaded: Objects that this client wrote.
        bytes_uploaded: Their sizes, compressed.
    """

    objects_uploaded: int
    bytes_uploaded: int


def upload_code(snapshot: CodeSnapshot, store: ArtifactStore, *, home: Path) -> UploadSummary:
    """Put those packs of a snapshot into the store that it lacks, then the manifest.

    Args:
        snapshot: What to upload; its files are read again as far as they are needed.
        store: Where to.
        home: `KINETIC_HOME`, where packs are made.

    Raises:
        PackagingError: A file changed since the snapshot was taken.
        StoreError: The store refused an object.
    """
    manifest = snapshot.manifest_ref
    missing = store.missing([manifest.name, *(pack.name for pack in snapshot.packs)])
    sent = [0]
    if any(pack.name in missing for pack in snapshot.packs):
        wanted = [
            (pack, members)
            for pack, members in zip(snapshot.packs, snapshot.members(), strict=True)
            if pack.name in missing
        ]
        with scratch_directory(home) as folder:
            uploader = _PackUploader(snapshot.root, store, folder)
            sent = in_threads(uploader.upload, wanted, threads=UPLOADERS)
    # The manifest comes last: where it is, its packs are.
    if manifest.name in missing and store.put_if_absent(manifest.name, snapshot.manifest):
        sent.append(manifest.size_bytes)
    return UploadSummary(objects_uploaded=sum(1 for size in sent if size), bytes_uploaded=sum(sent))


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
        root=str(root.path),
    )


class _PackUploader:
    def __init__(self, root: Path, store: ArtifactStore, folder: Path) -> None:
        self.root = root
        self.store = store
        self.folder = folder

    def upload(self, wanted: tuple[ObjectRef, Sequence[Member]]) -> int:
        """Make a pack, check that it is the one planned, store it, and return its size."""
        pack, members = wanted
        path = self.folder / pack.sha256
        try:
            with path.open("wb") as file:
                digest = self._write(members, file)
            if digest != pack.sha256:
                raise ChangedWhileRead(members[0].path)
            return path.stat().st_size if self.store.put_if_absent(pack.name, path) else 0
        except ChangedWhileRead as changed:
            raise _changed(changed) from changed
        finally:
            path.unlink(missing_ok=True)

    def _write(self, members: Sequence[Member], file: BinaryIO) -> str:
        digest = hashlib.sha256()
        compressor = zlib.compressobj(self._level(members), wbits=_GZIP_WINDOW_BITS)
        for piece in archive(self.root, members):
            digest.update(piece)
            file.write(compressor.compress(piece))
        file.write(compressor.flush())
        return digest.hexdigest()

    def _level(self, members: Sequence[Member]) -> int:
        """Return 0 for a large file whose beginning does not compress, such as an image."""
        if len(members) > 1 or members[0].size_bytes < SAMPLE_BYTES:
            return COMPRESSION_LEVEL
        with open(f"{self.root}/{members[0].path}", "rb") as file:  # noqa: PTH123 - any bytes
            sample = file.read(SAMPLE_BYTES)
        compressed = len(zlib.compress(sample, 1))
        return 0 if compressed > WORTH_COMPRESSING * len(sample) else COMPRESSION_LEVEL


def _changed(changed: ChangedWhileRead) -> PackagingError:
    path = str(changed)
    return PackagingError(
        f"{printable(path)}, or a file that ships beside it, changed after the call was planned",
        value=path,
        hint="call again; if something keeps writing it, list it in .kineticignore",
    )
