"""The package root: which directory ships, so that the function's modules import in the run.

It is the directory that keeps the function's module importable under its own name, or the
nearest one above it with a project marker.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetic_flows.errors import PackageRootError
from kinetic_flows.packaging.modules import (
    import_base,
    is_installed,
    loaded_bases,
    module_file,
    out_of_packages,
)

PROJECT_MARKERS = ("pyproject.toml", "requirements.txt", "setup.py", "setup.cfg", ".git")
OVERRIDE = "KINETIC_PACKAGE_ROOT"


@dataclass(frozen=True, kw_only=True)
class PackageRoot:
    """The directory that ships, and how a run finds modules and files in it.

    Attributes:
        path: The directory, absolute and without links.
        entry_file: The file that defines the function, or that started this process; None in
            a notebook, an interactive session and `python -c`.
        main_file: The script that is `__main__` here; None when there is none.
        module_name: The module that defines the function.
        sys_path: This process's `sys.path` entries under the root, relative to it, in order,
            and where loaded modules of the project come from.
        working_directory: This process's, relative to the root; `.` when it is not under it.
        explanation: Why it is this directory.
    """

    path: Path
    entry_file: Path | None
    main_file: Path | None
    module_name: str
    sys_path: tuple[str, ...]
    working_directory: str
    explanation: str


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """Where a function comes from: a module, its file, and where that is importable."""

    module_name: str
    file: Path | None
    base: Path
    what: str


def find_package_root(
    function: Callable[..., Any], *, override: Path | None, cwd: Path, sys_path: Sequence[str]
) -> PackageRoot:
    """Find the directory to ship for a function.

    Args:
        function: The function; partials, methods and callable instances count as what they call.
        override: `KINETIC_PACKAGE_ROOT`, relative to `cwd` if relative; None to search.
        cwd: The working directory.
        sys_path: This process's `sys.path`.

    Raises:
        PackageRootError: The override cannot be the root, or no directory but the home
            directory or `/` would keep the function's module importable.
    """
    here = cwd.resolve()
    entry = _entry_of(function, here)
    if override is not None:
        path, why = _checked_override(override, here, entry), f"{OVERRIDE} is set"
    else:
        path, why = _search(entry)
    return PackageRoot(
        path=path,
        entry_file=entry.file,
        main_file=_project_file("__main__"),
        module_name=defining_module(function),
        sys_path=_workspace_sys_path(path, entry.base, here, sys_path),
        working_directory=_relative(here, path) or ".",
        explanation=why,
    )


def defining_module(function: Callable[..., Any]) -> str:
    """Return the name of the module that defines what is called in the end."""
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    target = getattr(target, "__func__", target)
    name = getattr(target, "__module__", None) or type(target).__module__
    return str(name)


def _entry_of(function: Callable[..., Any], cwd: Path) -> _Entry:
    """Find where a function comes from; what is installed counts as started from `__main__`."""
    for name in dict.fromkeys((defining_module(function), "__main__")):
        file = _project_file(name)
        if file:
            base, what = _base_of(name, file), f"{file.name} is in it"
            return _Entry(module_name=name, file=file, base=base, what=what)
    what = "it is the working directory"
    return _Entry(module_name="__main__", file=None, base=cwd, what=what)


def _project_file(name: str) -> Path | None:
    """Return a loaded module's file, its directory without links, unless it is installed."""
    file = module_file(sys.modules.get(name))
    if file is None or is_installed(file):
        return None
    return file.parent.resolve() / file.name


def _base_of(name: str, file: Path) -> Path:
    """Return the directory under which a module is importable by its own name."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    real_name = getattr(spec, "name", None) or name
    base = None if real_name == "__main__" else import_base(real_name, file)
    return base or out_of_packages(file.parent)


def _search(entry: _Entry) -> tuple[Path, str]:
    for folder in _upwards(entry.base):
        for marker in PROJECT_MARKERS:
            if (folder / marker).exists():
                return folder, f"it is the nearest directory with a {marker}"
    if entry.base in _too_wide() and entry.file and entry.file.parent != entry.base:
        if entry.module_name == "__main__":
            return entry.file.parent, f"{entry.file.name} is in it"
        raise PackageRootError(
            f"{entry.module_name} is imported from {entry.base}, which is too wide to ship",
            value=str(entry.base),
            hint=f"move the package into a directory of its own, or set {OVERRIDE}",
        )
    return entry.base, entry.what


def _upwards(base: Path) -> Iterator[Path]:
    """Yield the directories that may be a project's, from the base upwards."""
    for folder in (base, *base.parents):
        if folder in _too_wide():
            return
        yield folder


def _too_wide() -> tuple[Path, ...]:
    home = Path.home()
    return home, home.resolve(), Path(home.anchor)


def _checked_override(override: Path, cwd: Path, entry: _Entry) -> Path:
    path = Path(os.path.normpath(cwd / override)).resolve()
    problem = None
    if not path.is_dir():
        problem = "is not a directory"
    elif path == Path(path.anchor):
        problem = "is the whole file system"
    elif entry.file and not entry.file.is_relative_to(path):
        problem = f"does not hold {entry.file}, which defines the function"
    elif entry.module_name != "__main__" and not entry.base.is_relative_to(path):
        problem = f"does not hold {entry.base}, from where {entry.module_name} is imported"
    if problem:
        raise PackageRootError(
            f"{OVERRIDE}={override} {problem}",
            value=str(override),
            hint="set it to a directory that holds the function's module, or unset it",
        )
    return path


def _workspace_sys_path(
    root: Path, base: Path, cwd: Path, sys_path: Sequence[str]
) -> tuple[str, ...]:
    """Return where a run looks for modules, relative to the root."""
    # An entry of '' means the working directory, in an interactive session and with -c.
    given = [(cwd / entry).resolve() for entry in sys_path]
    found: dict[str, None] = {}
    for folder in (*given, base, *loaded_bases()):
        relative = None if _is_python(folder) else _relative(folder, root)
        if relative is not None and folder.exists():
            found[relative] = None
    return tuple(found)


def _is_python(folder: Path) -> bool:
    """Whether a directory belongs to a Python installation or a virtual environment."""
    return is_installed(folder) or folder.is_relative_to(Path(sys.prefix).resolve())


def _relative(path: Path, root: Path) -> str | None:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else None
