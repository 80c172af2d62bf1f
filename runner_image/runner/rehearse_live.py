"""The largest of what a program has in memory when it takes most, with what made it and where."""

from __future__ import annotations

from typing import Any

from .rehearse_dump import Live
from .rehearse_program import Program
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
    inner = program.root_of(maker.called[0]) if maker.called else None
    # Compilers do not name all that they fuse.
    teller = maker if maker.operation or inner is None else inner
    is_given = any(maker is each and each.argument is not None for each in _entry(program))
    return {
        **told,
        "shape": _shape_at(maker.shape, live.part),
        "operation": teller.operation or live.name,
        "source": sources.of(program.frames_of(teller)),
        "kind": "argument" if is_given else "temporary",
    }


def _entry(program: Program) -> list[Any]:
    return program.computations.get(program.entry, [])


def _shape_at(shape: Shape, part: str) -> str:
    """Return the type and shape of a part of what an instruction gives."""
    for place in map(int, filter(None, part.split(","))):
        if isinstance(shape, Array) or place >= len(shape):
            return ""
        shape = shape[place]
    return shape.text if isinstance(shape, Array) else ""
