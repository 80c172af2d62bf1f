"""How the objects of a call are pickled: by reference where the run can import them.

Plain cloudpickle pickles by reference whatever is importable here. In a run, only what is
installed in its image or ships under the package root is importable; what comes from anywhere
else goes by value.
"""

from __future__ import annotations

import copy
import functools
import io
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any, Protocol, TypeVar

import cloudpickle  # type: ignore[import-untyped]

from kinetic_flows.packaging.modules import (
    OWN_PACKAGES,
    import_base,
    is_installed,
    is_remote_function,
    module_file,
)
from kinetic_flows.packaging.root import PackageRoot

PROTOCOL = 5


class Writable(Protocol):
    """A file, as far as pickle needs one."""

    def write(self, data: Any, /) -> Any:
        """Take some bytes."""
        ...


F = TypeVar("F", bound=Writable)

_by_value_lock = threading.RLock()


def is_importable_in_run(name: str, root: PackageRoot) -> bool:
    """Whether a run can import a module of this name: it is installed, or ships importably."""
    top = name.partition(".")[0]
    module = sys.modules.get(name)
    if top in OWN_PACKAGES or top in sys.stdlib_module_names or module is None:
        return True
    file = module_file(module) or module_file(sys.modules.get(top))
    if file is None:
        return _has_origin(module) or _has_origin(sys.modules.get(top))
    if is_installed(file):
        return True
    base = import_base(name, module_file(module) or file)
    return base is not None and base.resolve() in _import_folders(root)


def found_by_name(function: Any) -> Any:
    """Return what a function's module holds under the function's qualified name."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for part in getattr(function, "__qualname__", "<none>").split("."):
        found = getattr(found, part, None)
    return found


def is_reachable_by_name(function: Any, found: Any) -> bool:
    """Whether a name leads to a function, directly or to its decorated form.

    In a run the decorated form is the plain function.
    """
    return found is function or (is_remote_function(found) and found.fn is function)


class CallPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """A cloudpickle pickler that notes which modules of this machine alone it met.

    Args:
        file: Where the pickle is written.
        root: The package root, which decides what a run can import.
    """

    def __init__(self, file: Writable, root: PackageRoot) -> None:
        super().__init__(file, protocol=PROTOCOL)
        self._root = root
        self._judged: dict[str, bool] = {}
        self.met_here_only: set[str] = set()

    def reducer_override(self, obj: Any) -> Any:
        """Decide how one object is pickled; called by pickle for all but builtin values."""
        if isinstance(obj, FunctionType):
            self._note(obj.__module__)
            named = self._by_decorated_name(obj)
            if named is not None:
                return named
        elif isinstance(obj, type):
            self._note(obj.__module__)
        elif isinstance(obj, ModuleType):
            self._note(obj.__name__)
        elif is_remote_function(obj) and not self._importable(obj.fn.__module__):
            return copy.copy, (obj.fn,)
        return super().reducer_override(obj)

    def _note(self, module: Any) -> None:
        if isinstance(module, str) and not self._importable(module):
            self.met_here_only.add(module)

    def _importable(self, module: str) -> bool:
        if module == "__main__":
            return True  # cloudpickle takes it by value of itself
        if module not in self._judged:
            self._judged[module] = is_importable_in_run(module, self._root)
        return self._judged[module]

    def _by_decorated_name(self, function: FunctionType) -> Any:
        """Refer to a plain function whose name holds its decorated form, which runs it there."""
        module = sys.modules.get(function.__module__ or "")
        if module is None or function.__module__ == "__main__":
            return None
        found = found_by_name(function)
        if found is function or not is_reachable_by_name(function, found):
            return None
        if not self._importable(function.__module__):
            return None
        return functools.reduce, (getattr, function.__qualname__.split("."), module)


def pickle_call(value: Any, root: PackageRoot) -> tuple[bytes, frozenset[str]]:
    """Pickle a value for a run.

    Args:
        value: What to pickle.
        root: The package root, which decides what a run can import.

    Returns:
        The pickle, and the names of the modules whose functions and classes went by value
        because no run could import them.
    """
    sink, by_value = pickle_into(io.BytesIO, value, root)
    return sink.getvalue(), by_value


def pickle_into(
    new_file: Callable[[], F], value: Any, root: PackageRoot
) -> tuple[F, frozenset[str]]:
    """Pickle a value for a run into a file of the caller's kind.

    Args:
        new_file: Makes an empty file; it is called again when a module that no run can import
            comes to light, and everything is pickled anew with that module by value.
        value: What to pickle.
        root: The package root.

    Returns:
        The file, and the modules that went by value.
    """
    by_value: frozenset[str] = frozenset()
    while True:
        file = new_file()
        with _registered(by_value):
            pickler = CallPickler(file, root)
            pickler.dump(value)
        if pickler.met_here_only <= by_value:
            return file, by_value
        by_value |= pickler.met_here_only


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


def _has_origin(module: ModuleType | None) -> bool:
    """Whether an import system found a module, so that it is not made up in this process."""
    return getattr(module, "__spec__", None) is not None


def _import_folders(root: PackageRoot) -> set[Any]:
    return {(root.path / entry).resolve() for entry in root.sys_path}
