"""`[tool.uv.sources]`: where a project says its packages really come from.

A source that is a path, a workspace member, a repository or a URL becomes a direct reference
(PEP 508), which every later step understands. One that names an index stays with uv.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from kinetic_flows.core.errors import DependencyError
from kinetic_flows.dependencies.lines import Origin


@dataclass(frozen=True, kw_only=True)
class ProjectSources:
    """The sources of one project.

    Attributes:
        entries: Alternatives by canonical package name.
        directory: What their paths are relative to.
        indexes: `[[tool.uv.index]]` tables by name.
    """

    directory: Path
    entries: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    indexes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def index_of(self, name: str | None) -> Mapping[str, Any] | None:
        """Return the table of the index that a package must come from; None for any."""
        for entry in self.entries.get(name or "", ()):
            if isinstance(entry.get("index"), str):
                return self.indexes.get(entry["index"])
        return None

    def applied(self, text: str, origin: Origin) -> Iterator[str]:
        """Yield a requirement as its sources have it: one line for each alternative."""
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            yield text
            return
        entries = self.entries.get(canonicalize_name(requirement.name), ())
        if requirement.url or not entries or all("index" in entry for entry in entries):
            yield text
            return
        for entry in entries:
            yield self._direct(requirement, entry, origin)

    def local_paths(self) -> Iterator[Path]:
        """Yield the local packages that the sources name."""
        for name, entries in self.entries.items():
            for entry in entries:
                if isinstance(entry.get("path"), str):
                    yield self.directory / entry["path"]
                elif entry.get("workspace"):
                    member = workspace_member(name, self.directory)
                    if member is not None:
                        yield member

    def _direct(self, requirement: Requirement, entry: Mapping[str, Any], origin: Origin) -> str:
        url = self._url(requirement, entry, origin)
        extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
        reference = f" @ {url}" if url else str(requirement.specifier)
        markers = [str(item) for item in (requirement.marker, entry.get("marker")) if item]
        joined = (
            " and ".join(f"({item})" for item in markers) if len(markers) > 1 else "".join(markers)
        )
        return f"{requirement.name}{extras}{reference}" + (f" ; {joined}" if joined else "")

    def _url(
        self, requirement: Requirement, entry: Mapping[str, Any], origin: Origin
    ) -> str | None:
        if "git" in entry:
            reference = entry.get("rev") or entry.get("tag") or entry.get("branch")
            url = f"git+{entry['git']}" + (f"@{reference}" if reference else "")
            return str(url) + _subdirectory(entry)
        if "url" in entry:
            return str(entry["url"]) + _subdirectory(entry)
        if isinstance(entry.get("path"), str):
            return Path(self.directory, entry["path"]).resolve().as_uri()
        if entry.get("workspace"):
            member = workspace_member(requirement.name, self.directory)
            if member is None:
                raise DependencyError(
                    f"{origin}: no workspace member is named {requirement.name!r}",
                    value=requirement.name,
                    hint="check [tool.uv.workspace] members in the workspace's pyproject.toml",
                )
            return member.as_uri()
        return None


def project_sources(document: Mapping[str, Any], directory: Path) -> ProjectSources:
    """Return the sources of a `pyproject.toml` or script metadata, its workspace's included."""
    tables = [_uv_table(document)]
    root = workspace_root(directory)
    if root is not None and root != directory:
        tables.insert(0, _uv_table(_document(root)))
    entries: dict[str, tuple[Mapping[str, Any], ...]] = {}
    indexes: dict[str, Mapping[str, Any]] = {}
    for table in tables:
        for name, value in _mapping(table.get("sources")).items():
            entries[canonicalize_name(name)] = _mappings(value)
        indexes |= {
            item["name"]: item
            for item in _mappings(table.get("index"))
            if isinstance(item.get("name"), str)
        }
    return ProjectSources(directory=directory, entries=entries, indexes=indexes)


def local_closure(path: Path) -> tuple[Path, ...]:
    """Return a local package and every local package that its sources lead to."""
    found: list[Path] = []
    pending = [path]
    while pending:
        current = pending.pop().resolve()
        if current in found or not current.exists():
            continue
        found.append(current)
        if current.is_dir():
            pending += project_sources(_document(current), current).local_paths()
    return tuple(found)


def workspace_root(directory: Path) -> Path | None:
    """Return the directory of the uv workspace around a directory; None when there is none."""
    for candidate in (directory, *directory.parents):
        if "workspace" in _uv_table(_document(candidate)):
            return candidate
    return None


def workspace_member(name: str, directory: Path) -> Path | None:
    """Return the directory of the workspace member with a name."""
    root = workspace_root(directory)
    if root is None:
        return None
    patterns = _mapping(_uv_table(_document(root))["workspace"]).get("members")
    listed = [item for item in patterns if isinstance(item, str)] if patterns else []
    members = [root, *(path for pattern in listed for path in sorted(root.glob(pattern)))]
    for member in members:
        project = _mapping(_document(member).get("project"))
        if canonicalize_name(str(project.get("name", ""))) == canonicalize_name(name):
            return member.resolve()
    return None


def _subdirectory(entry: Mapping[str, Any]) -> str:
    return f"#subdirectory={entry['subdirectory']}" if "subdirectory" in entry else ""


def _uv_table(document: Mapping[str, Any]) -> Mapping[str, Any]:
    return _mapping(_mapping(document.get("tool")).get("uv"))


# What is wrong with uv's tables is uv's to say; here a wrong shape is as good as none.
def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: Any) -> tuple[Mapping[str, Any], ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(item for item in items if isinstance(item, Mapping))


def _document(directory: Path) -> dict[str, Any]:
    # A file that is no TOML has no sources; where it matters, its own reader or uv complains.
    try:
        return tomllib.loads((directory / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
