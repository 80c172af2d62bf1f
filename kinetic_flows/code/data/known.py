"""Digests of the files of local data from before, so that unchanged files are not read again.

One SQLite database per file or directory, under `KINETIC_HOME`. It is written while files are
digested: what was interrupted goes on where it was. It can be deleted at any time, and what is
wrong with it makes it empty.

A file is known by its size, mtime, ctime and inode, which is safe under the conditions that
`kinetic_flows/code/stat_cache.py` names.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from kinetic_flows.code.data.walk import Found
from kinetic_flows.code.stat_cache import COARSE_TICK_NS, FINE_TICK_NS
from kinetic_flows.core.files import open_private, private_directory

FORMAT = 1
"""Raised when the form changes, or when what was harmless may be a secret now."""
KEPT_DAYS = 90
"""For how long files are remembered that are not seen any more."""
NOTED_AGAIN_DAYS = 30
"""How often it is noted that a file is still there."""
COMMIT_EVERY = 2_000
BUSY_SECONDS = 10.0

_SECOND_NS = 1_000_000_000
_SIGNED = 1 << 63
_TABLE = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER, inode INTEGER,
    digests BLOB, secret INTEGER, day INTEGER
) WITHOUT ROWID
"""
_FIND = "SELECT * FROM files WHERE path BETWEEN ? AND ?"
_PUT = "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class KnownFiles:
    """The digests of the files of one source. Used from one thread.

    Args:
        path: The database; None to remember nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._day = int(time.time() // 86_400)
        self._new: dict[bytes, tuple[object, ...]] = {}
        self._database = _open(path, self._day) if path else None

    @classmethod
    def of(cls, root: bytes, home: Path) -> KnownFiles:
        """Open what is known of a file or directory.

        Args:
            root: Its real path.
            home: `KINETIC_HOME`.
        """
        name = hashlib.sha256(root).hexdigest()[:32]
        return cls(home / "cache" / "data" / f"{name}.{FORMAT}.sqlite")

    def find(self, batch: Sequence[Found]) -> dict[str, tuple[tuple[str, ...], bool]]:
        """Return the digests of those files that are as they were, and whether they hold a secret.

        Args:
            batch: Files that a walk came upon one after the other.
        """
        wanted = {_key(found.path): found for found in batch if found.kind == "file"}
        if self._database is None or not wanted:
            return {}
        known = {}
        try:
            # Keys sort as a walk goes: what is asked for lies together.
            for key, *row in self._database.execute(_FIND, (min(wanted), max(wanted))):
                found = wanted.get(key)
                if found is None or row[:4] != _version(found):
                    continue
                known[found.path] = (_split(row[4]), bool(row[5]))
                if row[6] < self._day - NOTED_AGAIN_DAYS:
                    self._new[key] = (*row[:6], self._day)
            self._save_many()
        except sqlite3.Error:
            self._give_up()
        return known

    def remember(
        self, found: Found, digests: Iterable[str], *, is_secret: bool, read_at_ns: int
    ) -> None:
        """Keep a file's digests, unless it may change unseen.

        Args:
            found: The version that was read.
            digests: That of its content, or those of its parts.
            is_secret: Whether it holds a secret.
            read_at_ns: The time just before it was opened, in nanoseconds since the epoch.
        """
        mtime_ns, ctime_ns, _ = found.version
        whole_seconds = mtime_ns % _SECOND_NS == 0 and ctime_ns % _SECOND_NS == 0
        tick_ns = COARSE_TICK_NS if whole_seconds else FINE_TICK_NS
        if max(mtime_ns, ctime_ns) + tick_ns < read_at_ns:
            joined = b"".join(map(bytes.fromhex, digests))
            self._put(_key(found.path), (*_version(found), joined, int(is_secret), self._day))

    def forget(self, paths: Iterable[str]) -> None:
        """Have files read again, whatever their times say."""
        if self._database is not None:
            with suppress(sqlite3.Error), self._database:
                rows = [(_key(path),) for path in paths]
                self._database.executemany("DELETE FROM files WHERE path = ?", rows)

    def save(self) -> None:
        """Write down what was remembered; a failure to is no failure."""
        if self._database is None or not self._new:
            return
        try:
            with self._database:
                rows = [(key, *row) for key, row in self._new.items()]
                self._database.executemany(_PUT, rows)
        except sqlite3.Error:
            self._give_up()
        self._new.clear()

    def close(self) -> None:
        """Write down what was remembered, and close the database."""
        self.save()
        self._give_up()

    def _put(self, key: bytes, row: tuple[object, ...]) -> None:
        if self._database is not None:
            self._new[key] = row
            self._save_many()

    def _save_many(self) -> None:
        if len(self._new) >= COMMIT_EVERY:
            self.save()

    def _give_up(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _open(path: Path, day: int) -> sqlite3.Connection | None:
    """Open a database, anew if it cannot be read; None where there can be none."""
    for _ in range(2):
        try:
            return _opened(path, day)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                return None  # locked for long, or on a disk that is full
            with suppress(OSError):
                path.unlink()
        except OSError:
            return None
    return None


def _opened(path: Path, day: int) -> sqlite3.Connection:
    private_directory(path.parent)
    # SQLite's own files have the mode of the first.
    os.close(open_private(path))
    database = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        # What is lost is read again.
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA cache_size = -8000")
        database.execute(_TABLE)
        (pruned,) = database.execute("PRAGMA user_version").fetchone()
        if pruned < day - NOTED_AGAIN_DAYS:
            with database:
                database.execute("DELETE FROM files WHERE day < ?", (day - KEPT_DAYS,))
                database.execute(f"PRAGMA user_version = {day:d}")
    except BaseException:
        database.close()
        raise
    return database


def _key(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape").replace(b"/", b"\0")


def _version(found: Found) -> list[int]:
    mtime_ns, ctime_ns, inode = found.version
    # SQLite's integers are signed.
    return [found.size_bytes, mtime_ns, ctime_ns, inode - 2 * _SIGNED * (inode >= _SIGNED)]


def _split(joined: bytes) -> tuple[str, ...]:
    return tuple(joined[at : at + 32].hex() for at in range(0, len(joined), 32))
