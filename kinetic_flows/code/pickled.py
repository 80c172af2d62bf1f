"""Pickling a value for a run, anew for as long as it meets what no run can import."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Generic, TypeVar

import cloudpickle

from kinetic_flows.code.internals import globals_named_in
from kinetic_flows.code.named_objects import PROTOCOL
from kinetic_flows.code.pickling import CallPickler, Writable
from kinetic_flows.code.root import PackageRoot
from kinetic_flows.core.data import Data

F = TypeVar("F", bound=Writable)

_by_value_lock = threading.RLock()


@dataclass(frozen=True, kw_only=True)
class Pickled(Generic[F]):
    """An object pickled for a run.

    Attributes:
        file: Where it is.
        by_value: Modules whose functions and classes went by value because no run could import
            them.
        sources: Lines of code whose files do not ship, by file name.
        modules: Modules that the run imports to restore it.
        data: The data in it, which it names by their places here.
    """

    file: F
    by_value: frozenset[str]
    sources: Mapping[str, str]
    modules: frozenset[str]
    data: tuple[Data, ...]


def pickle_into(
    new_file: Callable[[], F], value: Any, root: PackageRoot, *, protocol: int = PROTOCOL
) -> Pickled[F]:
    """Pickle a value for a run into a file of the caller's kind.

    Behind the value come, pickled in the same go, names for the run's `__main__`.

    Args:
        new_file: Makes an empty file; it is called again when a module that no run can import
            comes to light, and everything is pickled anew with that module by value.
        value: What to pickle.
        root: The package root.
        protocol: The protocol of pickle.
    """
    by_value: frozenset[str] = frozenset()
    while True:
        file = new_file()
        with _registered(by_value | _main_of_a_child()):
            pickler = CallPickler(file, root, protocol=protocol)
            pickler.dump_call(value)
        if pickler.met_here_only <= by_value:
            return Pickled(
                file=file,
                by_value=by_value,
                sources=pickler.sources,
                modules=pickler.modules - by_value,
                data=pickler.data.met,
            )
        by_value |= pickler.met_here_only


def globals_that_travel(function: FunctionType, root: PackageRoot) -> dict[str, Any]:
    """Return the global variables that go by value with a function, as a run has them."""
    pickler = CallPickler(io.BytesIO(), root)
    used = globals_named_in(function.__code__)
    here = function.__globals__
    return pickler.globals_in_run(function, {name: here[name] for name in used if name in here})


@contextmanager
def _registered(names: frozenset[str]) -> Iterator[None]:
    """Make cloudpickle take some modules by value for a while; its registry is the process's."""
    if not names:
        yield
        return
    with _by_value_lock:
        before = cloudpickle.list_registry_pickle_by_value()
        added = [sys.modules[name] for name in names - before if name in sys.modules]
        for module in added:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in added:
                cloudpickle.unregister_pickle_by_value(module)


def _main_of_a_child() -> frozenset[str]:
    """Return what multiprocessing's children call the script, which goes by value there too."""
    name = "__mp_main__"
    is_own = getattr(sys.modules.get(name), "__name__", None) == name
    return frozenset({name}) if is_own else frozenset()
