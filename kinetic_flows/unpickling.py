"""Reading what a run pickled, in the process that defines some of it.

A class of a script comes back by value. Where this process has it, it is that class, and stays as
it is: cloudpickle would give it the run's methods and class attributes in place of its own.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

_TRACKER_ID = -2
"""Where cloudpickle 3.1 has a class's id among the arguments that make it."""


def load_returned(data: bytes) -> Any:
    """Return the object in a pickle whose signature has been checked.

    Raises:
        Exception: It cannot be read here.
    """
    return _Unpickler(io.BytesIO(data)).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._known: set[int] = set()

    def find_class(self, module_name: str, global_name: str) -> Any:
        found = super().find_class(module_name, global_name)
        if module_name != "cloudpickle.cloudpickle":
            return found
        if global_name in ("_make_skeleton_class", "_make_skeleton_enum"):
            return partial(self._make_class, found)
        if global_name == "_class_setstate":
            return partial(self._set_state, found)
        return found

    def _make_class(self, make: Callable[..., type], *arguments: Any) -> type:
        from cloudpickle import cloudpickle  # type: ignore[import-untyped]

        is_known = arguments[_TRACKER_ID] in cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID
        made = make(*arguments)
        if is_known:
            self._known.add(id(made))
        return made

    def _set_state(self, set_state: Callable[..., Any], made: type, state: Any) -> Any:
        return made if id(made) in self._known else set_state(made, state)
