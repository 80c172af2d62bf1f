"""Data of a call that lies in the project, and would ship with its code as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from kinetic_flows.code.ignore import IGNORE_FILE
from kinetic_flows.code.manifest import Entry, decode_manifest
from kinetic_flows.code.snapshot import CodeSnapshot
from kinetic_flows.core.data import Data
from kinetic_flows.core.files import printable, size_in_units

WORTH_A_WORD_BYTES = 1_000_000


def shipped_twice(data: Iterable[Data], snapshot: CodeSnapshot) -> tuple[str, ...]:
    """Say of which data much ships with the code, besides what the run has of it anyway.

    It is not left out unasked: code may read it by its path in the project.

    Args:
        data: The data of a call.
        snapshot: What ships.
    """
    local = {Path(each.source).resolve() for each in data if each.kind == "local"}
    inside = [path for path in local if snapshot.root in path.parents]
    if not inside:
        return ()
    entries = decode_manifest(snapshot.manifest)
    told = []
    for path in sorted(inside):
        name = path.relative_to(snapshot.root).as_posix()
        size_bytes = sum(_sizes_below(name, entries))
        if size_bytes >= WORTH_A_WORD_BYTES:
            told.append(
                f"{printable(name)} is data of the call, and {size_in_units(size_bytes)} of it "
                f"ship with the code as well; write /{printable(name)} into {IGNORE_FILE} if the "
                "code does not read it by that path"
            )
    return tuple(told)


def _sizes_below(name: str, entries: Iterable[Entry]) -> Iterator[int]:
    for entry in entries:
        if entry.path == name or entry.path.startswith(f"{name}/"):
            yield entry.size_bytes
