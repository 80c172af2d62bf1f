"""Reading what a run pickled, in the process that defines some of it.

A class of a script comes back by value. Where this process has it, it is that class, and stays as
it is: cloudpickle would give it the run's methods and class attributes in place of its own.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import IO, Any

from kinetic_flows.code.internals import is_class_known


def load_returned(data: bytes | memoryview, buffers: Sequence[tuple[int, int]] = ()) -> Any:
    """Return the object in a pickle whose signature has been checked.

    Args:
        data: The pickle, and behind it what is out of band.
        buffers: Where that is: positions and sizes. What is made of it are views of that memory.

    Raises:
        Exception: It cannot be read here.
    """
    view = memoryview(data)
    out_of_band = [view[position : position + size] for position, size in buffers]
    return _Unpickler(io.BufferedReader(_Memory(view)), out_of_band).load()


def load_raised(data: bytes) -> tuple[BaseException | None, tuple[str, ...]]:
    """Return the exception in such a pickle, as far as it can be made again here.

    Classes that this process cannot import are replaced by stand-ins of their names where they
    belong to what surrounds the exception (its cause, its group, its attributes).

    Returns:
        The exception, and the classes that are not here; None for an exception whose own class
        is not, or that cannot be read at all.
    """
    try:
        found = load_returned(data)
    except Exception:  # noqa: BLE001 - unpickling runs the classes' own code
        return _with_stand_ins(data)
    return (found, ()) if isinstance(found, BaseException) else (None, ())


def _with_stand_ins(data: bytes) -> tuple[BaseException | None, tuple[str, ...]]:
    unpickler = _LenientUnpickler(io.BytesIO(data))
    try:
        found = unpickler.load()
    except Exception:  # noqa: BLE001 - as above
        return None, ()
    if not isinstance(found, BaseException) or isinstance(found, _StandIn):
        return None, ()
    return found, tuple(unpickler.missing)


class _Memory(io.RawIOBase):
    """A file that is memory, of which nothing is copied but what is read.

    Args:
        view: The memory.
    """

    def __init__(self, view: memoryview) -> None:
        super().__init__()
        self._rest = view

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        size = min(len(target), self._rest.nbytes)
        target[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], buffers: Sequence[memoryview] = ()) -> None:
        super().__init__(file, buffers=buffers)
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
        is_known = is_class_known(arguments)
        made = make(*arguments)
        if is_known:
            self._known.add(id(made))
        return made

    def _set_state(self, set_state: Callable[..., Any], made: type, state: Any) -> Any:
        return made if id(made) in self._known else set_state(made, state)


class _StandIn(Exception):
    """Stands for an object of a class that is not here: it keeps what it is given."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        super().__init__(*args)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            super().__setstate__(state)


class _LenientUnpickler(_Unpickler):
    """Puts stand-ins where a class is missing."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.missing: dict[str, type] = {}

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return super().find_class(module_name, global_name)
        except (ImportError, AttributeError):
            name = f"{module_name}.{global_name}"
            fields = {"__module__": module_name, "__qualname__": global_name}
            return self.missing.setdefault(name, type(global_name, (_StandIn,), fields))
