"""The files in which the code of two runs differs, with the lines that changed."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from kinetic_flows.code.manifest import Entry
from kinetic_flows.code.stored_code import Entries, read_files
from kinetic_flows.core.artifact_store import ArtifactStore
from kinetic_flows.core.display import counted
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.job import CodeSpec

SHOWN_BYTES = 500_000
"""What is larger is said to differ, and not shown by its lines."""

CONTEXT_LINES = 3

MOST_WORK = 50_000_000
"""Lines times changed lines of a file: what is more takes some seconds to compare."""

Kind = Literal["added", "removed", "changed", "moved", "mode"]


@dataclass(frozen=True, kw_only=True)
class FileChange:
    """A file, link or directory in which the code of two runs differs.

    Attributes:
        path: Where it is, relative to the project's root.
        kind: `added` or `removed`; `changed`: it holds something else; `moved`: it holds what
            another path held; `mode`: only its permissions differ.
        before: The path that it was moved from; empty for any other kind.
        note: What is said where there are no lines to show, such as `binary, 2 kB, was 1 kB`.
        lines: The changed lines as a unified diff has them, without its header.
        added: How many lines were added.
        removed: How many lines were removed.
    """

    path: str
    kind: Kind
    before: str = ""
    note: str = ""
    lines: tuple[str, ...] = ()
    added: int = 0
    removed: int = 0


@dataclass(frozen=True, kw_only=True)
class Side:
    """The code of one of two runs.

    Attributes:
        code: The code; None for a run that nothing was shipped for.
        entries: What its manifest lists.
        store: Where it is.
    """

    code: CodeSpec | None
    entries: Entries
    store: ArtifactStore


def changed_files(before: Side, after: Side) -> tuple[FileChange, ...]:
    """Return the files in which code differs, in the order of their paths.

    Raises:
        ObjectNotFoundError: What one of them holds has expired.
        ObjectRefusedError: A store holds something else than a job names.
    """
    moves = _moves(before.entries, after.entries)
    paths = differing_paths(before.entries, after.entries)
    contents = _contents(before, after, paths), _contents(after, before, paths)
    gone = set(moves.values())
    return tuple(
        replace(
            _change(path, before.entries.get(path), after.entries.get(path), contents)
            if path not in moves
            else FileChange(path=path, kind="moved", before=moves[path])
        )
        for path in paths
        if path not in gone
    )


def differing_paths(before: Entries, after: Entries) -> list[str]:
    """Return the paths of files, links and empty directories that are not the same, in order."""
    old, new = _without_folders(before), _without_folders(after)
    return [path for path in sorted(old.keys() | new.keys()) if old.get(path) != new.get(path)]


def _without_folders(entries: Entries) -> Entries:
    """Leave out the directories that are there because something is in them."""
    holding = {path.rpartition("/")[0] for path in entries}
    return {
        path: entry
        for path, entry in entries.items()
        if not (entry.is_directory and path in holding)
    }


def to_json(change: FileChange) -> dict[str, Any]:
    """Return a changed file as plain JSON values."""
    return {
        "path": change.path,
        "kind": change.kind,
        **({"from": change.before} if change.before else {}),
        "added": change.added,
        "removed": change.removed,
        **({"note": change.note} if change.note else {}),
        "lines": list(change.lines),
    }


def _moves(before: Entries, after: Entries) -> dict[str, str]:
    """Return which new path holds what a path held that is gone; of copies none."""
    gone: dict[str, list[str]] = {}
    for path, entry in before.items():
        if path not in after and entry.size_bytes:
            gone.setdefault(entry.sha256, []).append(path)
    come: dict[str, list[str]] = {}
    for path, entry in after.items():
        if path not in before and entry.size_bytes:
            come.setdefault(entry.sha256, []).append(path)
    return {
        new[0]: gone[digest][0]
        for digest, new in come.items()
        if len(new) == 1 and len(gone.get(digest, ())) == 1
    }


def _contents(side: Side, other: Side, paths: list[str]) -> Mapping[str, bytes]:
    """Return what those of some files hold that may be shown by their lines."""
    wanted = {
        path
        for path in paths
        if (entry := side.entries.get(path)) is not None
        and entry.sha256
        and entry.size_bytes <= SHOWN_BYTES
        and entry.sha256 != _digest(other.entries.get(path))
    }
    if not wanted or side.code is None:
        return {}
    # A pack that both have holds no file that differs.
    known = {pack.name for pack in other.code.packs} if other.code else set()
    found = read_files(side.code, side.entries, side.store, wanted=wanted, known=known)
    return {entry.path: content for entry, content in found}


def _digest(entry: Entry | None) -> str | None:
    return entry.sha256 if entry else None


def _change(
    path: str,
    before: Entry | None,
    after: Entry | None,
    contents: tuple[Mapping[str, bytes], Mapping[str, bytes]],
) -> FileChange:
    kind: Kind = "added" if before is None else "removed" if after is None else "changed"
    special = [each for each in (before, after) if each is not None and not each.sha256]
    if special:
        told = ", was ".join(_kind(each) for each in (after, before) if each is not None)
        return FileChange(path=path, kind=kind, note=told)
    if before and after and before.sha256 == after.sha256:
        return FileChange(path=path, kind="mode", note=f"{after.mode:o}, was {before.mode:o}")
    old, new = _text(path, before, contents[0]), _text(path, after, contents[1])
    if old is None or new is None:
        sizes = ", was ".join(size_in_units(each.size_bytes) for each in (after, before) if each)
        what = "large" if _is_large(before) or _is_large(after) else "binary"
        return FileChange(path=path, kind=kind, note=f"{what}, {sizes}")
    if _is_too_much(old, new):
        sizes = ", was ".join(f"{len(each):,}" for each in (new, old))
        return FileChange(path=path, kind=kind, note=f"too much to show, {sizes} lines")
    lines = tuple(_unified(old, new))
    return FileChange(
        path=path,
        kind=kind,
        lines=lines,
        added=sum(line.startswith("+") for line in lines),
        removed=sum(line.startswith("-") for line in lines),
        note="" if lines else "empty" if kind != "changed" else "only its line ends differ",
    )


def _kind(entry: Entry) -> str:
    if entry.link is not None:
        return f"a link to {entry.link}"
    return "a directory" if entry.is_directory else "a file"


def _is_large(entry: Entry | None) -> bool:
    return entry is not None and entry.size_bytes > SHOWN_BYTES


def _text(path: str, entry: Entry | None, contents: Mapping[str, bytes]) -> list[str] | None:
    """Return a file's lines; None for what has none to show."""
    if entry is None:
        return []
    content = contents.get(path)
    if content is None or b"\0" in content:
        return None
    try:
        return content.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return None


def _is_too_much(before: list[str], after: list[str]) -> bool:
    """Whether lines that differ are strewn over so many that finding them takes very long."""
    old, new = Counter(before), Counter(after)
    changed = (old - new).total() + (new - old).total()
    return bool(before and after) and changed * max(len(before), len(after)) > MOST_WORK


def _unified(before: list[str], after: list[str]) -> Iterator[str]:
    found = difflib.unified_diff(before, after, n=CONTEXT_LINES, lineterm="")
    for number, line in enumerate(found):
        if number > 1:  # the names come first
            yield line


def counted_changes(changes: tuple[FileChange, ...]) -> str:
    """Say how many files changed, and how many lines of them."""
    lines = f"+{sum(each.added for each in changes)} -{sum(each.removed for each in changes)}"
    return f"{counted(len(changes), 'file')}, {lines}"
