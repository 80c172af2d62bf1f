"""What a rehearsal gives its steps in the place of arrays."""

from __future__ import annotations

from math import prod
from typing import Any

from .rehearse_steps import Step

LARGE_BYTES = 100_000_000
LARGEST = 10

_TYPES = (("bfloat", "bf"), ("float", "f"), ("uint", "u"), ("int", "s"), ("complex", "c"))
"""How XLA names what numpy names otherwise: `f32`, `s8`."""


def warnings_of(step: Step) -> list[str]:
    """Return what a person should know of a step's arguments, a sentence each.

    Args:
        step: The step.
    """
    made = sum(_made_bytes(leaf) for leaf in _leaves(step))
    if made < LARGE_BYTES:
        return []
    return [
        f"{made / 1e9:.1f} GB of its arguments are arrays, where shapes are enough (jax.eval_shape)"
    ]


def _leaves(step: Step) -> list[object]:
    import jax

    return list(jax.tree_util.tree_leaves((step.args, dict(step.kwargs))))


def _made_bytes(leaf: object) -> int:
    """Return the size of an array that is one, and not a shape alone."""
    size = getattr(leaf, "nbytes", 0) if hasattr(leaf, "__array__") else 0
    return size if isinstance(size, int) else 0


def largest_arguments(step: Step) -> list[dict[str, Any]]:
    """Return the largest arguments whose place on devices is known, largest first.

    Args:
        step: The step.

    Returns:
        What each takes of one device, as the fields of `Buffer` in
        `kinetic_flows/core/rehearsals.py`.
    """
    import jax

    named = jax.tree_util.tree_flatten_with_path({"args": step.args, **step.kwargs})[0]
    found = [
        {
            "size_bytes": prod(sides) * leaf.dtype.itemsize,
            "shape": f"{_type(leaf.dtype.name)}[{','.join(map(str, sides))}]",
            "operation": f"{path[0].key}{jax.tree_util.keystr(path[1:])}",
            "kind": "argument",
        }
        for path, leaf in named
        if getattr(leaf, "sharding", None) is not None
        for sides in [leaf.sharding.shard_shape(leaf.shape)]
    ]
    return sorted(found, key=lambda each: -each["size_bytes"])[:LARGEST]


def _type(name: str) -> str:
    for begin, short in _TYPES:
        if name.startswith(begin):
            return short + name[len(begin) :]
    return name
