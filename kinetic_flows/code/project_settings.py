"""The settings of a place: those of its `pyproject.toml`, and the profile remembered for it.

The file is the nearest one with such a table, from the function's file upwards, as far as its
dependencies are looked for. What asks about runs later in the same process (a handle's state, say)
takes that of the last function; commands, and whoever only attaches, take the working directory's.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kinetic_flows.code.wide_places import project_directories
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.settings.settings import (
    Settings,
    load_settings,
    settings_of_project,
)
from kinetic_flows.core.settings.table import ProjectSettings

if TYPE_CHECKING:
    from kinetic_flows.core import accelerators
else:
    # Most calls name none, or one that needs no project.
    accelerators = LazyModule("kinetic_flows.core.accelerators")

FILE = "pyproject.toml"

_last: list[Path] = []
"""Where the last function's file is; empty before there was one."""


def project_settings(directory: Path | None = None) -> ProjectSettings | None:
    """Return what the project's file says; None when nothing is said.

    Args:
        directory: Where the function's file is; None for the last function's, or else the
            working directory.

    Raises:
        ConfigurationError: The file cannot be read, or says what cannot be.
    """
    start = _start(directory)
    return None if start is None else settings_file_for(start)


def settings_file_for(start: Path) -> ProjectSettings | None:
    """Return what the project of a directory says; None when nothing is said.

    Args:
        start: The directory, without links in its path.

    Raises:
        ConfigurationError: The file cannot be read, or says what cannot be.
    """
    for each in (start, *start.parents):
        # A call pays for looking for files; how far its project goes is asked once there is one.
        if not (each / FILE).is_file() or not _reaches(start, each):
            continue
        found = settings_of_project(each / FILE)
        if found is not None:
            return found
    return None


def local_settings(environ: Mapping[str, str], directory: Path | None = None) -> Settings:
    """Return the settings that variables, the project's file and a remembered profile decide.

    Args:
        environ: Variables.
        directory: Where the function's file is; None for the last function's, or else the
            working directory.

    Raises:
        ConfigurationError: The file cannot be read, or a value cannot be.
    """
    found = project_settings(directory)
    return load_settings(environ, found, _start(directory))


def named_accelerator(text: str, directory: Path | None = None) -> str:
    """Return the accelerator that a text names, which may be the project's own name for one.

    Args:
        text: The name.
        directory: Where the function's file is, without links in its path; None for the last
            function's, or else the working directory.

    Raises:
        AcceleratorError: It is neither an accelerator nor a name of the project's.
        ConfigurationError: The project's file cannot be read, or says what cannot be.
    """
    return accelerators.meant_by(text, accelerator_names(directory))


def accelerator_names(directory: Path | None = None) -> Mapping[str, str]:
    """Return the project's own names for accelerators, with what each stands for.

    Args:
        directory: As for `named_accelerator`.

    Raises:
        ConfigurationError: The project's file cannot be read, or says what cannot be.
    """
    start = directory or _start(None)
    found = settings_file_for(start) if start else None
    return found.accelerators if found else {}


def _start(directory: Path | None) -> Path | None:
    """Return where to begin to look, without links; None where that was removed."""
    if directory is not None:
        _last[:] = [directory]
    try:
        return _last[0] if _last else Path.cwd().resolve()
    except FileNotFoundError:  # the working directory was removed
        return None


@cache
def _reaches(start: Path, directory: Path) -> bool:
    """Whether a directory is of the project of a file."""
    return directory in project_directories(start, Path.home().resolve())
