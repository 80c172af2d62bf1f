"""The package root: which directory ships, so that the function's modules import in the run.

It is the directory that keeps the function's module importable under its own name, or the
nearest one above it with a project marker. Where that is plainly no project, such as a home
directory, only the files that the function's module imports ship from it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetic_flows.code.ignore import IGNORE_FILE
from kinetic_flows.code.modules import (
    import_base,
    is_environment,
    is_installed,
    is_standard_library,
    loaded_bases,
    module_file,
    out_of_packages,
)
from kinetic_flows.code.wide_places import (
    ends_projects,
    is_claimed,
    is_dot_entry_of_home,
    why_no_project,
)
from kinetic_flows.core.errors import PackageRootError

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
        late: Those of `sys_path` that come after the standard library here.
        no_project: What the directory is instead of a project, so that only the entry file and
            what is imported ships; None when all of it ships.
    """

    path: Path
    entry_file: Path | None
    main_file: Path | None
    module_name: str
    sys_path: tuple[str, ...]
    working_directory: str
    explanation: str
    late: tuple[str, ...] = ()
    no_project: str | None = None

    def notices(self) -> tuple[str, ...]:
        """Say what ships where it is less than the whole directory."""
        if self.no_project is None:
            return ()
        what = (
            f"{self.entry_file.name} and what it imports" if self.entry_file else "what you import"
        )
        notice = (
            f"of {self.path} only {what} ships, as it is {self.no_project}; to ship more, work "
            f"in a directory of its own, put a {IGNORE_FILE} there, or set {OVERRIDE}"
        )
        return (notice,)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A package root, why it is this one, and what it is instead of a project."""

    path: Path
    why: str
    no_project: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """The module of a function, its file, and the directory that it is importable from."""

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
        PackageRootError: The override cannot be the root.
    """
    here = cwd.resolve()
    entry = _entry_of(function, here)
    if override is None:
        found = _search(entry)
    else:
        checked = _checked_override(override, here, entry)
        found = _Found(path=checked, why=f"{OVERRIDE} is set")
    early, late = _workspace_sys_path(found.path, entry.base, here, sys_path)
    return PackageRoot(
        path=found.path,
        entry_file=entry.file,
        main_file=_project_file("__main__"),
        module_name=defining_module(function),
        sys_path=(*early, *late),
        working_directory=_relative(here, found.path) or ".",
        explanation=found.why,
        late=late,
        no_project=found.no_project,
    )


def working_directory() -> Path:
    """Return the working directory.

    Raises:
        PackageRootError: It was removed.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise PackageRootError(
            "the working directory was removed",
            hint="change to one that exists (cd, or os.chdir in the program) and call again",
        ) from error


def source_directory(function: Callable[..., Any], cwd: Path) -> Path:
    """Return the directory of the file that a function comes from, without links.

    As for its package root: of one that is installed it is that of the file that started this
    process; where there is no file it is the working directory.
    """
    for name in (defining_module(function), "__main__"):
        file = _project_file(name)
        if file is not None:
            return file.parent
    return cwd.resolve()


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


def _search(entry: _Entry) -> _Found:
    for folder in _upwards(entry.base):
        for marker in PROJECT_MARKERS:
            if (folder / marker).exists():
                why = f"it is the nearest directory with a {marker}"
                return _Found(path=folder, why=why)
    no_project = why_no_project(entry.base)
    if no_project is None:
        return _Found(path=entry.base, why=entry.what)
    if is_claimed(entry.base):
        return _Found(path=entry.base, why=f"it has a {IGNORE_FILE}")
    if entry.module_name == "__main__" and entry.file and not why_no_project(entry.file.parent):
        return _Found(path=entry.file.parent, why=f"{entry.file.name} is in it")
    why = f"only what is imported from it ships, as it is {no_project}"
    return _Found(path=entry.base, why=why, no_project=no_project)


def _upwards(base: Path) -> Iterator[Path]:
    """Yield the directories that may be a project's, from the base upwards."""
    for folder in (base, *base.parents):
        if ends_projects(folder):
            return
        yield folder
        if is_environment(str(folder)):
            return  # what lies around a virtual environment does not ship with it


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
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return where a run looks for modules, relative to the root.

    Returns:
        What comes before the standard library, and what comes after it.
    """
    before: dict[str, None] = {}
    after: dict[str, None] = {}
    # What an import hook found is asked for last here, too.
    found = before
    for folder in _folders(sys_path, cwd):
        if is_standard_library(folder):
            found = after
        elif relative := _importable(folder, root):
            found[relative] = None
    for folder in (base, *loaded_bases()):
        if relative := _importable(folder, root):
            after[relative] = None
    return tuple(before), tuple(name for name in after if name not in before)


def _folders(sys_path: Sequence[object], cwd: Path) -> Iterator[Path]:
    """Yield the directories of a `sys.path`, skipping what Python's import system skips."""
    for entry in sys_path:
        if isinstance(entry, str):
            # An entry of '' means the working directory, in an interactive session and with -c.
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                yield (cwd / entry).resolve()


def _importable(folder: Path, root: Path) -> str | None:
    """Return a directory relative to the root, if modules in it are importable in a run."""
    relative = _relative(folder, root)
    if relative is None or is_installed(folder):
        return None
    inside = (folder, *folder.parents)[: len(folder.parts) - len(root.parts)]
    if any(is_environment(str(place)) or is_dot_entry_of_home(place) for place in inside):
        return None  # does not ship
    try:
        return relative if folder.exists() else None
    except OSError:
        return None


def _relative(path: Path, root: Path) -> str | None:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else None
