"""Which files ship where the root is no project: the entry file, and the modules it imports.

They are found twice: by what this process has loaded, and by reading the source, since an
import inside a function has not happened yet.
"""

from __future__ import annotations

import ast
import dis
import importlib.machinery
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from kinetic_flows.code.modules import (
    OWN_PACKAGES,
    import_base,
    is_installed,
    is_remote_function,
    loaded_modules,
    module_file,
)
from kinetic_flows.code.root import PackageRoot

_SUFFIXES = tuple(importlib.machinery.all_suffixes())
_IMPORTERS = frozenset({"import_module", "__import__"})


def imported_files(root: PackageRoot) -> tuple[str, ...]:
    """Return the files under a root that its entry file and this process import.

    Args:
        root: The package root; modules are looked for where it says that a run finds them.

    Returns:
        Paths relative to the root, sorted.
    """
    search = _Search(root)
    for file in (root.entry_file, root.main_file):
        if file:
            search.add(file)
    for file in _loaded_files(root):
        search.add(file)
    if root.main_file is None:
        for name in _named_in_main():
            search.import_name(name)
    search.follow()
    return tuple(sorted(search.found))


class _Search:
    """The files found so far, and those that were not read yet."""

    def __init__(self, root: PackageRoot) -> None:
        self.root = root.path
        self.folders = [root.path / entry for entry in root.sys_path]
        self.found: dict[str, Path] = {}
        self._unread: list[Path] = []

    def add(self, file: Path) -> None:
        if not file.is_relative_to(self.root):
            return
        name = file.relative_to(self.root).as_posix()
        if name in self.found:
            return
        self.found[name] = file
        self._unread.append(file)
        for package in file.parents:
            if package in self.folders or package == self.root:
                break
            for initial in _module_files(package, "__init__"):
                self.add(initial)

    def follow(self) -> None:
        while self._unread:
            file = self._unread.pop()
            if file.suffix != ".py":
                continue
            for name, level in _imports_of(file):
                if level:
                    self._import_from(file.parents[min(level, len(file.parents)) - 1], name)
                else:
                    self.import_name(name)

    def import_name(self, name: str) -> None:
        for folder in self.folders:
            self._import_from(folder, name)

    def _import_from(self, folder: Path, name: str) -> None:
        """Add the files of a module and of the packages it is in, as far as they are there."""
        for part in filter(None, name.split(".")):
            package = folder / part
            if not is_installed(package):
                for file in (*_module_files(package, "__init__"), *_module_files(folder, part)):
                    self.add(file)
            folder = package


def _module_files(folder: Path, name: str) -> Iterator[Path]:
    for suffix in _SUFFIXES:
        file = folder / f"{name}{suffix}"
        if file.is_file():
            yield file


def _loaded_files(root: PackageRoot) -> Iterator[Path]:
    """Yield the files of loaded modules that a run can import."""
    folders = {(root.path / entry).resolve() for entry in root.sys_path}
    for name, module in loaded_modules().items():
        if name == "__main__" or name.partition(".")[0] in OWN_PACKAGES:
            continue
        file = module_file(module) if isinstance(module, ModuleType) else None
        if file is None or is_installed(file):
            continue
        base = import_base(name, file)
        if base and base.resolve() in folders:
            yield base.resolve() / file.relative_to(base)


def _imports_of(file: Path) -> Iterator[tuple[str, int]]:
    """Yield what a source file imports: names, and how many packages up they begin."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the person's own source
            tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield from ((f"{module}.{alias.name}", node.level) for alias in node.names)
        elif isinstance(node, ast.Call):
            yield from _called_import(node)


def _called_import(call: ast.Call) -> Iterator[tuple[str, int]]:
    """Yield the name that `importlib.import_module("name")` is given literally."""
    called = getattr(call.func, "attr", getattr(call.func, "id", None))
    first = call.args[0] if call.args else None
    if called in _IMPORTERS and isinstance(first, ast.Constant) and isinstance(first.value, str):
        name = first.value.lstrip(".")
        yield name, len(first.value) - len(name)


def _named_in_main() -> Iterator[str]:
    """Yield what the functions of a session without a file import."""
    main = vars(sys.modules["__main__"])
    for value in list(main.values()):
        for function in _functions_of(value):
            yield from _names_in(function.__code__)


def _functions_of(value: Any) -> Iterator[FunctionType]:
    plain = value.fn if is_remote_function(value) else value
    if isinstance(plain, FunctionType) and plain.__module__ == "__main__":
        yield plain
    elif isinstance(plain, type) and plain.__module__ == "__main__":
        for member in vars(plain).values():
            function = getattr(member, "__func__", member)
            if isinstance(function, FunctionType):
                yield function


def _names_in(code: CodeType) -> Iterable[str]:
    module = ""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            module = str(instruction.argval)
            yield module
        elif instruction.opname == "IMPORT_FROM":
            yield f"{module}.{instruction.argval}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
