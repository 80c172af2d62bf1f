"""Reading `pyproject.toml` and inline script metadata into requirement lines."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from kinetic_flows.core.errors import DependencyError, suggest
from kinetic_flows.core.settings.settings import project_keys
from kinetic_flows.dependencies.discovery import inline_metadata
from kinetic_flows.dependencies.lines import (
    Directories,
    Line,
    Origin,
    classify,
    refuse_credentials,
    requirement_name,
)
from kinetic_flows.dependencies.requirements_file import (
    KEEP_MARK,
    RequirementLines,
    decode,
    read_requirements,
)
from kinetic_flows.dependencies.uv_sources import ProjectSources, project_sources


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The extras and groups that `[tool.kinetic]` selects beyond the project's own dependencies."""

    extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Project:
    """The declarations of a `pyproject.toml` or a script.

    Attributes:
        found: Its requirement lines and the files they came from.
        selection: What `[tool.kinetic]` selects.
        requires_python: The versions of Python it works with; None when it does not say.
        warnings: Dependencies that are declared where nothing reads them.
    """

    found: RequirementLines
    selection: Selection = field(default_factory=Selection)
    requires_python: str | None = None
    warnings: tuple[str, ...] = ()


def read_project(path: Path, *, environ: Mapping[str, str]) -> Project:
    """Read the dependencies a `pyproject.toml` declares, and warnings about those it hides.

    Raises:
        DependencyError: The file cannot be read or names what it does not have.
    """
    text = _read_text(path)
    document = _toml(text, path)
    _refuse_written_credentials(text, path)
    project = _table(document, "project", path)
    selection = _selection(document, path)
    declared = list(_strings(project.get("dependencies", []), "dependencies", path))
    for extra in selection.extras:
        declared += _named(_table(project, "optional-dependencies", path), extra, "extra", path)
    for group in selection.groups:
        declared += _group(_table(document, "dependency-groups", path), group, path)
    sources = project_sources(document, path.parent)
    found = RequirementLines(lines=_lines(declared, text, path, sources), files=(path,))
    return Project(
        found=_with_more(found, selection, path, environ),
        selection=selection,
        requires_python=_text_or_none(project.get("requires-python"), path),
        warnings=_hidden(document, selection, path),
    )


def read_script(path: Path) -> Project:
    """Read the dependencies of a script's inline metadata.

    Raises:
        DependencyError: The metadata cannot be read.
    """
    text = _read_text(path)
    try:
        metadata: dict[str, Any] = inline_metadata(text) or {}
    except ValueError as error:
        raise DependencyError(
            f"{path}: its inline metadata cannot be read: {error}",
            value=str(path),
            hint="see PEP 723 for the form of a `# /// script` block",
        ) from error
    _refuse_written_credentials(re.sub(r"(?m)^# ?", "", text), path)
    declared = _strings(metadata.get("dependencies", []), "dependencies", path)
    lines = _lines(declared, text, path, project_sources(metadata, path.parent))
    return Project(
        found=RequirementLines(lines=lines, files=(path,)),
        requires_python=_text_or_none(metadata.get("requires-python"), path),
    )


def _refuse_written_credentials(text: str, path: Path) -> None:
    """Refuse credentials anywhere in the file: indexes and sources have URLs as well."""
    for number, line in enumerate(text.splitlines(), start=1):
        if "://" in line and not line.lstrip().startswith("#"):
            refuse_credentials(line.strip(), Origin(file=path, line=number))


def _lines(
    declared: Iterable[str], text: str, path: Path, sources: ProjectSources
) -> tuple[Line, ...]:
    raw = text.splitlines()
    directories = Directories(candidates=(path.parent,))
    lines = []
    for item in declared:
        number = _line_number(item, raw)
        kept = bool(raw) and KEEP_MARK in raw[number - 1]
        origin = Origin(file=path, line=number)
        index = sources.index_of(requirement_name(item))
        for alternative in sources.applied(item, origin):
            line = classify(alternative, origin, directories, kept=kept)
            lines.append(replace(line, index=index) if index else line)
    return tuple(lines)


def _line_number(item: str, raw: list[str]) -> int:
    """Return the line that a dependency stands on; the first where it cannot be told."""
    quoted = (f'"{item}"', f"'{item}'")
    for number, line in enumerate(raw, start=1):
        if any(text in line for text in quoted):
            return number
    return 1


def _selection(document: Mapping[str, Any], path: Path) -> Selection:
    table = _table(_table(document, "tool", path), "kinetic", path)
    for key in table:
        if key not in project_keys():
            raise DependencyError(
                f"{path}: [tool.kinetic] has no setting {key!r}",
                value=key,
                hint=suggest(key, project_keys()),
            )
    requirements = table.get("requirements", [])
    if isinstance(requirements, str):
        requirements = [requirements]
    return Selection(
        extras=_strings(table.get("extras", []), "extras", path),
        groups=_strings(table.get("groups", []), "groups", path),
        requirements=_strings(requirements, "requirements", path),
    )


