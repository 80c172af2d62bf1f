"""How arrays are pickled, so that their memory can go out of band.

The client does the same to what it sends (`kinetic_flows/code/arrays.py`).
"""

from __future__ import annotations

import pickle
import sys
from typing import Any

LARGE_BYTES = 32_768
"""Smaller ones are left to pickle as they are."""

_PROTOCOL = 5
# Not `memoryview`: Python crashes where one is collected together with a `PickleBuffer` of it.
_NAMES = frozenset({"ArrayImpl", "ndarray"})


def reduced_array(obj: Any, protocol: int) -> Any:
    """Reduce arrays that pickle would copy as views of memory that stays where it is.

    Those are numpy's of data types that are no buffers (dates, `bfloat16`), and jax's.

    Args:
        obj: Any object.
        protocol: The protocol of pickle; only the latest knows such views.

    Returns:
        Its reduction; `NotImplemented` for its own.
    """
    kind = type(obj)
    if protocol < _PROTOCOL or kind.__qualname__ not in _NAMES:
        return NotImplemented
    if kind.__module__ == "numpy":
        return _reduced_numpy(obj)
    return _reduced_jax(obj) if kind.__module__.startswith("jax") else NotImplemented


def _reduced_numpy(array: Any) -> Any:
    is_block = array.flags.c_contiguous or array.flags.f_contiguous
    if array.nbytes < LARGE_BYTES or array.dtype.hasobject or not is_block:
        return NotImplemented
    try:
        memoryview(array)
    except (BufferError, ValueError):
        flat = array if array.flags.c_contiguous else array.T
        memory = pickle.PickleBuffer(flat.reshape(-1).view("u1"))
        return type(array), (array.shape, array.dtype, memory, 0, array.strides)
    return NotImplemented


def _reduced_jax(array: Any) -> Any:
    """Reduce an array of one process as numpy's, put where the other process computes.

    One whose type is weak, or which other processes have parts of, has more to tell.
    """
    if array.nbytes < LARGE_BYTES or array.weak_type or not array.is_fully_addressable:
        return NotImplemented
    return sys.modules["jax"].device_put, (sys.modules["numpy"].asarray(array),)
