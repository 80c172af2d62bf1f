"""How a value is pickled that goes back to the client.

What a script defines goes by value with it, and so do class attributes that every process makes
for itself; the client's side of that is `kinetic_flows/code/named_objects.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import pickle
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import IO, Any

from .arrays import reduced_array
from .contract import ALIGNMENT

BUFFER_BYTES = 1 << 20
"""Size from which on an object's memory is out of band."""

_OTHER_WAYS: tuple[dict[str, Any], ...] = ({"by_name": True}, {"protocol": 4})
_MAIN_NAMES = ("__main__", "__mp_main__")
_MADE_ANEW = {type(threading.Lock()): threading.Lock, type(threading.RLock()): threading.RLock}


def dump_value(value: Any, new_file: Callable[[], IO[bytes]]) -> list[list[int]]:
    """Pickle a value for the client: into a file, and behind it the memory that is out of band.

    Args:
        value: The value.
        new_file: Opens an empty file.

    Returns:
        Where each buffer is in the file: its position and its size.

    Raises:
        Exception: It cannot be pickled.
    """
    try:
        return _dump(value, new_file)
    except (MemoryError, OSError):
        raise  # there is no room for it, however it is pickled
    except Exception as error:
        for options in _OTHER_WAYS:
            # The first error says more.
            with suppress(Exception):
                return _dump(value, new_file, **options)
        raise error from None


def _dump(value: Any, new_file: Callable[[], IO[bytes]], **options: Any) -> list[list[int]]:
    buffers: list[memoryview] = []

    def take(buffer: pickle.PickleBuffer) -> bool:
        """Take an object's memory; return whether it stays in the pickle instead."""
        try:
            view = buffer.raw()
        except BufferError:  # it is not one block
            return True
        if view.nbytes < BUFFER_BYTES:
            return True
        buffers.append(view)
        return False

    places = []
    with new_file() as file:
        pickler_class()(file, take=take, **options).dump(value)
        for view in buffers:
            file.write(bytes(-file.tell() % ALIGNMENT))
            places.append([file.tell(), view.nbytes])
            file.write(view)
    return places


@functools.cache
def pickler_class() -> Any:
    """Return the class of picklers for the client, whose module is imported only now."""
    from cloudpickle import CloudPickler

    class ResultPickler(CloudPickler):  # type: ignore[misc]
        """Pickles a value for the client.

        Args:
            file: Where the pickle is written.
            by_name: Whether a script's classes are named, for clients that have the script.
            protocol: The protocol of pickle.
            take: Takes memory out of band; None to have it in the pickle.
        """

        def __init__(
            self, file: Any, *, by_name: bool = False, protocol: int = 5, take: Any = None
        ) -> None:
            super().__init__(file, protocol, take if protocol >= 5 else None)
            self._by_name, self._protocol = by_name, protocol

        def reducer_override(self, obj: Any) -> Any:
            """Decide how one object is pickled; called by pickle for all but builtin values."""
            if self._by_name and _is_class_of_main(obj):
                return obj.__qualname__
            own = _reduced(obj)
            array = reduced_array(obj, self._protocol) if own is None else NotImplemented
            if array is not NotImplemented:
                return array
            return _as_every_process_has_it(obj, own or super().reducer_override(obj))

    return ResultPickler


def _is_class_of_main(obj: Any) -> bool:
    if not isinstance(obj, type) or obj.__module__ not in _MAIN_NAMES:
        return False
    return "<locals>" not in obj.__qualname__


def _reduced(obj: Any) -> tuple[Any, ...] | None:
    if isinstance(obj, functools.cached_property):
        # Python 3.11 has a lock in it.
        return type(obj), (obj.func,), {"attrname": obj.attrname, "__doc__": obj.__doc__}
    return (getattr, (dataclasses, "MISSING")) if obj is dataclasses.MISSING else None


def _as_every_process_has_it(obj: Any, reduced: Any) -> Any:
    """Return the reduction of a class of a script without what cannot go with it."""
    if not _is_class_of_main(obj) or not isinstance(reduced, tuple) or len(reduced) < 3:
        return reduced
    make, arguments, (attributes, slots), *rest = reduced
    attributes = {name: _made_anew(value) for name, value in attributes.items()}
    return make, arguments, (attributes, slots), *rest


class _MadeAnew:
    def __init__(self, make: Any) -> None:
        self._make = make

    def __reduce__(self) -> tuple[Any, ...]:
        return self._make, ()


def _made_anew(value: Any) -> Any:
    make = _MADE_ANEW.get(type(value))
    return value if make is None else _MadeAnew(make)
