"""Reading `pyproject.toml` and inline script metadata into requirement lines."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from kinetic_flows.dependencies.discovery import inline_metadata
from kinetic_flows.dependencies.requirements_file import (
    KEEP_MARK,
    Directories,
    Line,
    Origin,
    RequirementLines,
    classify,
    decode,
)
from kinetic_flows.errors import DependencyError, suggest


def read_project(
    path: Path, *, environ: Mapping[str, str]
) -> tuple[RequirementLines, tuple[str, ...]]:
    """Read the dependencies a `pyproject.toml` declares, and warnings about those it hides.

    Raises:
        DependencyError: The file cannot be read or names what it does not have.
    """
    text = _read_text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DependencyError(
            f"{path}: {error}", value=str(path), hint="mend the file's TOML"
        ) from error
    selection = document.get("tool", {}).get("kinetic", {})
    project = document.get("project", {})
    declared = [*project.get("dependencies", ())]
    for extra in selection.get("extras", ()):
        declared += _named(project.get("optional-dependencies", {}), extra, "extra", path)
    for group in selection.get("groups", ()):
        declared += _group(document.get("dependency-groups", {}), group, path)
    lines = _lines(declared, text, path)
    return RequirementLines(lines=lines, files=(path,)), _hidden(document, selection, path)


def read_script(
    path: Path, *, environ: Mapping[str, str]
) -> tuple[RequirementLines, tuple[str, ...]]:
    """Read the dependencies of a script's inline metadata."""
    text = _read_text(path)
    metadata = inline_metadata(text) or {}
    declared = metadata.get("dependencies", [])
    if not isinstance(declared, list):
        raise DependencyError(f"{path}: `dependencies` is not a list", value=str(path))
    return RequirementLines(lines=_lines(declared, text, path), files=(path,)), ()


def _lines(declared: Iterable[Any], text: str, path: Path) -> tuple[Line, ...]:
    raw = text.splitlines()
    directories = Directories(candidates=(path.parent,))
    lines = []
    for item in declared:
        if not isinstance(item, str):
            raise DependencyError(f"{path}: dependency {item!r} is not a text", value=str(path))
        number = next((n for n, line in enumerate(raw, start=1) if item in line), 1)
        kept = KEEP_MARK in raw[number - 1] if raw else False
        origin = Origin(file=path, line=number)
        lines.append(classify(item, origin, directories, kept=kept))
    return tuple(lines)


def _named(tables: Mapping[str, Any], name: str, what: str, path: Path) -> list[str]:
    by_name = {canonicalize_name(key): value for key, value in tables.items()}
    try:
        return list(by_name[canonicalize_name(name)])
    except KeyError:
        raise DependencyError(
            f"{path}: [tool.kinetic] names the {what} {name!r}, which it does not have",
            value=name,
            hint=suggest(name, tables),
        ) from None


def _group(
    groups: Mapping[str, Any], name: str, path: Path, seen: tuple[str, ...] = ()
) -> list[str]:
    """Return the requirements of a dependency group, its includes unfolded (PEP 735)."""
    if name in seen:
        raise DependencyError(f"{path}: dependency group {name!r} includes itself", value=name)
    found: list[str] = []
    for item in _named(groups, name, "group", path):
        if isinstance(item, Mapping):
            found += _group(groups, item["include-group"], path, (*seen, name))
        else:
            found.append(item)
    return found


def _hidden(
    document: Mapping[str, Any], selection: Mapping[str, Any], path: Path
) -> tuple[str, ...]:
    """Name dependencies that are declared where nothing reads them."""
    warnings = []
    poetry = document.get("tool", {}).get("poetry", {})
    if poetry.get("dependencies") and "project" not in document:
        warnings.append(f"{path}: [tool.poetry.dependencies] is not read; use [project]")
    if "dependencies" in document.get("project", {}).get("dynamic", ()):
        warnings.append(f"{path}: its dependencies are dynamic and are not read")
    groups = {canonicalize_name(name) for name in document.get("dependency-groups", {})}
    unread = sorted(groups - {canonicalize_name(name) for name in selection.get("groups", ())})
    if unread:
        warnings.append(
            f"{path}: dependency groups not selected by [tool.kinetic] groups: {', '.join(unread)}"
        )
    return tuple(warnings)


def _read_text(path: Path) -> str:
    try:
        return re.sub(r"\r\n?", "\n", decode(path.read_bytes(), path))
    except OSError as error:
        raise DependencyError(
            f"{path} cannot be read: {error.strerror}", value=str(path)
        ) from error
