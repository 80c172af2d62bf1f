"""Reading what a walk found: the digests of files, and of the packs that they make.

Only what is not known from an earlier snapshot is read. What changes meanwhile is settled: a
version of it stands for the file from then on.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kinetic_flows.code.ignore import IgnoreRules
from kinetic_flows.code.manifest import Entry
from kinetic_flows.code.packs import Contents, FileRead, Member, archive, pack_inputs, plan_packs
from kinetic_flows.code.resting import (
    QUIET_SECONDS,
    SMALL_BYTES,
    Version,
    digest_of,
    is_finished,
    is_recent,
    open_regular,
    settle,
    version_of,
)
from kinetic_flows.code.secret_files import holds_secret, may_hold_secret
from kinetic_flows.code.stat_cache import KnownPack, StatCache
from kinetic_flows.code.tree import FoundFile, Tree
from kinetic_flows.core.files import scratch_directory
from kinetic_flows.core.job_parts import ObjectRef, Sha256
from kinetic_flows.core.object_names import pack_object

READERS = 4


class SnapshotReader:
    """Finds the digests of files and of the packs they make, reading what is not known.

    Args:
        root: The package root.
        tree: What a walk found; told what could not be read after all.
        rules: What is a secret.
        cache: What is known; told what is read.
        new_copy: Names a file for the copy of a large file that does not rest.
    """

    def __init__(
        self,
        root: Path,
        tree: Tree,
        rules: IgnoreRules,
        cache: StatCache,
        new_copy: Callable[[], Path],
    ) -> None:
        self.root = root
        self.rules = rules
        self.cache = cache
        self.new_copy = new_copy
        self.files = {file.path: file for file in tree.files}
        self.tree = tree
        self.contents = Contents(root)
        self.digests: dict[str, str] = {}
        self.changed: set[str] = set()
        self.made: dict[str, KnownPack] = {}
        for file in tree.files:
            known = cache.digest(file)
            if known:
                self.digests[file.path] = known

    def packs(self) -> tuple[ObjectRef, ...]:
        """Read until every file was read whole, or stands still as a version of it."""
        self._await_recent()
        while True:
            if self.changed:
                self._settle_changed()
            planned = plan_packs(self._members())
            with ThreadPoolExecutor(READERS) as pool:
                packs = list(pool.map(self._pack, planned))
            if not self.changed:
                return tuple(_pack_ref(pack) for pack in packs)

    def entries(self) -> Iterable[Entry]:
        """Yield the manifest's entries, once all is read."""
        for file in self.files.values():
            yield Entry(file.path, file.mode, file.size_bytes, self.digests[file.path])
        for path, mode in self.tree.directories.items():
            yield Entry(path, mode)
        for link in self.tree.links:
            yield Entry(link.path, link=link.target)

    def _await_recent(self) -> None:
        """Wait until nothing was written a moment ago; what is written meanwhile has changed."""
        recent = [
            file
            for file in self.files.values()
            if file.path not in self.digests and self._is_recent(file)
        ]
        if not recent:
            return
        time.sleep(QUIET_SECONDS)
        for file in recent:
            if not self._is_still(file):
                self.changed.add(file.path)

    def _is_recent(self, file: FoundFile) -> bool:
        is_small = file.size_bytes <= SMALL_BYTES
        return is_small and is_recent(file.mtime_ns, file.ctime_ns, time.time_ns())

    def _is_still(self, file: FoundFile) -> bool:
        """Whether a file is what the walk saw, and looks as if all of it were there."""
        path = f"{self.root}/{file.path}"
        handle = open_regular(path)
        if handle is None:
            return False
        try:
            content = os.pread(handle, SMALL_BYTES, 0)
            is_whole = not content or is_finished(path, content)
            return is_whole and _is_version(os.fstat(handle), file)
        except OSError:
            return False
        finally:
            os.close(handle)

    def _settle_changed(self) -> None:
        for path, version in settle(self.root, self.changed, self.new_copy).items():
            if version is None:
                self.tree.vanished.append(path)
                del self.files[path]
            elif became_secret(path, version, self.rules):
                self.tree.secrets.append(path)
                del self.files[path]
            else:
                self.files[path] = self.files[path]._replace(size_bytes=version.size_bytes)
                self.digests[path] = version.sha256
                self.contents.add({path: version})
                if version.is_mixed:
                    self.tree.mixed.append(path)
        self.changed.clear()

    def _members(self) -> Iterable[Member]:
        for file in self.files.values():
            yield Member(file.path, file.mode, file.size_bytes)
        for path, mode in self.tree.directories.items():
            yield Member(path, mode, 0, is_directory=True)
        for link in self.tree.links:
            yield Member(link.path, 0, 0, link.target)

    def _pack(self, members: Sequence[Member]) -> KnownPack:
        """Return what a pack comes to, reading it unless that is known."""
        if all(member.path in self.digests for member in members if member.is_file):
            inputs = pack_inputs(members, self.digests)
            known = self.made.get(inputs) or self.cache.pack(inputs)
            if known:
                return known
        digest, size_bytes = hashlib.sha256(), 0
        for piece in archive(self.contents, members, self._note):
            digest.update(piece)
            size_bytes += len(piece)
        made = KnownPack(digest.hexdigest(), size_bytes)
        if self.changed.isdisjoint(member.path for member in members):
            inputs = pack_inputs(members, self.digests)
            self.made[inputs] = made
            self.cache.remember_pack(inputs, made)
        return made

    def _note(self, read: FileRead) -> None:
        file = self.files[read.path]
        if read.before is None or read.after is None:
            if not self.contents.has_version(read.path):
                self.changed.add(read.path)
            return
        is_unchanged = _is_version(read.before, file) and _is_version(read.after, file)
        if not read.is_complete or not (is_unchanged or self._has_grown(read, file)):
            self.changed.add(read.path)
            return
        self.digests[read.path] = read.sha256
        # What is remembered counts as harmless, and the rule that lets a secret ship may go.
        is_spoken_for = may_hold_secret(file.path, file.size_bytes) and self.rules.brings_back(
            file.path
        )
        if is_unchanged and not is_spoken_for:
            self.cache.remember(file, read.sha256, read.read_at_ns)

    def _has_grown(self, read: FileRead, file: FoundFile) -> bool:
        """Whether what was read of a large file is the beginning of what it is now."""
        if file.size_bytes <= SMALL_BYTES:
            return False  # it can as well be looked at anew
        handle = open_regular(f"{self.root}/{file.path}")
        if handle is None:
            return False
        try:
            return digest_of(handle, file.size_bytes) == read.sha256
        except OSError:
            return False
        finally:
            os.close(handle)


