"""The code of a run as it is in the store: which files it has, and what they hold.

Nothing of it is run, and nothing is believed that its job's digests do not vouch for.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Set
from gzip import GzipFile
from io import BytesIO
from pathlib import Path
from typing import IO

from kinetic_flows.code.manifest import Entry, decode_manifest
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.errors import ObjectRefusedError
from kinetic_flows.core.job import CodeSpec, sha256_hex

READ_BYTES = 1 << 20
DIRECTORY_MODE = 0o755

Entries = Mapping[str, Entry]


def read_manifest(code: CodeSpec, store: ArtifactStore) -> Entries:
    """Return what shipped, by path.

    Raises:
        ObjectNotFoundError: Nobody has it any more.
        ObjectRefusedError: It is not what the job names.
    """
    data = store.get(code.manifest.name).data
    if sha256_hex(data) != code.manifest.sha256:
        raise _refused(code.manifest.name)
    return {entry.path: entry for entry in decode_manifest(data)}


def read_files(
    code: CodeSpec,
    entries: Entries,
    store: ArtifactStore,
    *,
    wanted: Set[str],
    known: Set[str] = frozenset(),
) -> Iterator[tuple[Entry, bytes]]:
    """Yield files with what they hold.

    Args:
        code: The code.
        entries: Its manifest.
        store: Where its packs are.
        wanted: The files, by path.
        known: Names of packs that hold none of them.

    Raises:
        ObjectNotFoundError: Nobody has a pack any more.
        ObjectRefusedError: A pack holds something else than the manifest says.
    """
    for entry, file in _members(code, entries, store, wanted, known):
        content = file.read()
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise _refused(entry.path)
        yield entry, content


def restore(code: CodeSpec, entries: Entries, store: ArtifactStore, folder: Path) -> None:
    """Write code into an empty directory, as it was.

    Args:
        code: The code.
        entries: Its manifest.
        store: Where its packs are.
        folder: The directory.

    Raises:
        ObjectNotFoundError: Nobody has a pack any more.
        ObjectRefusedError: A pack holds something else than the manifest says.
    """
    files = {path for path, entry in entries.items() if entry.sha256}
    for entry in entries.values():
        path = _inside(folder, entry.path)
        (path if entry.is_directory else path.parent).mkdir(
            mode=DIRECTORY_MODE, parents=True, exist_ok=True
        )
    for entry, file in _members(code, entries, store, files, frozenset()):
        _write(file, entry, _inside(folder, entry.path))
    for entry in entries.values():
        if entry.link is not None:
            _inside(folder, entry.path).symlink_to(entry.link)
    for entry in sorted(entries.values(), reverse=True):
        if entry.is_directory:
            _inside(folder, entry.path).chmod(entry.mode)


def _write(file: IO[bytes], entry: Entry, path: Path) -> None:
    digest = hashlib.sha256()
    with path.open("xb") as target:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
            target.write(piece)
        os.fchmod(target.fileno(), entry.mode)
    if digest.hexdigest() != entry.sha256:
        raise _refused(entry.path)


def _members(
    code: CodeSpec, entries: Entries, store: ArtifactStore, wanted: Set[str], known: Set[str]
) -> Iterator[tuple[Entry, IO[bytes]]]:
    left = set(wanted)
    for pack in code.packs:
        if pack.name in known or not left:
            continue
        data = store.read(pack.name)
        try:
            with (
                GzipFile(fileobj=BytesIO(data)) as unpacked,
                tarfile.open(
                    fileobj=unpacked, mode="r|", encoding="utf-8", errors="surrogateescape"
                ) as archive,
            ):
                for member in archive:
                    file = archive.extractfile(member) if member.name in left else None
                    if file is not None and entries[member.name].sha256:
                        left.discard(member.name)
                        yield entries[member.name], file
        except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
            raise _refused(pack.name) from error
    if left:
        raise _refused(min(left))


def _inside(folder: Path, path: str) -> Path:
    """Return the place of a path of a manifest, which cannot leave the directory."""
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in path:
        raise _refused(path)
    return folder.joinpath(*parts)


def _refused(name: str) -> ObjectRefusedError:
    return ObjectRefusedError(
        f"the code in the store is refused: {name} is not what the run's job names",
        value=name,
        hint="somebody wrote to the store, or it is damaged; check who may write there",
    )
