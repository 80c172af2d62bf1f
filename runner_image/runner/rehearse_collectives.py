"""The operations of a compiled program by which devices exchange data."""

from __future__ import annotations

import re
from typing import Any

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

    What stands in a loop is counted once: how often that runs, the program does not say.

    Args:
        program: The program.

    Returns:
        Each kind as the fields of `Collective` in `kinetic_flows/core/rehearsals.py`.
    """
    found: dict[str, list[int]] = {}
    seen: set[tuple[str, str]] = set()
    for instruction in program.by_name.values():
        kind = instruction.opcode.removesuffix("-start")
        if kind not in COLLECTIVES:
            continue
        channel = _CHANNEL.search(instruction.rest)
        # One that is split into parts which run beside other work is written in each of them.
        key = (kind, channel[1] if channel else instruction.name)
        if key not in seen:
            seen.add(key)
            found.setdefault(kind, []).append(_given(program, instruction))
    kinds = sorted(found, key=lambda kind: -sum(found[kind]))
    return [
        {"operation": kind, "count": len(found[kind]), "size_bytes": sum(found[kind])}
        for kind in kinds
    ]


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
