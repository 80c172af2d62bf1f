"""Modules that a function is certain to import and that its environment is certain to lack.

Told before anything is launched, and only where both are certain. Answers are remembered by what
they follow from: the code, the packages, and what is installed here.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, NamedTuple

from kinetic_flows.code.manifest import decode_manifest
from kinetic_flows.code.modules import OWN_PACKAGES
from kinetic_flows.code.reach import EntryPoint, ProjectModules, Reach, is_sound
from kinetic_flows.code.root import PackageRoot
from kinetic_flows.code.snapshot import CodeSnapshot
from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.job import canonical_json, sha256_hex
from kinetic_flows.dependencies.discovery import DependencySource
from kinetic_flows.dependencies.providers import Environment, Installed, Listing

CACHE_VERSION = 1
KEPT_ANSWERS = 32


class MissingImport(NamedTuple):
    """An import that a run cannot do.

    Attributes:
        file: The file that imports, relative to the package root; empty where what the call
            brings along needs the module.
        module: The first name of the module.
        package: The package that has it; None when it is not known.
    """

    file: str
    module: str
    package: str | None


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """A function and the project that ships with it.

    Attributes:
        function: The plain function.
        root: What of this machine's files is the project.
        snapshot: The project's files.
        modules: Modules that a run imports to restore the call.
    """

    function: Callable[..., Any]
    root: PackageRoot
    snapshot: CodeSnapshot
    modules: frozenset[str] = frozenset()


def missing_imports(
    shipped: Shipped, packages: Iterable[str], *, home: Path
) -> tuple[MissingImport, ...]:
    """Return the imports that a run cannot do.

    Args:
        shipped: What is to run.
        packages: The names of everything that a run finds installed.
        home: `KINETIC_HOME`, where answers are remembered.
    """
    entry = entry_point(shipped)
    names = sorted(packages)
    cache = _Cache(home, shipped.snapshot.root)
    key = _key(entry, shipped, names)
    answer = cache.answer(key)
    if answer is None:
        answer = _find(entry, shipped, names, cache)
        cache.remember(key, answer)
    return answer


def entry_point(shipped: Shipped) -> EntryPoint:
    """Return where a function begins."""
    folder, file = shipped.snapshot.root, shipped.root.entry_file
    is_there = file is not None and file.is_relative_to(folder)
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return EntryPoint(
        file=file.relative_to(folder).as_posix() if file and is_there else "",
        module=shipped.root.module_name,
        main_name=getattr(spec, "name", ""),
        qualname=_qualname(shipped.function),
        brought=shipped.modules,
    )


def describe(item: MissingImport, source: DependencySource) -> str:
    """Say in a sentence what is missing and what to write where.

    Args:
        item: The import.
        source: What declares the dependencies.
    """
    name = item.package or f"the package that has {item.module}"
    if source.path:
        where, how = source.path.name, f"add {name} to it"
    elif source.kind == "list":
        where, how = source.label, f"add {name} to the list"
    else:
        where = "there is no dependency file"
        how = f"write {name} into a requirements.txt beside the code"
    who = f"{item.file} imports {item.module}" if item.file else f"the call needs {item.module}"
    return f"{who}, which is not among the dependencies ({where}): {how}"


def _find(
    entry: EntryPoint, shipped: Shipped, packages: Iterable[str], cache: _Cache
) -> tuple[MissingImport, ...]:
    modules = ProjectModules(decode_manifest(shipped.snapshot.manifest), shipped.root.sys_path)
    parsed = cache.parsed()
    reach = Reach(shipped.snapshot.root, modules, parsed)
    outside = reach.outside(entry)
    cache.remember_parsed(parsed)
    environment = Environment(packages, Installed(cache.installed))
    found = []
    for module, file in outside:
        top = module.partition(".")[0]
        missing = None if top in OWN_PACKAGES else environment.missing(top)
        if missing:
            found.append(MissingImport(file, missing.module, missing.package))
    return tuple(found)


def _key(entry: EntryPoint, shipped: Shipped, packages: list[str]) -> str:
    known = {
        "entry": [entry.file, entry.module, entry.main_name, entry.qualname],
        "brought": sorted(entry.brought),
        "code": shipped.snapshot.manifest_ref.sha256,
        "sys_path": shipped.root.sys_path,
        "packages": packages,
        "installed": _installed_stamp(),
        "python": sys.version,
    }
    return sha256_hex(canonical_json(known))


def _installed_stamp() -> list[tuple[str, int]]:
    """Return what changes when packages are installed here, or removed."""
    stamp = []
    for folder in sys.path:
        if folder.endswith(("site-packages", "dist-packages")):
            try:
                stamp.append((folder, os.stat(folder).st_mtime_ns))  # noqa: PTH116
            except OSError:
                continue
    return stamp


def _qualname(function: Callable[..., Any]) -> str:
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    target = getattr(target, "__func__", target)
    name = getattr(target, "__qualname__", None)
    return str(name or f"{type(target).__qualname__}.__call__")


class _Cache:
    """Findings about one package root from earlier calls; the files can be deleted at any time.

    Args:
        home: `KINETIC_HOME`.
        root: The package root.
    """

    def __init__(self, home: Path, root: Path) -> None:
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
        self._answers = home / "cache" / "imports" / f"{name}.json"
        self._parsed = home / "cache" / "imports" / f"{name}-parsed.json"
        self._installed = home / "cache" / "imports" / "installed.json"

    def answer(self, key: str) -> tuple[MissingImport, ...] | None:
        """Return what was found before; None when it was not looked for yet."""
        try:
            return tuple(MissingImport(*item) for item in _read(self._answers)[key])
        except (KeyError, TypeError):
            return None

    def remember(self, key: str, answer: tuple[MissingImport, ...]) -> None:
        """Keep what was found, and the latest of what was found before."""
        kept = list(_read(self._answers).items())[1 - KEPT_ANSWERS :]
        _write(self._answers, {**dict(kept), key: answer})

    def installed(self) -> Listing:
        """Return what is installed here, which takes long to find out."""
        stamp = sha256_hex(canonical_json([sys.version, _installed_stamp()]))
        known = _read(self._installed).get(stamp)
        if not isinstance(known, dict):
            known = dict(packages_distributions())
            _write(self._installed, {stamp: known})
        return known

    def parsed(self) -> dict[str, Any]:
        """Return what is known of files, by the digests of their content."""
        found = _read(self._parsed)
        return found if is_sound(found) else {}

    def remember_parsed(self, parsed: Mapping[str, Any]) -> None:
        """Keep what is known of files."""
        _write(self._parsed, parsed)


def _read(path: Path) -> dict[str, Any]:
    """Read a cache's file; anything unexpected in it makes it empty."""
    try:
        stored = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    is_ours = isinstance(stored, dict) and stored.get("version") == CACHE_VERSION
    items = stored.get("items") if is_ours else None
    return items if isinstance(items, dict) else {}


def _write(path: Path, items: Mapping[str, Any]) -> None:
    """Replace a cache's file; a failure to is no failure."""
    try:
        write_atomically(path, json.dumps({"version": CACHE_VERSION, "items": items}).encode())
    except OSError:
        return
