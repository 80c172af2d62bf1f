"""Digests of files and directories, with a cache that spares reading what did not change.

The cache is an optimisation that may be deleted at any time. An entry counts only when every
file's size, times and inode are the same and no time is so recent that an edit
could hide in the clock's resolution.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.core.job_parts import Sha256

SETTLED_AFTER_SECONDS = 2.0

_NEVER_SOURCE = frozenset(
    {
        "__pycache__", ".git", ".hg", ".svn", ".mypy_cache", ".ruff_cache", ".pytest_cache",
        ".tox", ".nox", "node_modules", ".DS_Store", ".hypothesis", ".ipynb_checkpoints",
    }
)  # fmt: skip
_NEVER_SOURCE_AT_TOP = frozenset({"build", "dist"})


def tree_digest(path: Path, *, home: Path) -> Sha256:
    """Return the digest of a file, or of every source file under a directory.

    Args:
        path: The file or directory.
        home: Directory of this machine's caches.
    """
    files = list(_files(path))
    signature = [_signature(relative, status) for relative, _, status in files]
    cache = home / "trees" / f"{sha256_hex(os.fsencode(path))[:32]}.json"
    known = _cached(cache, signature)
    if known is not None:
        return known
    digest = sha256_hex(
        canonical_json([[relative, _content(file, status)] for relative, file, status in files])
    )
    newest = max((status.st_mtime for _, _, status in files), default=0.0)
    if abs(time.time() - newest) > SETTLED_AFTER_SECONDS:
        write_atomically(cache, canonical_json({"signature": signature, "digest": digest}))
    return digest


def _files(path: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    if not path.is_dir():
        yield "", path, path.stat()
        return
    yield from sorted(_walk(path, ""))


def _walk(directory: Path, prefix: str) -> Iterator[tuple[str, Path, os.stat_result]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if _is_source(entry, at_top=not prefix):
                relative = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    yield from _walk(Path(entry.path), f"{relative}/")
                else:
                    yield relative, Path(entry.path), _status(entry)


def _status(entry: os.DirEntry[str]) -> os.stat_result:
    """Return the status of what a name leads to: a build reads through links to files."""
    try:
        followed = entry.stat()
    except OSError:
        return entry.stat(follow_symlinks=False)
    return followed if stat.S_ISREG(followed.st_mode) else entry.stat(follow_symlinks=False)


def _is_source(entry: os.DirEntry[str], *, at_top: bool) -> bool:
    if entry.name in _NEVER_SOURCE or entry.name.endswith((".egg-info", ".pyc")):
        return False
    if not entry.is_dir(follow_symlinks=False):
        return True
    if at_top and entry.name in _NEVER_SOURCE_AT_TOP:
        return False
    return not Path(entry.path, "pyvenv.cfg").is_file()


def _signature(relative: str, status: os.stat_result) -> list[str | int]:
    times = [status.st_mtime_ns, status.st_ctime_ns]
    return [relative, status.st_mode, status.st_size, *times, status.st_ino]


def _content(path: Path, status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return f"link:{path.readlink()}"
    if not stat.S_ISREG(status.st_mode):
        return "special"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cached(cache: Path, signature: list[list[str | int]]) -> Sha256 | None:
    try:
        entry = json.loads(cache.read_bytes())
        return Sha256(entry["digest"]) if entry["signature"] == signature else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
