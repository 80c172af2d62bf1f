"""A snapshot: the exact state of a project's files, as a manifest and the packs they make.

Taking one reads only files that are not known from an earlier snapshot, and writes nothing but
the cache that says which are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.code.ignore import IGNORE_FILE, read_rules
from kinetic_flows.code.manifest import decode_manifest, encode_manifest
from kinetic_flows.code.packs import Member, member_of, plan_packs
from kinetic_flows.code.reading import SnapshotReader, copies
from kinetic_flows.code.stat_cache import StatCache
from kinetic_flows.code.tree import FoundFile, Tree, walk_tree
from kinetic_flows.core.errors import PackageRootError, ProjectTooLargeError
from kinetic_flows.core.files import printable, size_in_units
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.job_parts import ObjectRef
from kinetic_flows.core.object_names import manifest_object

NAMED_LARGEST = 5


@dataclass(frozen=True, kw_only=True)
class SnapshotOptions:
    """The limits of a snapshot.

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
        return plan_packs(member_of(entry) for entry in decode_manifest(self.manifest))


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
        PackagingError: `.kineticignore` cannot be read.
    """
    chosen, real = options or SnapshotOptions(), root.resolve()
    if not real.is_dir():
        raise PackageRootError(
            f"{root} is not a directory",
            value=str(root),
            hint="run from the project's directory, or set KINETIC_PACKAGE_ROOT to it",
        )
    rules = read_rules(real, default_excludes=chosen.default_excludes)
    cache = StatCache.of_root(real, cache_home)
    tree = walk_tree(
        real,
        rules,
        is_known_harmless=lambda file: cache.digest(file) is not None,
        never=cache_home if cache_home and cache_home.resolve().is_relative_to(real) else None,
        only=only,
    )
    too_much = _guard_size(tree, chosen)
    with copies(cache_home) as new_copy:
        reader = SnapshotReader(real, tree, rules, cache, new_copy)
        packs = reader.packs()
    cache.save()
    return CodeSnapshot(
        root=real,
        files=len(reader.files),
        size_bytes=sum(file.size_bytes for file in reader.files.values()),
        packs=packs,
        manifest=encode_manifest(reader.entries()),
        warnings=(*tree.warnings(), *too_much),
    )


def _guard_size(tree: Tree, options: SnapshotOptions) -> tuple[str, ...]:
    """Refuse or warn about more code than anybody means to ship."""
    size_bytes = sum(file.size_bytes for file in tree.files)
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
            f"the project's code is {size_in_units(size_bytes)}, more than "
            f"{size_in_units(options.max_size_bytes)}; {largest}",
            value=size_bytes,
            hint=f"{remedy}, or raise KINETIC_MAX_CODE_SIZE_MB",
        )
    if size_bytes > options.warn_size_bytes:
        return (f"the project's code is {size_in_units(size_bytes)}; {largest}; {remedy}",)
    return ()


def _largest(files: Iterable[FoundFile]) -> str:
    ordered = sorted(files, key=lambda file: (-file.size_bytes, file.path))[:NAMED_LARGEST]
    return ", ".join(
        f"{printable(file.path)} ({size_in_units(file.size_bytes)})" for file in ordered
    )


def _fullest(files: Iterable[FoundFile]) -> str:
    """Name the top-level directory with the most files."""
    counts: dict[str, int] = {}
    for file in files:
        top = file.path.partition("/")[0]
        counts[top] = counts.get(top, 0) + 1
    return printable(max(counts, key=lambda name: counts[name], default="."))
