"""Shapes as XLA writes them, such as `bf16[8192,4096]{1,0:T(8,128)(2,1)}`, and their sizes.

https://openxla.org/xla/shapes and https://openxla.org/xla/tiled_layout
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([0-9,<= ]*)\](?:\{([^{}]*)\})?")
_BITS = re.compile(r"[a-z]+(\d+)")
_TILE = re.compile(r"T\(([0-9,*]+)\)")
_SPACE = re.compile(r"S\((\d+)\)")
_DEVICE_SPACE = 0
_BITS_OF_OTHERS = {"pred": 8, "token": 0, "opaque": 0}


class Array(NamedTuple):
    """An array, or a part of a tuple.

    Attributes:
        text: Its type and shape, without how it is laid out.
        size_bytes: What it takes, padded to whole tiles.
        is_in_device_memory: Whether it is in the large memory of a device, and not in a core's
            own or in the host's.
    """

    text: str
    size_bytes: int
    is_in_device_memory: bool


Shape = Array | list["Shape"]
"""An array, or a tuple of shapes."""


def parse_shape(text: str) -> Shape:
    """Return a shape.

    Args:
        text: The shape as XLA writes it.
    """
    text = text.strip()
    if text.startswith("("):
        return [parse_shape(part) for part in split_parts(text[1 : text.rindex(")")])]
    return _parse_array(text)


def split_parts(text: str) -> list[str]:
    """Return what commas separate that stand in no brackets, without XLA's comments."""
    parts, depth, begin = [], 0, 0
    text = re.sub(r"/\*.*?\*/", "", text)
    for place, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[begin:place])
            begin = place + 1
    parts.append(text[begin:])
    return [part.strip() for part in parts if part.strip()]


def arrays_in(shape: Shape) -> list[Array]:
    """Return the arrays of a shape, in their order."""
    if isinstance(shape, Array):
        return [shape]
    return [array for part in shape for array in arrays_in(part)]


def _parse_array(text: str) -> Array:
    found = _ARRAY.match(text)
    if found is None:
        return Array(text, 0, True)
    kind, written, layout = found[1], found[2], found[3] or ""
    # A dimension that is not known beforehand is written with its bound: `<=8`.
    dimensions = [int(each.strip(" <=")) for each in written.split(",") if each.strip(" <=")]
    space = _SPACE.search(layout)
    bits = _BITS_OF_OTHERS.get(kind)
    if bits is None:
        number = _BITS.match(kind)
        # Complex numbers are named after both of their parts together.
        bits = int(number[1]) if number else 8
    count = 1
    for dimension in _padded(dimensions, layout):
        count *= dimension
    is_here = space is None or int(space[1]) == _DEVICE_SPACE
    return Array(f"{kind}[{written}]", (count * bits + 7) // 8, is_here)


def _padded(dimensions: list[int], layout: str) -> list[int]:
    """Return dimensions, the most minor last, filled up to whole tiles."""
    order, _, rest = layout.partition(":")
    minor_first = [int(each) for each in order.split(",") if each.strip().isdigit()]
    if sorted(minor_first) != list(range(len(dimensions))):
        return dimensions
    ordered = [dimensions[each] for each in reversed(minor_first)]
    tile = _TILE.search(rest)
    if tile is None or "*" in tile[1]:
        return ordered
    sides = [int(each) for each in tile[1].split(",")]
    for back, side in enumerate(reversed(sides), 1):
        if back <= len(ordered):
            ordered[-back] = -(-ordered[-back] // side) * side
    return ordered
