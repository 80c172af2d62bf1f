"""A snapshot: the exact state of a project's files, as a manifest and the packs they make.

Taking one reads only files that are not known from an earlier snapshot, and writes nothing but
the cache that says which are.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.errors import PackageRootError, PackagingError, ProjectTooLargeError
from kinetic_flows.job import ObjectRef, Sha256, sha256_hex
from kinetic_flows.naming import manifest_object, pack_object
from kinetic_flows.packaging.ignore import IGNORE_FILE, IgnoreRules, read_rules
from kinetic_flows.packaging.manifest import Entry, decode_manifest, encode_manifest
from kinetic_flows.packaging.packs import (
    ChangedWhileRead,
    FileRead,
    Member,
    archive,
    pack_inputs,
    plan_packs,
)
from kinetic_flows.packaging.secret_files import may_hold_secret
from kinetic_flows.packaging.stat_cache import KnownPack, StatCache
from kinetic_flows.packaging.tree import FoundFile, Tree, walk_tree
from kinetic_flows.packaging.wording import megabytes, printable

ATTEMPTS = 3
PAUSE_SECONDS = 0.05
READERS = 4
NAMED_LARGEST = 5


@dataclass(frozen=True, kw_only=True)
class SnapshotOptions:
    """What a snapshot may hold.

    Attributes:
        max_size_bytes: More code than this is refused.
        warn_size_bytes: More code than this is warned about.
        max_files: More files, links and directories than this are refused.
        default_excludes: Whether what no run needs stays out (`.git`, caches, environments).
    """

    max_size_bytes: int = 2_000_000_000
    warn_size_bytes: int = 100_000_000
    max_files: int = 200_000
    default_excludes: bool = True


@dataclass(frozen=True, kw_only=True)
class CodeSnapshot:
    """The state of a project's files at one moment.

    Attributes:
        root: The package root.
        files: Number of regular files.
        size_bytes: Size of them all.
        packs: The packs they make, whether the store has them or not.
        manifest: The manifest's bytes.
        warnings: What the person should know, a sentence each.
    """

    root: Path
    files: int
    size_bytes: int
    packs: tuple[ObjectRef, ...]
    manifest: bytes
    warnings: tuple[str, ...]

    @property
    def manifest_ref(self) -> ObjectRef:
        """The manifest as an object of the store."""
        digest = sha256_hex(self.manifest)
        name = manifest_object(digest)
        return ObjectRef(name=name, sha256=digest, size_bytes=len(self.manifest))

    def members(self) -> list[list[Member]]:
        """Return what each of `packs` holds, in the same order."""
        return plan_packs(_member(entry) for entry in decode_manifest(self.manifest))


def take_snapshot(
    root: Path,
    *,
    cache_home: Path | None,
    options: SnapshotOptions | None = None,
    only: Sequence[str] | None = None,
) -> CodeSnapshot:
    """Find out what a project's files are right now.

    Args:
        root: The package root.
        cache_home: `KINETIC_HOME`, where known digests are kept and which never ships; None to
            read every file.
        options: What it may hold; None for the defaults.
        only: The files that may ship, relative to the root; None for all that are there.

    Raises:
        ProjectTooLargeError: It exceeds a limit.
        PackageRootError: The root is not a directory.
        PackagingError: A file kept changing while it was read, or `.kineticignore` is bad.
    """
    chosen, real = options or SnapshotOptions(), root.resolve()
    if not real.is_dir():
        raise PackageRootError(
            f"{root} is not a directory",
            value=str(root),
            hint="run from the project's directory, or set KINETIC_PACKAGE_ROOT to it",
        )
    rules = read_rules(real, default_excludes=chosen.default_excludes)
    for left in reversed(range(ATTEMPTS)):
        cache = StatCache.of_root(real, cache_home)
        try:
            return _try_snapshot(real, rules, cache, cache_home, chosen, only)
        except ChangedWhileRead as changed:
            if not left:
                raise _restless(changed) from changed
            time.sleep(PAUSE_SECONDS)
        finally:
            cache.save()
    raise AssertionError("unreachable")


def _try_snapshot(
    root: Path,
    rules: IgnoreRules,
    cache: StatCache,
    cache_home: Path | None,
    options: SnapshotOptions,
    only: Sequence[str] | None,
) -> CodeSnapshot:
    tree = walk_tree(
        root,
        rules,
        is_known_harmless=lambda file: cache.digest(file) is not None,
        never=cache_home if cache_home and cache_home.resolve().is_relative_to(root) else None,
        only=only,
    )
    size_bytes = sum(file.size_bytes for file in tree.files)
    warnings = (*tree.warnings(), *_guard_size(tree, size_bytes, options))
    reader = _Reader(root, tree, rules, cache)
    packs = reader.packs()
    return CodeSnapshot(
        root=root,
        files=len(tree.files),
        size_bytes=size_bytes,
        packs=packs,
        manifest=encode_manifest(reader.entries()),
        warnings=warnings,
    )


class _Reader:
    """Finds the digests of files and of the packs they make, reading what is not known."""

    def __init__(self, root: Path, tree: Tree, rules: IgnoreRules, cache: StatCache) -> None:
        self.root = root
        self.rules = rules
        self.cache = cache
        self.files = {file.path: file for file in tree.files}
        self.tree = tree
        self.digests: dict[str, str] = {}
        for file in tree.files:
            known = cache.digest(file)
            if known:
                self.digests[file.path] = known

    def packs(self) -> tuple[ObjectRef, ...]:
        planned = plan_packs(self._members())
        known = [self._known_pack(members) for members in planned]
        unknown = [index for index, pack in enumerate(known) if pack is None]
        if unknown:
            with ThreadPoolExecutor(READERS) as pool:
                read = pool.map(self._read_pack, [planned[index] for index in unknown])
                for index, pack in zip(unknown, read, strict=True):
                    known[index] = pack
                    self.cache.remember_pack(self._inputs(planned[index]), pack)
        return tuple(_pack_ref(pack) for pack in known if pack)

    def entries(self) -> Iterable[Entry]:
        for file in self.tree.files:
            yield Entry(file.path, file.mode, file.size_bytes, self.digests[file.path])
        for path, mode in self.tree.directories.items():
            yield Entry(path, mode)
        for link in self.tree.links:
            yield Entry(link.path, link=link.target)

    def _members(self) -> Iterable[Member]:
        for file in self.tree.files:
            yield Member(file.path, file.mode, file.size_bytes)
        for path, mode in self.tree.directories.items():
            yield Member(path, mode, 0, is_directory=True)
        for link in self.tree.links:
            yield Member(link.path, 0, 0, link.target)

    def _known_pack(self, members: Sequence[Member]) -> KnownPack | None:
        if any(member.is_file and member.path not in self.digests for member in members):
            return None
        return self.cache.pack(self._inputs(members))

    def _inputs(self, members: Sequence[Member]) -> str:
        return pack_inputs(
            f"{member.path}\0{member.mode:o}\0{member.link}\0{member.is_directory:d}\0"
            f"{self.digests.get(member.path, '')}"
            for member in members
        )

    def _read_pack(self, members: Sequence[Member]) -> KnownPack:
        digest, size_bytes = hashlib.sha256(), 0
        for piece in archive(self.root, members, self._note):
            digest.update(piece)
            size_bytes += len(piece)
        return KnownPack(digest.hexdigest(), size_bytes)

    def _note(self, read: FileRead) -> None:
        file = self.files[read.path]
        if not _is_version(read, file):
            raise ChangedWhileRead(read.path)
        self.digests[read.path] = read.sha256
        # What is remembered counts as harmless, and the rule that lets a secret ship may go.
        if not (may_hold_secret(file.path, file.size_bytes) and self.rules.brings_back(file.path)):
            self.cache.remember(file, read.sha256, read.read_at_ns)


def _is_version(read: FileRead, file: FoundFile) -> bool:
    found = read.found
    now = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    return now == (file.size_bytes, file.mtime_ns, file.ctime_ns, file.inode)


def _member(entry: Entry) -> Member:
    return Member(entry.path, entry.mode, entry.size_bytes, entry.link, entry.is_directory)


def _pack_ref(pack: KnownPack) -> ObjectRef:
    digest = Sha256(pack.sha256)
    return ObjectRef(name=pack_object(digest), sha256=digest, size_bytes=pack.size_bytes)


def _guard_size(tree: Tree, size_bytes: int, options: SnapshotOptions) -> tuple[str, ...]:
    """Refuse or warn about more code than anybody means to ship."""
    count = len(tree.files) + len(tree.directories) + len(tree.links)
    remedy = f"list what the run does not need in {IGNORE_FILE} at the package root"
    if count > options.max_files:
        raise ProjectTooLargeError(
            f"the project has {count:,} files, more than {options.max_files:,}",
            value=count,
            hint=f"{remedy}; most are in {_fullest(tree.files)}",
        )
    largest = f"the largest files are {_largest(tree.files)}"
    if size_bytes > options.max_size_bytes:
        raise ProjectTooLargeError(
            f"the project's code is {megabytes(size_bytes)}, more than "
            f"{megabytes(options.max_size_bytes)}; {largest}",
            value=size_bytes,
            hint=f"{remedy}, or raise KINETIC_MAX_CODE_SIZE_MB",
        )
    if size_bytes > options.warn_size_bytes:
        return (f"the project's code is {megabytes(size_bytes)}; {largest}; {remedy}",)
    return ()


def _largest(files: Iterable[FoundFile]) -> str:
    ordered = sorted(files, key=lambda file: (-file.size_bytes, file.path))[:NAMED_LARGEST]
    return ", ".join(f"{printable(file.path)} ({megabytes(file.size_bytes)})" for file in ordered)


def _fullest(files: Iterable[FoundFile]) -> str:
    """Name the top-level directory with the most files."""
    counts: dict[str, int] = {}
    for file in files:
        top = file.path.partition("/")[0]
        counts[top] = counts.get(top, 0) + 1
    return printable(max(counts, key=lambda name: counts[name], default="."))


def _restless(changed: ChangedWhileRead) -> PackagingError:
    path = str(changed)
    return PackagingError(
        f"{printable(path)} kept changing while it was read",
        value=path,
        hint=f"stop what is writing it, or list it in {IGNORE_FILE}",
    )
