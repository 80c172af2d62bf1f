"""What is used of cloudpickle 3.1 and of Python without being promised; see docs/upstream.md."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterable
from types import CodeType
from typing import Any

from cloudpickle import cloudpickle

CachedFunction = functools._lru_cache_wrapper
"""The type of what `functools.cache` and `lru_cache` make."""

_TRACKER_ID = -2
"""Where cloudpickle has a class's id among the arguments that make it."""


def value_of(semaphore: threading.Semaphore) -> int:
    """Return how often a semaphore can be acquired now."""
    return semaphore._value


def initial_value_of(semaphore: threading.BoundedSemaphore) -> int:
    """Return how often a bounded semaphore can be acquired at most."""
    value: int = semaphore._initial_value  # type: ignore[attr-defined]
    return value


def globals_named_in(code: CodeType) -> Iterable[str]:
    """Return the global variables that a function's code, and code within it, names."""
    names: Iterable[str] = cloudpickle._extract_code_globals(code)
    return names


def is_class_known(arguments: tuple[Any, ...]) -> bool:
    """Whether this process has the class that cloudpickle is about to make anew."""
    return arguments[_TRACKER_ID] in cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID


def without_class_ids(pickled: bytes) -> bytes:
    """Return a pickle with the ids of classes that went by value numbered as they come.

    cloudpickle draws them at random in each process.
    """
    known = [each.encode() for each in list(cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID)]
    met = sorted((each for each in known if each in pickled), key=pickled.find)
    for number, each in enumerate(met):
        pickled = pickled.replace(each, b"%032d" % number)
    return pickled
