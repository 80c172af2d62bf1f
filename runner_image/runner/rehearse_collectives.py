"""The operations of a compiled program by which devices exchange data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .rehearse_loops import runs_of
from .rehearse_program import Instruction, Program
from .rehearse_shapes import arrays_in

COLLECTIVES = frozenset(
    {"all-gather", "all-reduce", "all-to-all", "collective-broadcast", "collective-permute"}
    | {"ragged-all-to-all", "reduce-scatter"}
)
"""https://openxla.org/xla/operation_semantics"""

_CHANNEL = re.compile(r"channel_id=(\d+)")
_HOST_TRANSFER = "is_host_transfer=true"


def collectives_of(program: Program) -> list[dict[str, Any]]:
    """Return a program's collectives, those that move most first.

    What stands in a loop counts as often as that turns, where the program says so.

    Args:
        program: The program.

    Returns:
        Each kind as the fields of `Collective` in `kinetic_flows/core/rehearsals.py`.
    """
    found: dict[str, list[float]] = {}
    seen: set[tuple[str, str]] = set()
    for times, instruction in _run(program):
        kind = instruction.opcode.removesuffix("-start")
        if kind not in COLLECTIVES:
            continue
        channel = _CHANNEL.search(instruction.rest)
        # One that is split into parts which run beside other work is written in each of them.
        key = (kind, channel[1] if channel else instruction.name)
        if key not in seen:
            seen.add(key)
            count, size = found.setdefault(kind, [0.0, 0.0])
            found[kind] = [count + times, size + times * _given(program, instruction)]
    return [
        {"operation": kind, "count": round(count), "size_bytes": round(size)}
        for kind, (count, size) in sorted(found.items(), key=lambda each: -each[1][1])
    ]


def _run(program: Program) -> Iterator[tuple[float, Instruction]]:
    """Return a program's instructions, each with how often it runs."""
    runs = runs_of(program)
    for name, instructions in program.computations.items():
        for instruction in instructions:
            yield runs.get(name, 0.0), instruction


def _given(program: Program, instruction: Instruction) -> int:
    """Return how many bytes a device gives to a collective."""
    taken = (program.by_name.get(operand) for operand in instruction.operands)
    return sum(
        array.size_bytes for each in taken if each is not None for array in arrays_in(each.shape)
    )


def host_calls_of(program: Program) -> list[Instruction]:
    """Return the instructions by which a program calls Python code of its host."""
    found: dict[str, Instruction] = {}
    for instruction in program.by_name.values():
        if instruction.opcode in {"send", "recv"} and _HOST_TRANSFER in instruction.rest:
            found.setdefault(instruction.operation or instruction.name, instruction)
    return list(found.values())
