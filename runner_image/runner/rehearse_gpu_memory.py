"""What a step may take of a GPU's memory, and whether it does.

jax takes a share of the memory when it first uses a GPU, and programs have that alone: three
quarters, or what a variable says (https://docs.jax.dev/en/latest/gpu_memory_allocation.html).
cuBLAS, cuDNN and NCCL live in the rest.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .rehearse_gpu_models import memory_of

SHARE = 0.75
SHARE_VARIABLES = ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")
"""The later name first: jax 0.10 calls the other one deprecated."""
ALLOCATOR_VARIABLE = "XLA_PYTHON_CLIENT_ALLOCATOR"
LARGEST_SHARE = 0.95
"""What a hint names at most: CUDA itself takes some hundred MB, and libraries more."""


def available_bytes(target: Mapping[str, Any]) -> int:
    """Return what programs may have of each GPU of a target, with the variables of the run.

    Args:
        target: A `RehearsalTarget` as plain JSON values.
    """
    return int(_share() * memory_of(target))


def judge(sizes: Mapping[str, int], target: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether a program fits, in the fields of `StepReport`.

    Args:
        sizes: What it takes, as the fields of `StepMemory`.
        target: A `RehearsalTarget` as plain JSON values.
    """
    available = available_bytes(target)
    told = {"memory": {"available_bytes": available, **sizes}}
    needed = sizes["needed_bytes"]
    if needed <= available:
        return {**told, "verdict": "fits", "message": "", "hint": ""}
    message = (
        f"the program needs {gib(needed)} of each GPU, and jax has {gib(available)} for programs"
    )
    return {**told, "verdict": "exceeds", "message": message, "hint": hint(needed, target)}


def hint(needed: int, target: Mapping[str, Any]) -> str:
    """Return how a program would fit after all; empty where no variable is enough.

    Args:
        needed: What it needs, in bytes.
        target: A `RehearsalTarget` as plain JSON values.
    """
    share = needed / memory_of(target)
    if share > LARGEST_SHARE or _share() >= LARGEST_SHARE:
        return ""
    return (
        f"jax takes {_share():.0%} of a GPU's memory: with {SHARE_VARIABLES[0]}={LARGEST_SHARE} in "
        f"the run's variables it may fit"
    )


def gib(size: int) -> str:
    """Return a size in words."""
    return f"{size / (1 << 30):.2f} GiB"


def _share() -> float:
    """Return which part of the memory jax takes."""
    if os.environ.get(ALLOCATOR_VARIABLE, "").lower() == "platform":
        return 1.0
    for variable in SHARE_VARIABLES:
        with suppress(ValueError):
            return float(os.environ.get(variable, ""))
    return SHARE
