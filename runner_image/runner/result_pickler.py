"""How a value is pickled that goes back to the client.

What a script defines goes by value with it, and so do class attributes that every process makes
for itself; the client's side of that is `kinetic_flows/code/named_objects.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable
from typing import IO, Any

_MAIN_NAMES = ("__main__", "__mp_main__")
_MADE_ANEW = {type(threading.Lock()): threading.Lock, type(threading.RLock()): threading.RLock}


def dump_value(value: Any, new_file: Callable[[], IO[bytes]]) -> None:
    """Pickle a value for the client.

    Args:
        value: The value.
        new_file: Opens an empty file.

    Raises:
        Exception: It cannot be pickled.
    """
    try:
        with new_file() as file:
            pickler_class()(file).dump(value)
    except Exception as error:  # noqa: BLE001 - pickling runs the value's own code
        try:
            with new_file() as file:
                pickler_class()(file, by_name=True).dump(value)
        except Exception:  # noqa: BLE001 - as above, and the first error says more
            raise error from None


@functools.cache
def pickler_class() -> Any:
    """Return the class of picklers for the client, whose module is imported only now."""
    from cloudpickle import CloudPickler

    class ResultPickler(CloudPickler):  # type: ignore[misc]
        """Pickles a value for the client.

        Args:
            file: Where the pickle is written.
            by_name: Whether a script's classes are named, for clients that have the script.
        """

        def __init__(self, file: Any, *, by_name: bool = False) -> None:
            super().__init__(file, protocol=5)
            self._by_name = by_name

        def reducer_override(self, obj: Any) -> Any:
            """Decide how one object is pickled; called by pickle for all but builtin values."""
            if self._by_name and _is_class_of_main(obj):
                return obj.__qualname__
            own = _reduced(obj)
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
