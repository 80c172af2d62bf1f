"""What a function imports from outside its project, through the project's modules that it reaches.

What was found in a file is remembered by the file's content, so that unchanged files are not
parsed again.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kinetic_flows.code.imports import (
    Imported,
    all_imports,
    function_imports,
    module_imports,
    parse,
)
from kinetic_flows.code.manifest import Entry

MAIN = "__main__"


class OutsideImport(NamedTuple):
    """A module that is none of the project's, and who imports it.

    Attributes:
        module: Its dotted name.
        file: The file that imports it, relative to the package root; empty where what the call
            brings along needs it.
    """

    module: str
    file: str


@dataclass(frozen=True, kw_only=True)
class EntryPoint:
    """Where to begin.

    Attributes:
        file: The file that defines the function, relative to the package root; empty for none.
        module: The module that it is imported as; `__main__` where it travels by value.
        main_name: What a script is called that was started with `python -m`; empty for none.
        qualname: The function's qualified name.
        brought: Modules that a run imports to restore what the call brings along.
    """

    file: str
    module: str
    main_name: str
    qualname: str
    brought: frozenset[str] = frozenset()


class _Place(NamedTuple):
    """A module of the project: its file, and the package that its relative imports start at."""

    file: str
    package: str


class ProjectModules:
    """The modules of what ships.

    Args:
        entries: What ships.
        sys_path: Where a run looks for modules, relative to the root.
    """

    def __init__(self, entries: Iterable[Entry], sys_path: Iterable[str]) -> None:
        self._files: set[str] = set()
        self._names: set[str] = set()
        for entry in entries:
            if entry.link is not None:
                self._names.add(entry.path.rpartition("/")[2].removesuffix(".py"))
            elif entry.path.endswith((".py", ".so", ".pyd")):
                self._files.add(entry.path)
                self._names.update(_importable_names(entry.path))
        self._folders = ["" if item == "." else f"{item}/" for item in sys_path]

    def has(self, module: str) -> bool:
        """Whether a module's first name is, or may be, one of the project's.

        A run may look for modules in more folders than this process does now.
        """
        return module.partition(".")[0] in self._names

    def executed(self, module: str) -> list[_Place]:
        """Return the files that an import of a module executes, in order."""
        parts = module.split(".")
        for folder in self._folders:
            found = []
            for depth in range(1, len(parts) + 1):
                name, path = ".".join(parts[:depth]), folder + "/".join(parts[:depth])
                if f"{path}/__init__.py" in self._files:
                    found.append(_Place(f"{path}/__init__.py", name))
                elif f"{path}.py" in self._files:
                    found.append(_Place(f"{path}.py", name.rpartition(".")[0]))
            if found:
                return found
        return []


class Reach:
    """Follows imports.

    Args:
        root: The package root.
        modules: The project's modules.
        parsed: What is known of files, by the digest of their content; added to.
    """

    def __init__(
        self, root: Path, modules: ProjectModules, parsed: MutableMapping[str, Any]
    ) -> None:
        self._root = root
        self._modules = modules
        self._parsed = parsed
        self._outside: dict[str, OutsideImport] = {}
        self._waiting: list[_Place] = []
        self._seen: set[str] = set()

    def outside(self, entry: EntryPoint) -> tuple[OutsideImport, ...]:
        """Return what is imported from outside, each module's first name once."""
        tree = (entry.file and parse(self._read(entry.file))) or ast.Module([], [])
        if entry.module == MAIN:
            # A run does not execute the script itself.
            place = _Place(entry.file, entry.main_name.rpartition(".")[0])
        else:
            places = self._modules.executed(entry.module)
            self._enqueue(places)
            place = places[-1] if places else _Place(entry.file, "")
        self._follow(place, function_imports(tree, entry.qualname))
        named = all_imports(tree) if entry.module == MAIN else frozenset()
        for module in sorted(entry.brought - {MAIN}):
            is_named = module.partition(".")[0] in named
            self._follow(_Place(entry.file if is_named else "", ""), [Imported(module)])
        while self._waiting:
            place = self._waiting.pop(0)
            self._follow(place, self._imports(place.file))
        return tuple(self._outside.values())

    def _follow(self, place: _Place, imports: Iterable[Imported]) -> None:
        for item in imports:
            module = _absolute(item, place.package)
            if module is None:
                continue
            if item.level or self._modules.has(module):
                named = [f"{module}.{name}" if module else name for name in item.names]
                for each in (module, *named):
                    self._enqueue(self._modules.executed(each))
            else:
                top = module.partition(".")[0]
                self._outside.setdefault(top, OutsideImport(module, place.file))

    def _enqueue(self, places: Iterable[_Place]) -> None:
        for place in places:
            if place.file not in self._seen:
                self._seen.add(place.file)
                self._waiting.append(place)

    def _imports(self, file: str) -> list[Imported]:
        data = self._read(file)
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._parsed:
            tree = parse(data)
            self._parsed[digest] = module_imports(tree) if tree else []
        return [
            Imported(module, level, tuple(names)) for module, level, names in self._parsed[digest]
        ]

    def _read(self, file: str) -> bytes:
        try:
            return (self._root / file).read_bytes()
        except OSError:
            return b""


def is_sound(parsed: Mapping[str, Any]) -> bool:
    """Whether what was read of a cache has the form of what is known of files."""
    return all(
        isinstance(items, list)
        and all(
            isinstance(item, list)
            and len(item) == 3
            and isinstance(item[0], str)
            and isinstance(item[1], int)
            and isinstance(item[2], list)
            for item in items
        )
        for items in parsed.values()
    )


def _importable_names(path: str) -> Iterable[str]:
    """Yield the first names under which a file makes something importable from some folder."""
    *parents, name = path.split("/")
    yield name.partition(".")[0]
    # Any directory above a module may be a package, if only one without an `__init__.py`.
    yield from parents


def _absolute(item: Imported, package: str) -> str | None:
    """Return the absolute name of an imported module; None when it is beyond the top."""
    if not item.level:
        return item.module
    parts = package.split(".") if package else []
    if item.level - 1 > len(parts) or not parts:
        return None
    base = ".".join(parts[: len(parts) - item.level + 1])
    if not base:
        return None
    return f"{base}.{item.module}" if item.module else base