def _with_more(
    found: RequirementLines, selection: Selection, path: Path, environ: Mapping[str, str]
) -> RequirementLines:
    """Add the requirements files that `[tool.kinetic]` names."""
    for name in selection.requirements:
        more = read_requirements(path.parent / name, working_directory=path.parent, environ=environ)
        found = RequirementLines(
            lines=(*found.lines, *more.lines),
            constraints=(*found.constraints, *more.constraints),
            files=(*found.files, *more.files),
        )
    return found


def _named(tables: Mapping[str, Any], name: str, what: str, path: Path) -> tuple[Any, ...]:
    by_name = {canonicalize_name(key): value for key, value in tables.items()}
    if canonicalize_name(name) not in by_name:
        raise DependencyError(
            f"{path}: [tool.kinetic] names the {what} {name!r}, which it does not have",
            value=name,
            hint=suggest(name, tables) if tables else f"the file declares no {what} at all",
        )
    found = by_name[canonicalize_name(name)]
    return tuple(found) if isinstance(found, list) else _strings(found, f"{what} {name!r}", path)


def _group(
    groups: Mapping[str, Any], name: str, path: Path, seen: tuple[str, ...] = ()
) -> list[str]:
    """Return the requirements of a dependency group, its includes unfolded (PEP 735)."""
    if name in seen:
        raise DependencyError(
            f"{path}: dependency group {name!r} includes itself",
            value=name,
            hint="break the circle",
        )
    found: list[str] = []
    for item in _named(groups, name, "group", path):
        if isinstance(item, Mapping) and isinstance(item.get("include-group"), str):
            found += _group(groups, item["include-group"], path, (*seen, name))
        else:
            found += _strings([item], f"group {name!r}", path)
    return found


def _hidden(document: Mapping[str, Any], selection: Selection, path: Path) -> tuple[str, ...]:
    """Name dependencies that are declared where nothing reads them."""
    warnings = [
        f"{path}: [{name}] is not read; move what it lists to [project] dependencies, or to a"
        " group of [dependency-groups] that [tool.kinetic] groups selects"
        for name in _unread_tables(document, path)
    ]
    project = _table(document, "project", path)
    if "dependencies" in _strings(project.get("dynamic", []), "dynamic", path):
        warnings.append(
            f"{path}: its dependencies are dynamic, decided by its build backend, and are not"
            " read; name the file they are in with [tool.kinetic] requirements"
        )
    groups = {canonicalize_name(name) for name in _table(document, "dependency-groups", path)}
    unread = sorted(groups - {canonicalize_name(name) for name in selection.groups})
    if unread:
        warnings.append(
            f"{path}: dependency groups not selected by [tool.kinetic] groups: {', '.join(unread)}"
        )
    return tuple(warnings)


def _unread_tables(document: Mapping[str, Any], path: Path) -> Iterable[str]:
    """Yield the tables of tools of their own that list packages."""
    tool = _table(document, "tool", path)
    poetry = _table(tool, "poetry", path)
    wanted = {**_table(poetry, "dependencies", path)}
    wanted.pop("python", None)
    if wanted and "dependencies" not in _table(document, "project", path):
        yield "tool.poetry.dependencies"
    for group, table in _table(poetry, "group", path).items():
        if isinstance(table, Mapping) and table.get("dependencies"):
            yield f"tool.poetry.group.{group}.dependencies"
    for name, key in (("poetry", "dev-dependencies"), ("pdm", "dev-dependencies")):
        if _table(tool, name, path).get(key):
            yield f"tool.{name}.{key}"


def _table(document: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    table = document.get(name, {})
    if not isinstance(table, Mapping):
        raise DependencyError(f"{path}: {name!r} is not a table", value=name, hint="mend the file")
    return table


def _strings(value: Any, name: str, path: Path) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise DependencyError(
        f"{path}: {name} is not a list of texts", value=name, hint='write it as ["numpy>=2", …]'
    )


def _text_or_none(value: Any, path: Path) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise DependencyError(
        f"{path}: requires-python is {value!r}", value=value, hint="write it as in '>=3.11'"
    )


def _toml(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        where = f"{path}:{line[1]}" if line else f"{path}"
        raise DependencyError(f"{where}: {error}", value=str(path), hint="mend the TOML") from error


def _read_text(path: Path) -> str:
    try:
        return re.sub(r"\r\n?", "\n", decode(path.read_bytes(), path))
    except OSError as error:
        raise DependencyError(
            f"{path} cannot be read: {error.strerror}",
            value=str(path),
            hint="check the path and its permissions",
        ) from error
