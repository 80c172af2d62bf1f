"""What a `pyproject.toml` says of its project, as the metadata of a distribution.

Nothing of the project is run. What only a build would know is left out.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION_NAMES = frozenset({"__version__", "VERSION", "version"})


def project_metadata(folder: Path) -> dict[str, str] | None:
    """Return the files of the distribution that a directory's `pyproject.toml` describes.

    Returns:
        The files' contents by their names in a `*.dist-info`; None where there is no project,
        or no version that can be read without a build.
    """
    document = _parse(_text(folder, "pyproject.toml"))
    project = _project(document)
    name = project.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return None
    elsewhere = _installed(name)
    if elsewhere and not _has_module(folder, name):
        return None  # named like what it uses, whose own answers count
    version = _canonical(project.get("version")) or _canonical(_dynamic(folder, document, name))
    version = version or _canonical(elsewhere)
    if version is None:
        return None
    fields = [("Metadata-Version", "2.1"), ("Name", name), ("Version", version)]
    files = {"METADATA": header([*fields, *_fields(project)])}
    entry_points = _entry_points(project)
    return {**files, "entry_points.txt": entry_points} if entry_points else files


def project_name(folder: Path) -> str:
    """Return what a project calls itself in its `pyproject.toml`; else its directory's name."""
    name = _project(_parse(_text(folder, "pyproject.toml"))).get("name")
    return name if isinstance(name, str) and NAME.fullmatch(name) else folder.name


def header(fields: list[tuple[str, str]]) -> str:
    """Write the header of a METADATA file, each field on one line."""
    return "".join(f"{name}: {' '.join(value.split())}\n" for name, value in fields)


@lru_cache(maxsize=64)
def _parse(text: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}


def _table(document: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return a table of a document; an empty one where there is none."""
    found: Any = document
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _project(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the project's table, or Poetry's own where that is all there is."""
    project = _table(document, "project")
    if "name" in project:
        return project
    poetry = _table(document, "tool", "poetry")
    kept = {name: poetry.get(name) for name in ("name", "version", "description", "scripts")}
    return {**kept, "entry-points": poetry.get("plugins")}


def _fields(project: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field, key in (("Summary", "description"), ("Requires-Python", "requires-python")):
        if isinstance(project.get(key), str):
            yield field, project[key]
    if isinstance(project.get("license"), str):
        yield "License-Expression", project["license"]
    keywords = _texts(project.get("keywords"))
    if keywords:
        yield "Keywords", ",".join(keywords)
    for label, url in _table(project, "urls").items():
        yield "Project-URL", f"{label}, {url}"
    for classifier in _texts(project.get("classifiers")):
        yield "Classifier", classifier
    for requirement in _texts(project.get("dependencies")):
        yield "Requires-Dist", requirement
    for extra, requirements in _table(project, "optional-dependencies").items():
        yield "Provides-Extra", extra
        for requirement in _texts(requirements):
            yield "Requires-Dist", _of_extra(requirement, extra)


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _of_extra(requirement: str, extra: str) -> str:
    """Return a requirement that holds where an extra is asked for."""
    # What follows a URL's semicolon without a space is part of the URL.
    separator = " ;" if "@" in requirement else ";"
    what, _, marker = (part.strip() for part in requirement.partition(separator))
    condition = f"extra == '{extra}'"
    return f"{what} ; ({marker}) and {condition}" if marker else f"{what} ; {condition}"


def _entry_points(project: Mapping[str, Any]) -> str:
    groups = {
        "console_scripts": _table(project, "scripts"),
        "gui_scripts": _table(project, "gui-scripts"),
        **{name: _table(project, "entry-points", name) for name in _table(project, "entry-points")},
    }
    return "\n".join(
        f"[{group}]\n" + "".join(f"{name} = {points[name]}\n" for name in sorted(points))
        for group, points in sorted(groups.items())
        # Readers take every bracket off a group.
        if points
        and group == group.strip("[]")
        and all(map(_is_line, [group, *points], [f"[{group}]", *points.values()]))
    )


def _is_line(name: str, text: object) -> bool:
    """Whether a line of an entry points file can say this: one that cannot be read hides all."""
    is_text = isinstance(text, str) and text.isprintable()
    is_name = name.isprintable() and name == name.strip() != "" and "=" not in name
    return is_text and is_name and name[0] not in "[#"


def _canonical(version: object) -> str | None:
    """Return a version as an installer writes it; None for what is none."""
    try:
        return str(Version(version)) if isinstance(version, str) else None
    except InvalidVersion:
        return None


def _installed(name: str) -> str | None:
    """Return the version that is installed here under a name."""
    try:
        return version(name)
    except (PackageNotFoundError, KeyError, OSError, ValueError):
        return None


def _has_module(folder: Path, name: str) -> bool:
    """Whether a project has a module that is called like it."""
    module = name.replace("-", "_").replace(".", "/")
    places = (folder / base / each for base in (".", "src") for each in (module, f"{module}.py"))
    return any(place.exists() for place in places)


def _dynamic(folder: Path, document: Mapping[str, Any], name: str) -> str | None:
    """Return a version that stands in a file, where the build backend's table says which."""
    dynamic = _table(document, "tool", "setuptools", "dynamic", "version")
    files = dynamic.get("file")
    for file in [files] if isinstance(files, str) else _texts(files):
        return _text(folder, file).strip()
    attribute = dynamic.get("attr")
    if isinstance(attribute, str):
        module, _, variable = attribute.rpartition(".")
        return _of_module(folder, document, module, frozenset({variable}))
    for tool in ("hatch", "pdm"):
        path = _table(document, "tool", tool, "version").get("path")
        if isinstance(path, str):
            return _assigned(_text(folder, path), _VERSION_NAMES)
    if str(_table(document, "build-system").get("build-backend")).startswith("flit"):
        module = _table(document, "tool", "flit", "module").get("name", name.replace("-", "_"))
        return _of_module(folder, document, str(module), frozenset({"__version__"}))
    return None


def _of_module(
    folder: Path, document: Mapping[str, Any], module: str, names: frozenset[str]
) -> str | None:
    place = _table(document, "tool", "setuptools", "package-dir").get("")
    path = module.replace(".", "/")
    for base in (place, ".", "src"):
        for file in (f"{path}.py", f"{path}/__init__.py"):
            found = _assigned(_text(folder, f"{base}/{file}"), names) if base else None
            if found:
                return found
    return None


def _text(folder: Path, name: str) -> str:
    """Return the text of a file of the project; an empty one where it is none."""
    try:
        path = (folder / name).resolve()
        return path.read_text("utf-8") if path.is_relative_to(folder.resolve()) else ""
    except (OSError, ValueError):
        return ""


def _assigned(source: str, names: frozenset[str]) -> str | None:
    """Return the text that a module assigns to one of these names."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return None
    for statement in tree.body:
        targets: list[Any] = getattr(statement, "targets", [getattr(statement, "target", None)])
        value = getattr(statement, "value", None)
        is_named = any(isinstance(each, ast.Name) and each.id in names for each in targets)
        if is_named and isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
    return None
