"""What a script or a notebook has at module level, as a run finds it in its `__main__`.

What travels by value lands in the run's `__main__`, so that code that looks for it there by name
finds it, as it does here: pickle, multiprocessing, `typing.get_type_hints`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from types import FunctionType, ModuleType
from typing import Any

from kinetic_flows.code.code_files import CodeFiles
from kinetic_flows.code.modules import OWN_PACKAGES, is_remote_function, loaded_modules, module_file
from kinetic_flows.code.named_objects import MADE_ANEW
from kinetic_flows.code.root import PackageRoot
from kinetic_flows.code.script_paths import file_derived_names
from kinetic_flows.code.stand_ins import AttributeInRun, MadeInRun, PathInRun

MAIN_NAMES = frozenset({"__main__", "__mp_main__"})
"""What the module that started a process is called; the second in multiprocessing's children."""

_OF_THE_RUN = frozenset(
    {"__name__", "__package__", "__spec__", "__loader__", "__cached__", "__builtins__", "__path__"}
)
"""Attributes of a module that the run's own `__main__` has already."""

_TYPING_MODULES = frozenset({"typing", "types", "typing_extensions"})


class MainNames:
    """The names of module level that a call needs in the run's `__main__`."""

    def __init__(self) -> None:
        self._met: dict[str, Any] = {}
        self._taken: set[str] = set()

    def meet(self, obj: Any, qualname: str | None, namespace: Mapping[str, Any]) -> None:
        """Note an object that travels by value, and what its annotations name.

        Args:
            obj: A function, a class, or what else pickles by name.
            qualname: Its qualified name.
            namespace: The global variables of where it is defined.
        """
        name = (qualname or "").partition(".")[0]
        if _found(qualname or "", namespace) is obj:
            self._met[name] = namespace[name]
        for named in _annotation_names(obj):
            value = namespace.get(named)
            is_module_or_type = isinstance(value, type | ModuleType)
            if is_module_or_type or type(value).__module__ in _TYPING_MODULES:
                self._met[named] = value

    def take(self) -> dict[str, Any]:
        """Return what was noted since the last time."""
        new = {name: value for name, value in self._met.items() if name not in self._taken}
        self._taken |= new.keys()
        return new


class MainGlobals:
    """The global variables of a script or a notebook as its functions find them in a run.

    Args:
        root: The package root.
        files: Where files lie in the run.
        is_importable: Whether a run can import a module of a name.
    """

    def __init__(
        self, root: PackageRoot, files: CodeFiles, is_importable: Callable[[str], bool]
    ) -> None:
        self._root = root
        self._files = files
        self._is_importable = is_importable
        self._stand_ins: dict[int, Any] = {}
        self._derived: frozenset[str] | None = None

    def in_run(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return variables with what a run makes or finds itself in place of what is here."""
        own = _OF_THE_RUN | ({"__file__"} if self._is_script_shipped() else set())
        return {
            name: self._variable(name, value) for name, value in values.items() if name not in own
        }

    def attributes_in_run(self, qualname: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return a class's attributes in the same way."""
        return {
            name: self._variable(f"{qualname}.{name}", value) for name, value in attributes.items()
        }

    def defaults_in_run(self, function: FunctionType) -> dict[str, Any]:
        """Return the defaults of a function's parameters in the same way."""
        qualname, given = function.__qualname__, function.__defaults__
        keywords, code = function.__kwdefaults__, function.__code__
        names = code.co_varnames[code.co_argcount - len(given or ()) : code.co_argcount]
        return {
            "__defaults__": given
            and tuple(
                self._variable(f"{qualname}({name})", value)
                for name, value in zip(names, given, strict=True)
            ),
            "__kwdefaults__": keywords
            and {
                name: self._variable(f"{qualname}({name})", value)
                for name, value in keywords.items()
            },
        }

    def _variable(self, name: str, value: Any) -> Any:
        """Return one variable, or what stands for it."""
        if isinstance(value, str | PurePath):
            return self._path(name, value)
        return self._made_anew(value)

    def _made_anew(self, value: Any) -> Any:
        make = MADE_ANEW.get(type(value))
        if make is None:
            return value
        if id(value) not in self._stand_ins:
            self._stand_ins[id(value)] = self._imported(value) or MadeInRun(make(value))
        return self._stand_ins[id(value)]

    def _path(self, name: str, value: str | PurePath) -> Any:
        relative = self._files.relative(str(value))
        if relative is None:
            return value
        kind = type(value) if isinstance(value, PurePath) else None
        place = PathInRun(relative, kind) if name in self._file_derived() else None
        return place or self._imported(value) or value

    def _imported(self, value: Any) -> AttributeInRun | None:
        """Return the module of the project that a value was imported from, as a run has it."""
        for name, module in loaded_modules().items():
            if name in MAIN_NAMES or name.partition(".")[0] in OWN_PACKAGES:
                continue
            file = module_file(module) if isinstance(module, ModuleType) else None
            if (
                file is None
                or self._files.place(str(file)) is None
                or not self._is_importable(name)
            ):
                continue
            for attribute, found in vars(module).copy().items():
                if found is value:
                    return AttributeInRun(name, attribute)
        return None

    def _file_derived(self) -> frozenset[str]:
        if self._derived is None:
            main_file = self._root.main_file
            is_there = main_file is not None and self._is_script_shipped()
            self._derived = file_derived_names(main_file) if main_file and is_there else frozenset()
        return self._derived

    def _is_script_shipped(self) -> bool:
        main_file = self._root.main_file
        return main_file is not None and self._files.place(str(main_file)) is not None


def main_name() -> str | None:
    """Return the module that this process was started with; None for a script and all else."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return getattr(spec, "name", None)


def namespace_of(module_name: Any) -> Mapping[str, Any]:
    """Return the global variables of a module that is loaded here; empty for any other."""
    module = sys.modules.get(module_name) if isinstance(module_name, str) else None
    return vars(module) if module is not None else {}


def _found(qualname: str, namespace: Mapping[str, Any]) -> Any:
    first, *rest = qualname.split(".")
    found: Any = namespace.get(first)
    for part in rest:
        found = getattr(found, part, None)
    # What is decorated is found as its remote form.
    return found.fn if is_remote_function(found) else found


def _annotation_names(obj: Any) -> Iterator[str]:
    """Yield the names in annotations that are text and are looked up later."""
    own = vars(obj) if isinstance(obj, type) else {"__annotations__": _annotations_of(obj)}
    for annotation in (own.get("__annotations__") or {}).values():
        for text in _texts(annotation):
            yield from _names_in(text)


def _annotations_of(obj: Any) -> Any:
    return obj.__annotations__ if isinstance(obj, FunctionType) else None


def _texts(annotation: Any) -> Iterator[str]:
    if isinstance(annotation, str):
        yield annotation
        return
    reference = getattr(annotation, "__forward_arg__", None)
    if isinstance(reference, str):
        yield reference
    for part in getattr(annotation, "__args__", None) or ():
        yield from _texts(part)


def _names_in(text: str) -> Iterator[str]:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _names_in(node.value)
