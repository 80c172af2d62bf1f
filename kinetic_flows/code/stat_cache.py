"""What earlier snapshots of a project found, so that unchanged files need not be read again.

One JSON file per package root under `KINETIC_HOME`, replaced in one step: concurrent clients
may lose each other's additions and nothing else, and the file can be deleted at any time.

A file is known by its size, mtime, ctime and inode. That is safe only when it cannot have
changed after it was read without changing one of them, so a file whose times lie within the
file system's tick of the moment it was read is not remembered (git calls such an entry
"racily clean", https://git-scm.com/docs/racy-git). Nor is one whose times lie in the future.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from kinetic_flows.code.tree import FoundFile
from kinetic_flows.core.files import write_atomically

CACHE_VERSION = 2
"""Raised when the form changes, or when what was harmless may be a secret now."""
FINE_TICK_NS = 100_000_000
"""Longer than any kernel's tick, for file systems that store fractions of a second."""
COARSE_TICK_NS = 2_500_000_000
"""Longer than the two-second ticks of FAT, for file systems that store whole seconds."""

_SECOND_NS = 1_000_000_000


class KnownPack(NamedTuple):
    """The digest and size of the uncompressed archive that some entries make."""

    sha256: str
    size_bytes: int


class StatCache:
    """The digests of one package root's files from earlier snapshots.

    Args:
        path: The cache's file; None to remember nothing beyond this process.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        stored = _read(path) if path else {}
        self._files: dict[str, list[Any]] = stored.get("files", {})
        self._packs: dict[str, list[Any]] = stored.get("packs", {})
        self._new_files: dict[str, list[Any]] = {}
        self._new_packs: dict[str, list[Any]] = {}

    @classmethod
    def of_root(cls, root: Path, home: Path | None) -> StatCache:
        """Open the cache of a package root under `KINETIC_HOME` (None: remember nothing)."""
        if home is None:
            return cls(None)
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
        return cls(home / "cache" / "code" / f"{name}.json")

    def digest(self, file: FoundFile) -> str | None:
        """Return the digest of this version of a file, if it was read before."""
        known = self._files.get(file.path)
        if known is None or known[:4] != _version(file):
            return None
        self._new_files[file.path] = known
        return str(known[4])

    def remember(self, file: FoundFile, sha256: str, read_at_ns: int) -> None:
        """Keep a file's digest, unless it may change unseen.

        Args:
            file: The version that was read.
            sha256: Its digest.
            read_at_ns: The time just before it was opened, in nanoseconds since the epoch.
        """
        whole_seconds = file.mtime_ns % _SECOND_NS == 0 and file.ctime_ns % _SECOND_NS == 0
        tick_ns = COARSE_TICK_NS if whole_seconds else FINE_TICK_NS
        if max(file.mtime_ns, file.ctime_ns) + tick_ns < read_at_ns:
            self._new_files[file.path] = [*_version(file), sha256]

    def pack(self, inputs: str) -> KnownPack | None:
        """Return the pack that these entries make, if it was made before."""
        known = self._packs.get(inputs)
        if known is None:
            return None
        self._new_packs[inputs] = known
        return KnownPack(*known)

    def remember_pack(self, inputs: str, pack: KnownPack) -> None:
        """Keep what pack some entries make."""
        self._new_packs[inputs] = list(pack)

    def save(self) -> None:
        """Write down what this snapshot used and found; a failure to is no failure."""
        unchanged = self._new_files == self._files and self._new_packs == self._packs
        if self._path is None or unchanged:
            return
        content = {
            "version": CACHE_VERSION,
            "files": self._new_files,
            "packs": self._new_packs,
        }
        with contextlib.suppress(OSError):
            write_atomically(self._path, json.dumps(content).encode())


def _version(file: FoundFile) -> list[int]:
    return [file.size_bytes, file.mtime_ns, file.ctime_ns, file.inode]


def _read(path: Path) -> dict[str, Any]:
    """Read a cache; anything unexpected in it makes it empty."""
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return stored if _is_sound(stored) else {}


def _is_sound(stored: object) -> bool:
    if not isinstance(stored, dict) or stored.get("version") != CACHE_VERSION:
        return False
    files, packs = stored.get("files"), stored.get("packs")
    return (
        isinstance(files, dict)
        and isinstance(packs, dict)
        and all(isinstance(item, list) and len(item) == 5 for item in files.values())
        and all(isinstance(item, list) and len(item) == 2 for item in packs.values())
    )
