"""Where a module comes from, which decides how what it defines travels."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from functools import cache
from pathlib import Path
from types import ModuleType

OWN_PACKAGES = frozenset({"kinetic", "kinetic_flows"})
"""Never the project's, even where they are installed from a checkout beside it."""

_INSTALLED_FOLDERS = frozenset({"site-packages", "dist-packages"})
_REMOTE_FUNCTION = ("kinetic", "RemoteFunction")


def module_file(module: ModuleType | None) -> Path | None:
    """Return the file a module was loaded from; None when there is none on this disk."""
    name = getattr(module, "__file__", None)
    if not isinstance(name, str):
        return None
    path = Path(name).absolute()
    return path if path.is_file() else None


def is_installed(path: Path) -> bool:
    """Whether a path belongs to the Python installation or its site-packages."""
    return not _INSTALLED_FOLDERS.isdisjoint(path.parts) or any(
        path.is_relative_to(folder) for folder in _installation_folders()
    )


def is_remote_function(value: object) -> bool:
    """Whether a value is a decorated function; asking imports nothing."""
    kind = type(value)
    return (kind.__module__, kind.__name__) == _REMOTE_FUNCTION


def is_environment(folder: str) -> bool:
    """Whether a directory is a virtual environment, or one of conda."""
    return os.path.lexists(f"{folder}/pyvenv.cfg") or os.path.lexists(f"{folder}/conda-meta")


def is_standard_library(folder: Path) -> bool:
    """Whether a directory is the standard library's, or where it would lie in one archive."""
    stdlib = sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")
    parts = sys.version_info
    archive = f"python{parts.major}{parts.minor}.zip"
    return any(folder in (Path(name), Path(name).resolve()) for name in stdlib) or (
        folder.name == archive
    )


def import_base(name: str, file: Path) -> Path | None:
    """Return the directory under which a file is importable by a module's name.

    Args:
        name: The module's full name.
        file: The file it was loaded from.

    Returns:
        The directory, or None when the name does not follow from the file's path.
    """
    parts = name.split(".")
    # An extension module's file has tags between its name and its suffix.
    stem = file.name.partition(".")[0]
    found = file.parent.parts if stem == "__init__" else (*file.parent.parts, stem)
    depth = len(parts)
    if len(found) <= depth or list(found[-depth:]) != parts:
        return None
    return Path(*found[:-depth])


def out_of_packages(folder: Path) -> Path:
    """Return the nearest directory, from one upwards, that is not a regular package."""
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder = folder.parent
    return folder


def loaded_modules() -> dict[str, ModuleType]:
    """Return the modules loaded at one moment.

    While they are gone through, other threads may import more, and so may what the garbage
    collector finalizes: a list of the items is not safe from that, as each of its pairs is made
    anew.
    """
    return sys.modules.copy()


def loaded_bases() -> list[Path]:
    """Return the directories under which the top-level modules loaded so far are importable.

    They need not be on `sys.path`: editable installs may find modules by import hooks.
    """
    bases: dict[Path, None] = {}
    for name, module in loaded_modules().items():
        if "." in name or name == "__main__" or name in OWN_PACKAGES:
            continue
        file = module_file(module) if isinstance(module, ModuleType) else None
        base = import_base(name, file) if file and not is_installed(file) else None
        if base:
            bases[base.resolve()] = None
    return list(bases)


@cache
def _installation_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    named = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")]
    named += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple({folder for name in named for folder in (Path(name), Path(name).resolve())})
