"""Discovery of the file, or list, that declares a function's dependencies.

In order: what the decorator says; inline metadata in the entry script (PEP 723); then, from
the entry directory upwards, the nearest `requirements.txt`, else `pyproject.toml`. The search
ends after the directory that holds `.git`, and at directories that are plainly no project: homes,
`/tmp`, the system's own. Declaring nothing at all is fine.
"""

from __future__ import annotations

import logging
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kinetic_flows.code.wide_places import project_directories
from kinetic_flows.core.errors import DependencyError
from kinetic_flows.dependencies.uv_sources import workspace_root

logger = logging.getLogger(__name__)

SourceKind = Literal["requirements", "list", "script", "pyproject", "none"]

LOCK_FILE_NAMES = ("uv.lock", "pylock.toml")

SCRIPT_LOCK_SUFFIX = ".lock"
"""What `uv lock --script` adds to a script's name for its lock."""

_OTHER_TOOLS = ("Pipfile", "environment.yml", "environment.yaml", "setup.py", "setup.cfg")

_SCRIPT_BLOCK = re.compile(
    r"(?m)^# /// script[ \t]*\r?$\n(?P<body>(?:^#(?: .*)?\r?$\n)+?)^# ///[ \t]*\r?$"
)


@dataclass(frozen=True, kw_only=True)
class DependencySource:
    """A declaration of dependencies: a file, a list, or none.

    Attributes:
        kind: How they are declared; `none` when nothing does.
        path: The file that declares them; None for a list or nothing.
        project_root: Directory that relative paths and uv's configuration are relative to.
        requirements: The decorator's list of requirements; empty for the other kinds.
        lock_file: A lock beside the file, to be used instead of resolving; None for none.
        working_directory: Where the file was named from, which its local paths may be
            relative to; None for its own directory.
        warnings: What the person should know about the choice.
    """

    kind: SourceKind
    path: Path | None
    project_root: Path
    requirements: tuple[str, ...] = ()
    lock_file: Path | None = None
    working_directory: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What to call it: the file's path, or what it is instead of a file."""
        return str(self.path) if self.path else _NAMELESS[self.kind]


_NAMELESS = {"list": "requirements=", "none": "no dependency file"}


def discover(
    *,
    requirements: Path | str | Sequence[str] | None,
    entry_file: Path | None,
    start: Path,
    home_directory: Path,
) -> DependencySource:
    """Choose what declares the dependencies of a function.

    Args:
        requirements: What the decorator was given: a file, a list of requirements, or nothing.
        entry_file: The script or module that was started; None when there is none.
        start: Directory to search from, and that relative paths are relative to.
        home_directory: Where the search ends.

    Raises:
        DependencyError: The file that was named, or found, cannot be read.
    """
    source = _chosen(requirements, start) or _from_script(entry_file)
    source = source or _nearest(start.resolve(), home_directory.resolve())
    source = source or _nothing(start.resolve())
    logger.info("dependencies: %s", source.label)
    return source


def inline_metadata(text: str) -> dict[str, object] | None:
    """Return the `script` block of a script's inline metadata; None when it has none.

    Raises:
        ValueError: The block is not TOML, or there are two.
    """
    blocks = list(_SCRIPT_BLOCK.finditer(text))
    if not blocks:
        return None
    if len(blocks) > 1:
        raise ValueError("it has several `# /// script` blocks")
    lines = blocks[0]["body"].splitlines()
    return tomllib.loads("\n".join(line[2:] if line[1:2] == " " else line[1:] for line in lines))


def _chosen(
    requirements: Path | str | Sequence[str] | None, start: Path
) -> DependencySource | None:
    if requirements is None:
        return None
    if isinstance(requirements, str | Path):
        named = _named_file(start / Path(requirements).expanduser())
        return replace(named, working_directory=start.resolve())
    return DependencySource(
        kind="list", path=None, project_root=start.resolve(), requirements=tuple(requirements)
    )


def _named_file(path: Path) -> DependencySource:
    if path.is_dir():
        found = _in_directory(path.resolve())
        if found is None:
            raise DependencyError(
                f"requirements={str(path)!r} is a directory without requirements.txt"
                " or pyproject.toml",
                value=str(path),
                hint="name the file itself",
            )
        return found
    if not path.is_file():
        raise DependencyError(
            f"requirements={str(path)!r} does not exist",
            value=str(path),
            hint="give the path of a requirements file, or a list such as ['numpy>=2']",
        )
    return _file_source(path)


def _file_source(path: Path) -> DependencySource:
    # The file may be a symlink; what it includes is relative to where it stands, as for pip.
    path = path.parent.resolve() / path.name
    if path.name == "pyproject.toml":
        return DependencySource(
            kind="pyproject", path=path, project_root=path.parent, lock_file=_lock_beside(path)
        )
    if path.suffix != ".py":
        return DependencySource(kind="requirements", path=path, project_root=path.parent)
    lock = path.with_name(f"{path.name}{SCRIPT_LOCK_SUFFIX}")
    return DependencySource(
        kind="script",
        path=path,
        project_root=path.parent,
        lock_file=lock if lock.is_file() else None,
    )


def _lock_beside(pyproject: Path) -> Path | None:
    """Return the lock beside a project, or that of the uv workspace it is a member of."""
    candidates = [pyproject.parent / name for name in LOCK_FILE_NAMES]
    workspace = workspace_root(pyproject.parent)
    if workspace is not None:
        candidates.append(workspace / "uv.lock")
    return next((path for path in candidates if path.is_file()), None)


def _from_script(entry_file: Path | None) -> DependencySource | None:
    if entry_file is None or entry_file.suffix != ".py" or not entry_file.is_file():
        return None
    text = entry_file.read_bytes().decode("utf-8", errors="replace")
    try:
        metadata = inline_metadata(text)
    except ValueError as error:
        raise DependencyError(
            f"{entry_file}: its inline metadata cannot be read: {error}",
            value=str(entry_file),
            hint="see PEP 723 for the form of a `# /// script` block",
        ) from error
    return _file_source(entry_file) if metadata is not None else None


def _nearest(start: Path, home_directory: Path) -> DependencySource | None:
    for directory in project_directories(start, home_directory):
        found = _in_directory(directory)
        if found is not None:
            return found
    return None


def _in_directory(directory: Path) -> DependencySource | None:
    """Return what a directory declares; a directory with a file's name is no file."""
    requirements, pyproject = directory / "requirements.txt", directory / "pyproject.toml"
    if requirements.is_file():
        return replace(_file_source(requirements), warnings=_passed_over(pyproject))
    return _file_source(pyproject) if pyproject.is_file() else None


def _passed_over(pyproject: Path) -> tuple[str, ...]:
    """Warn when a `pyproject.toml` was written for us and its neighbour is read instead."""
    try:
        document = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ()
    tool = document.get("tool")
    if not isinstance(tool, dict) or "kinetic" not in tool:
        return ()
    warning = (
        f"{pyproject}: [tool.kinetic] is not read, because requirements.txt is beside it; to use"
        " both, say requirements='pyproject.toml' and name the other in [tool.kinetic] requirements"
    )
    return (warning,)


def _nothing(start: Path) -> DependencySource:
    """Return that nothing declares dependencies, naming files of other tools that may."""
    others = [name for name in _OTHER_TOOLS if (start / name).is_file()]
    warnings = [
        f"{start / name} is not read; list its packages in requirements.txt or pyproject.toml"
        for name in others
    ]
    return DependencySource(kind="none", path=None, project_root=start, warnings=tuple(warnings))
