"""Compiled programs in the store: what there is of them, and removing what nobody uses.

A run that uses a program writes its object anew where that is a day old, so an object's age is how
long ago it was used, to within a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from kinetic_flows.core.artifact_store import ArtifactStore, ObjectInfo
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.object_names import COMPILE_CACHE

REMOVED_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Programs:
    """The compiled programs of one environment on one accelerator.

    Attributes:
        environment: Which packages they are for, as in the names of their objects.
        accelerator: Which accelerator, as in the names of their objects.
        hosts: How many hosts have some of their own.
        programs: How many they are.
        size_bytes: Their size.
        last_used: When a run used one last.
    """

    environment: str
    accelerator: str
    hosts: int
    programs: int
    size_bytes: int
    last_used: datetime

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**vars(self), "last_used": self.last_used.isoformat()}


def stored_programs(store: ArtifactStore) -> list[ObjectInfo]:
    """Return the objects of all compiled programs in a store, in the order of their names."""
    return list(store.list(COMPILE_CACHE))


def summed(objects: Iterable[ObjectInfo]) -> list[Programs]:
    """Return what objects are of, those first that were used last.

    Args:
        objects: Objects, in the order of their names.
    """
    found = []
    for (environment, accelerator), each in groupby(objects, key=lambda info: _parts(info)[:2]):
        some = list(each)
        found.append(
            Programs(
                environment=environment,
                accelerator=accelerator,
                hosts=len({_parts(info)[2] for info in some}),
                programs=len(some),
                size_bytes=size_of(some),
                last_used=max(info.updated for info in some),
            )
        )
    return sorted(found, key=lambda programs: programs.last_used, reverse=True)


def unused_programs(
    objects: Sequence[ObjectInfo], *, unused_since: datetime, max_bytes: int | None = None
) -> list[ObjectInfo]:
    """Return which objects go, in the order of their names.

    Args:
        objects: All of them.
        unused_since: What no run has used since then goes.
        max_bytes: How large the others may be together; the least recently used go first. None
            for any size.
    """
    kept, room = set(), max_bytes
    for info in sorted(objects, key=lambda info: info.updated, reverse=True):
        if info.updated < unused_since:
            break
        if room is not None:
            room -= info.size_bytes
            if room < 0:
                break
        kept.add(info.name)
    return [info for info in objects if info.name not in kept]


def remove_programs(objects: Sequence[ObjectInfo], store: ArtifactStore) -> None:
    """Remove objects; runs that need them compile again.

    Args:
        objects: Which.
        store: Where they are.
    """
    in_threads(store.delete, [info.name for info in objects], threads=REMOVED_AT_ONCE)


def size_of(objects: Iterable[ObjectInfo]) -> int:
    """Return the size of objects together."""
    return sum(info.size_bytes for info in objects)


def _parts(info: ObjectInfo) -> list[str]:
    """Return the environment, the accelerator, the host and the program in an object's name.

    What somebody has put there by hand may lack some.
    """
    parts = info.name.removeprefix(COMPILE_CACHE).split("/", 3)
    return [*parts, *[""] * (4 - len(parts))]
