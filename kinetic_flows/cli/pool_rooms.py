"""A cluster's node pools on the command line: what is free in them now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from kinetic_flows.cli.tables import print_table
from kinetic_flows.core.accelerators.parsing import accelerator_of
from kinetic_flows.core.display import counted
from kinetic_flows.core.pool_rooms import PoolRoom

HEADINGS = (
    *("node pool", "accelerator", "machine type", "nodes", "autoscaled", "free now", "in use"),
    *("waiting", "how"),
)

SHOWN_RUNS = 3
"""How many runs are named that wait for a node pool."""


def print_rooms(rooms: Sequence[PoolRoom]) -> None:
    """Print node pools as a table, and below it who waits, and why no node was added.

    Args:
        rooms: The node pools.
    """
    if not rooms:
        print("the cluster has no node pool for any of them")
        return
    lines = [HEADINGS, *map(_row, rooms)]
    # A column that says nothing of any of them is left out.
    used = [place for place in range(len(HEADINGS)) if any(line[place] for line in lines[1:])]
    print_table([[line[place] for place in used] for line in lines])
    told = [line for room in rooms for line in _notes(room, datetime.now(UTC))]
    if told:
        print("", *told, sep="\n")


def _row(room: PoolRoom) -> tuple[str, ...]:
    pool = room.pool
    known = accelerator_of(pool)
    # Whether it is spot stands in a column of its own.
    name = known.name if known else pool.accelerator or ""
    return (
        pool.name,
        name,
        pool.machine_type,
        "?" if room.nodes is None else str(room.nodes),
        room.bounds,
        room.free,
        _in_use(room),
        "" if not room.waiting else counted(len(room.waiting), "run"),
        room.ways,
    )


def _in_use(room: PoolRoom) -> str:
    return counted(room.used_chips, "chip") if room.used_chips else ""


def _notes(room: PoolRoom, now: datetime) -> Iterator[str]:
    if room.waiting:
        named = [str(each) for each in room.waiting[:SHOWN_RUNS]]
        more = len(room.waiting) - len(named)
        named += [f"{more} more"] if more else []
        verb = "waits" if len(room.waiting) == 1 else "wait"
        runs = counted(len(room.waiting), "run")
        yield f"{runs} {verb} for {room.pool.name}: {', '.join(named)}"
    if room.failure:
        yield f"{room.pool.name}: {room.failure.told(now)}"
