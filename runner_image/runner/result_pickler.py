"""How a value is pickled that goes back to the client.

What a script defines goes by value with it, and so do class attributes that every process makes
for itself; the client's side of that is `kinetic_flows/packaging/named_objects.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import queue
import threading
from typing import Any

_MAIN_NAMES = ("__main__", "__mp_main__")
_MADE_ANEW = {
    type(threading.Lock()): threading.Lock,
    type(threading.RLock()): threading.RLock,
    threading.Condition: threading.Condition,
    threading.Event: threading.Event,
    threading.local: threading.local,
    queue.Queue: queue.Queue,
    queue.SimpleQueue: queue.SimpleQueue,
}


@functools.cache
def pickler_class() -> Any:
    """Return the class of picklers for the client, whose module is imported only now."""
    from cloudpickle import CloudPickler

    class ResultPickler(CloudPickler):  # type: ignore[misc]
        """Pickles a value for the client; made of a file alone."""

        def __init__(self, file: Any) -> None:
            super().__init__(file, protocol=5)

        def reducer_override(self, obj: Any) -> Any:
            """Decide how one object is pickled; called by pickle for all but builtin values."""
            own = _reduced(obj)
            return _as_every_process_has_it(obj, own or super().reducer_override(obj))

    return ResultPickler


def _reduced(obj: Any) -> tuple[Any, ...] | None:
    if isinstance(obj, functools.cached_property):
        # Python 3.11 has a lock in it.
        return type(obj), (obj.func,), {"attrname": obj.attrname, "__doc__": obj.__doc__}
    return (getattr, (dataclasses, "MISSING")) if obj is dataclasses.MISSING else None


def _as_every_process_has_it(obj: Any, reduced: Any) -> Any:
    """Return the reduction of a class of a script without what cannot go with it."""
    is_of_main = isinstance(obj, type) and obj.__module__ in _MAIN_NAMES
    if not is_of_main or not isinstance(reduced, tuple) or len(reduced) < 3:
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
