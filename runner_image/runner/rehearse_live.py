"""The largest of what a program has in memory when it takes most, with what made it and where."""

from __future__ import annotations

from typing import Any

from .rehearse_dump import Live
from .rehearse_memory import told_by
from .rehearse_program import Instruction, Program
from .rehearse_shapes import Array, Shape
from .rehearse_sources import Sources

LARGEST = 10


def buffers_of(live: list[Live], program: Program, sources: Sources) -> list[dict[str, Any]]:
    """Return the largest of what is in memory, each as the fields of `Buffer`.

    Args:
        live: What is in memory when most of it is taken, largest first.
        program: The program.
        sources: Names lines of the person's own files.
    """
    return [_buffer(each, program, sources) for each in live[:LARGEST]]


def _buffer(live: Live, program: Program, sources: Sources) -> dict[str, Any]:
    """Return something that is in memory as the fields of `Buffer`."""
    maker = program.by_name.get(live.name)
    told = {"size_bytes": live.size_bytes, "shape": "", "operation": live.name, "source": ""}
    if maker is None:
        return {**told, "kind": "temporary"}
    kind = _kind(program, maker)
    teller = _named_within(program, maker) or told_by(program, maker)
    operation = teller.operation or live.name
    is_copy = teller.opcode == "parameter" and teller.operation and kind != "argument"
    return {
        **told,
        "shape": _shape_at(maker.shape, live.part),
        "operation": f"copy of {operation}" if is_copy else operation,
        "source": sources.of(program.frames_of(teller)),
        "kind": kind,
    }


def _named_within(program: Program, maker: Instruction) -> Instruction | None:
    """Return the last that has a name of what was fused, where the whole has none."""
    fused = () if maker.operation or not maker.called else program.computations[maker.called[0]]
    named = [each for each in fused if each.operation and each.argument is None]
    return named[-1] if named else None


def _kind(program: Program, maker: Instruction) -> str:
    """Return whether what an instruction makes is given, returned, or made meanwhile."""
    if any(maker is each for each in program.computations.get(program.entry, ())):
        if maker.argument is not None:
            return "argument"
        root = program.root_of(program.entry)
        returned = root.operands if root is not None and root.opcode == "tuple" else ()
        # What takes an argument's place is in the argument's memory.
        taken = program.outputs_in_arguments()
        places = [place for place, name in enumerate(returned) if name == maker.name]
        if maker is root or (places and not taken.keys() & set(places)):
            return "output"
    return "temporary"


def _shape_at(shape: Shape, part: str) -> str:
    """Return the type and shape of a part of what an instruction gives."""
    for place in map(int, filter(None, part.split(","))):
        if isinstance(shape, Array) or place >= len(shape):
            return ""
        shape = shape[place]
    return shape.text if isinstance(shape, Array) else ""
