"""What XLA says of a program that does not fit the memory of a TPU.

It says it in one sentence, where that is plain before memory is assigned, or with a page of what
takes how much (https://openxla.org/xla/errors/error_1000). Pages are those of libtpu until 0.0.17
at least; 0.0.42 and 0.0.50 had sentences alone.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .rehearse_shapes import arrays_in, parse_shape
from .rehearse_sources import Sources

_SIZE = r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(?:i?B)?"
_PLAIN = re.compile(rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)")
_CORES = re.compile(
    rf"TensorCore Hbm usage:? {_SIZE}, SparseCore Hbm usage:? {_SIZE}, "
    rf"exceeding available bytes:? {_SIZE}"
)
_EARLY = re.compile(rf"enough device memory\. Requires {_SIZE}, has {_SIZE} available")
_USED = re.compile(rf"Used {_SIZE} of {_SIZE} hbm")
TOO_SMALL = 1000
"""No allocation is told that is less than a thousandth of all."""
_LINE = r"^\s*{name}\s+" + _SIZE
_ALLOCATION = re.compile(r"^\s*\d+\. Size: ", re.MULTILINE)
_OPERATOR = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')
_FILE = re.compile(r'source_file="([^"]*)"(?:\s+source_line=(\d+))?')
_SHAPE = re.compile(r"^\s*Shape: (.+)$", re.MULTILINE)
_TYPE = re.compile(r"^\s*Allocation type: (.+)$", re.MULTILINE)
_LABEL = re.compile(r"^\s*XLA label: %?([\w.\-]+) = ", re.MULTILINE)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50}


class Refusal(NamedTuple):
    """What a compiler has said of a program that does not fit.

    Attributes:
        memory: The fields of `StepMemory` in `kinetic_flows/core/rehearsals.py` that are known.
        buffers: The largest buffers, as the fields of `Buffer` there; mostly none are named.
    """

    memory: dict[str, Any]
    buffers: list[dict[str, Any]]


def read_refusal(text: str, sources: Sources) -> Refusal | None:
    """Return what a compiler's message says; None where it is about something else.

    Args:
        text: The message.
        sources: Names lines of the person's own files.
    """
    if plain := _PLAIN.search(text):
        needed, available = _bytes(plain[1], plain[2]), _bytes(plain[3], plain[4])
        return Refusal({"needed_bytes": needed, "available_bytes": available}, [])
    if cores := _CORES.search(text):
        needed = _bytes(cores[1], cores[2]) + _bytes(cores[3], cores[4])
        available = _bytes(cores[5], cores[6])
        return Refusal({"needed_bytes": needed, "available_bytes": available}, [])
    if early := _EARLY.search(text):
        # What it has there is less than what a program may use, by a margin for what it estimates.
        return Refusal({"needed_bytes": _bytes(early[1], early[2])}, [])
    used = _USED.search(text)
    if used is None:
        return None
    memory: dict[str, Any] = {
        "needed_bytes": _bytes(used[1], used[2]),
        "available_bytes": _bytes(used[3], used[4]),
    }
    for name, field in (
        ("arguments", "arguments_bytes"),
        ("HLO temp", "temporary_bytes"),
    ):
        if line := re.search(_LINE.format(name=name), text, re.MULTILINE):
            memory[field] = _bytes(line[1], line[2])
    buffers = [_allocation(part, sources) for part in _ALLOCATION.split(text)[1:]]
    least = memory["needed_bytes"] // TOO_SMALL
    return Refusal(memory, [each for each in buffers if each["size_bytes"] > least])


def _allocation(text: str, sources: Sources) -> dict[str, Any]:
    """Return one of the largest allocations; the text begins with its size."""
    size = re.match(_SIZE, text)
    shape, operator = _SHAPE.search(text), _OPERATOR.search(text)
    file, kind, label = _FILE.search(text), _TYPE.search(text), _LABEL.search(text)
    arrays = arrays_in(parse_shape(shape[1])) if shape else []
    return {
        "size_bytes": _bytes(size[1], size[2]) if size else 0,
        "shape": ", ".join(array.text for array in arrays),
        "operation": operator[1] if operator else label[1] if label else "",
        "source": sources.of([(file[1], int(file[2] or 0))]) if file else "",
        "kind": "argument" if kind and "argument" in kind[1].lower() else "temporary",
    }


def _bytes(number: str, unit: str) -> int:
    return int(float(number) * (1 << _UNITS[unit]))
