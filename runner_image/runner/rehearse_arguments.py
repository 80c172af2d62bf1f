"""What a rehearsal gives its steps in the place of arrays."""

from __future__ import annotations

from .rehearse_steps import Step

LARGE_BYTES = 100_000_000


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