def became_secret(path: str, version: Version, rules: IgnoreRules) -> bool:
    """Whether what a file has become is a secret, and it is not named to ship all the same."""
    content = version.content
    return (
        isinstance(content, bytes)
        and may_hold_secret(path, version.size_bytes)
        and not rules.brings_back(path)
        and holds_secret(content)
    )


@contextmanager
def copies(home: Path | None) -> Iterator[Callable[[], Path]]:
    """Yield what names files for copies, in a directory that is made when the first is named.

    Args:
        home: `KINETIC_HOME`; None for a directory of the system's.
    """
    numbers = itertools.count()
    with ExitStack() as stack:
        folder: list[Path] = []

        def new_copy() -> Path:
            if not folder:
                made = scratch_directory(home) if home else _temporary_directory()
                folder.append(stack.enter_context(made))
            return folder[0] / f"copy-{next(numbers)}"

        yield new_copy


@contextmanager
def _temporary_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _is_version(found: os.stat_result, file: FoundFile) -> bool:
    return version_of(found) == (file.size_bytes, file.mtime_ns, file.ctime_ns, file.inode)


def _pack_ref(pack: KnownPack) -> ObjectRef:
    digest = Sha256(pack.sha256)
    return ObjectRef(name=pack_object(digest), sha256=digest, size_bytes=pack.size_bytes)
