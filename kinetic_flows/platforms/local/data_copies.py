"""The copies of data below `KINETIC_HOME`, as runs keep them.

What a copy's directory has, `runner_image/runner/data_cache.py` says, which makes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from kinetic_flows.core.data_copies import DataCopy

LOCK, WHOLE, GONE = "lock", "whole", "gone-"


class LocalDataCopies:
    """Copies of data in one directory.

    Args:
        directory: The directory; it need not be there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def unused_since(self, moment: datetime) -> list[DataCopy]:
        """Return the copies that no run has used since a moment, or uses now."""
        found = []
        for lock in sorted(self._directory.glob(f"*/{LOCK}")):
            used = _last_used(lock.parent)
            if used is not None and used < moment:
                with _held(lock) as is_free:
                    if is_free:
                        found.append(_described(lock.parent, used))
        return found

    def remove(self, copy: DataCopy) -> bool:
        """Remove a copy, unless a run uses it by now; return whether it is gone."""
        place = self._directory / copy.key
        with _held(place / LOCK) as is_free:
            if not is_free or _last_used(place) != copy.used:
                return False
            # Out of the way of runs that make a copy anew; if this is interrupted, the rest of it
            # is found like any other that is not whole, as its lock goes last.
            try:
                (place / WHOLE).unlink(missing_ok=True)
                gone = place.rename(place.with_name(f"{GONE}{uuid4().hex}"))
            except OSError:
                # In a directory that several people share, it may be another's.
                return False
            for part in ("files", "draft", ""):
                _remove_tree(gone / part)
        return True


def _remove_tree(directory: Path) -> None:
    """Remove a directory, unless it is not there; with what can only be read."""
    for folder, _, _ in os.walk(directory):
        Path(folder).chmod(0o700)
    if directory.is_dir():
        shutil.rmtree(directory)


@contextmanager
def _held(lock: Path) -> Iterator[bool]:
    """Hold a copy's lock, and tell whether nobody else does."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(lock.open("rb"))
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_free = os.path.samestat(os.fstat(file.fileno()), lock.stat())
        except OSError:
            is_free = False
        yield is_free


def _last_used(place: Path) -> datetime | None:
    """Return when a copy was used last; None where it is gone."""
    for name in (WHOLE, LOCK):
        with suppress(FileNotFoundError):
            return datetime.fromtimestamp((place / name).stat().st_mtime, UTC)
    return None


def _described(place: Path, used: datetime) -> DataCopy:
    try:
        source = str(json.loads((place / WHOLE).read_bytes())["source"])
    except (OSError, ValueError, KeyError, TypeError):
        source = ""
    size_bytes = sum(
        (Path(folder) / name).lstat().st_blocks * 512
        for folder, _, names in os.walk(place)
        for name in names
    )
    return DataCopy(key=place.name, source=source, size_bytes=size_bytes, used=used)
