"""How the objects of a call are pickled: by reference where the run can import them.

Plain cloudpickle pickles by reference whatever is importable here. In a run, only what is
installed in its image or ships under the package root is importable; what comes from anywhere
else goes by value. A function without a name to find it by goes by value with the global
variables that its module has in the run; one of `__main__` brings its own along.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Protocol, TypeVar

import cloudpickle

from kinetic_flows.code.arrays import reduced_array
from kinetic_flows.code.code_files import CodeFiles
from kinetic_flows.code.data_places import DataPlaces
from kinetic_flows.code.main_module import MAIN_NAMES, MainGlobals, MainNames, namespace_of
from kinetic_flows.code.modules import (
    OWN_PACKAGES,
    import_base,
    is_installed,
    is_remote_function,
    module_file,
)
from kinetic_flows.code.named_objects import (
    PROTOCOL,
    SENT_BY_VALUE,
    has_reduction_of_its_own,
    is_jitted,
    is_single_dispatch,
    jitted,
    sentinel_of_dataclasses,
    single_dispatch,
    take_apart,
)
from kinetic_flows.code.root import PackageRoot
from kinetic_flows.code.stand_ins import GlobalsInRun, with_ordered_sets
from kinetic_flows.core.data import Data
from kinetic_flows.core.inside_run import as_inside_run


class Writable(Protocol):
    """A file, as far as pickle needs one."""

    def write(self, data: Any, /) -> Any:
        """Take some bytes."""
        ...


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


def is_main(variables: Mapping[str, Any]) -> bool:
    """Whether global variables are those of a script, a notebook or an interactive session."""
    return variables.get("__name__") in MAIN_NAMES


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
    """A cloudpickle pickler of a call, for a run that restores it into its own `__main__`.

    It notes which modules of this machine alone it met, the names of `__main__`, and the data.

    Args:
        file: Where the pickle is written.
        root: The package root, which decides what a run can import.
        protocol: The protocol of pickle.
    """

    def __init__(self, file: Writable, root: PackageRoot, *, protocol: int = PROTOCOL) -> None:
        take_buffer = getattr(file, "take_buffer", None) if protocol >= PROTOCOL else None
        super().__init__(file, protocol=protocol, buffer_callback=take_buffer)
        self._root = root
        self._protocol = protocol
        self._judged: dict[str, bool] = {}
        self._plain_kinds: set[type] = set()
        self._files = CodeFiles(root)
        self._main = MainGlobals(root, self._files, self._importable)
        self._names = MainNames()
        self.met_here_only: set[str] = set()
        self.data = DataPlaces()

    @property
    def sources(self) -> dict[str, str]:
        """Lines of code that went by value and whose files do not ship, by file name."""
        return self._files.sources

    @property
    def modules(self) -> frozenset[str]:
        """Modules that the run imports to restore what was pickled."""
        return frozenset(name for name, is_importable in self._judged.items() if is_importable)

    def dump_call(self, value: Any) -> None:
        """Pickle a value, and behind it what of `__main__` has to be found by name in the run."""
        self.dump(value)
        while names := self._names.take():
            self.dump(names)

    def reducer_override(self, obj: Any) -> Any:
        """Decide how one object is pickled; called by pickle for all but builtin values."""
        kind = type(obj)
        if kind in self._plain_kinds:
            return NotImplemented
        if isinstance(obj, FunctionType):
            return self._function(obj)
        if isinstance(obj, type):
            return self._class(obj)
        reduced = self._reduced(obj)
        if reduced is NotImplemented and _is_plain(kind):
            # What a call has a million of is asked about once.
            self._plain_kinds.add(kind)
        return reduced

    def _reduced(self, obj: Any) -> Any:
        """Reduce what is neither a function nor a class."""
        if isinstance(obj, CodeType):
            reduced = with_ordered_sets(obj, self.dispatch_table[CodeType](obj))
            return self._files.named_for_run(obj, reduced)
        if isinstance(obj, ModuleType):
            self._note(obj.__name__)
        elif isinstance(obj, BuiltinFunctionType):
            self._note(obj.__module__)
        elif is_remote_function(obj):
            return self._plain_form(obj)
        elif isinstance(obj, functools.cached_property):
            return _cached_property(obj)
        elif isinstance(obj, Data):
            return self.data.reduced(obj)
        elif is_jitted(type(obj)):
            return jitted(obj, self._protocol)
        elif type(obj).__module__ == "dataclasses":
            return sentinel_of_dataclasses(obj) or NotImplemented
        elif getattr(obj, "__module__", None) in MAIN_NAMES:
            return self._object_of_main(obj)
        return reduced_array(obj, self._protocol)

    def globals_in_run(self, function: FunctionType, used: dict[str, Any]) -> dict[str, Any]:
        """Return those of a function's global variables that travel with it, as a run has them.

        Args:
            function: A function that goes by value.
            used: Those that its code names.
        """
        if is_main(function.__globals__):
            return self._main.in_run(used)
        return {} if self._module_in_run(function) else used

    def _function(self, function: FunctionType) -> Any:
        if function in SENT_BY_VALUE:
            return self._dynamic_function_reduce(function)
        self._note(function.__module__)
        named = self._by_decorated_name(function)
        if named is not None:
            return named
        reduced = super().reducer_override(function)
        if not isinstance(reduced, tuple):
            return reduced
        if is_main(function.__globals__):
            self._names.meet(function, function.__qualname__, function.__globals__)
        elif function.__module__ in MAIN_NAMES:
            # What another module's decorator made of one.
            namespace = namespace_of(function.__module__)
            self._names.meet(function, function.__qualname__, namespace)
        if is_single_dispatch(function):
            return single_dispatch(function)
        make, arguments, (attributes, slots), *rest = reduced
        slots = {**slots, "__globals__": self.globals_in_run(function, slots["__globals__"])}
        if is_main(function.__globals__):
            slots.update(self._main.defaults_in_run(function))
        return make, arguments, (attributes, slots), *rest

    def _class(self, kind: type) -> Any:
        self._note(kind.__module__)
        reduced = super().reducer_override(kind)
        if kind.__module__ not in MAIN_NAMES or not isinstance(reduced, tuple) or len(reduced) < 3:
            return reduced
        self._names.meet(kind, kind.__qualname__, namespace_of(kind.__module__))
        make, arguments, (attributes, slots), *rest = reduced
        return (
            make,
            arguments,
            (self._main.attributes_in_run(kind.__qualname__, attributes), slots),
            *rest,
        )

    def _object_of_main(self, obj: Any) -> Any:
        """Reduce an object of a script, which pickles by name perhaps, by value."""
        if type(obj) in self.dispatch_table and not isinstance(obj, TypeVar):
            return NotImplemented
        taken_apart = take_apart(obj, self._protocol)
        if taken_apart is None:
            return NotImplemented
        if taken_apart.name is not None:
            self._names.meet(obj, taken_apart.name, namespace_of(obj.__module__))
        return taken_apart.reduced

    def _plain_form(self, remote: Any) -> Any:
        """Reduce a decorated function as its plain one, which it is in a run."""
        bound = remote._bound  # noqa: SLF001 - a decorated function's own
        if bound:
            return MethodType, (remote.fn, *bound)
        module = remote.fn.__module__
        is_named = module not in MAIN_NAMES and found_by_name(remote.fn) is remote
        if is_named and self._importable(module):
            return remote.fn.__qualname__
        return as_inside_run, (remote.fn,)

    def _function_getnewargs(self, func: FunctionType) -> Any:
        """Have a function made in the run with the global variables of its module there.

        This is cloudpickle's own hook (3.1): what `globals_ref` holds becomes them.
        """
        key = id(func.__globals__)
        if key not in self.globals_ref:
            module = self._module_in_run(func)
            if module is not None:
                self.globals_ref[key] = GlobalsInRun(module)
            else:
                self.globals_ref[key] = self._own_globals(func.__globals__)
        return super()._function_getnewargs(func)

    def _module_in_run(self, function: FunctionType) -> str | None:
        """Return the module of the run whose global variables a function uses there."""
        if is_main(function.__globals__):
            return "__main__"
        name = function.__globals__.get("__name__")
        if not isinstance(name, str) or name.partition(".")[0] in OWN_PACKAGES:
            return None
        is_module = namespace_of(name) is function.__globals__
        is_by_value = name in cloudpickle.list_registry_pickle_by_value()
        return name if is_module and not is_by_value and self._importable(name) else None

    def _own_globals(self, here: dict[str, Any]) -> dict[str, Any]:
        """Return what a function of no module of the run has before its global variables come."""
        kept = ("__package__", "__name__", "__path__", "__file__")
        start = {name: here[name] for name in kept if name in here}
        place = self._files.place(str(start.get("__file__")))
        return {**start, "__file__": place} if place else start

    def _note(self, module: Any) -> None:
        if isinstance(module, str) and not self._importable(module):
            self.met_here_only.add(module)

    def _importable(self, module: str) -> bool:
        if module in MAIN_NAMES:
            return True  # it is there, and what it has goes by value
        if module not in self._judged:
            self._judged[module] = is_importable_in_run(module, self._root)
        return self._judged[module]

    def _by_decorated_name(self, function: FunctionType) -> Any:
        """Refer to a plain function whose name holds its decorated form, which runs it there."""
        module = sys.modules.get(function.__module__ or "")
        if module is None or function.__module__ in MAIN_NAMES:
            return None
        found = found_by_name(function)
        if found is function or not is_reachable_by_name(function, found):
            return None
        if not self._importable(function.__module__):
            return None
        return functools.reduce, (getattr, function.__qualname__.split("."), module)


def _is_plain(kind: type) -> bool:
    """Whether all objects of a kind are left to pickle, whichever they are."""
    asked_each = (ModuleType, BuiltinFunctionType)
    return not issubclass(kind, asked_each) and not has_reduction_of_its_own(kind)


def _cached_property(obj: functools.cached_property[Any]) -> Any:
    """Reduce it without the lock that Python 3.11 has in it."""
    return type(obj), (obj.func,), {"attrname": obj.attrname, "__doc__": obj.__doc__}


def _has_origin(module: ModuleType | None) -> bool:
    """Whether an import system found a module, so that it is not made up in this process."""
    return getattr(module, "__spec__", None) is not None


def _import_folders(root: PackageRoot) -> set[Any]:
    return {(root.path / entry).resolve() for entry in root.sys_path}
