"""The part of uv's own configuration that decides what a resolution finds.

uv reads its configuration itself. It is read here as well, for three ends: it is part of what
a lock is made from; packages of a private index are fetched with the credentials it names;
and `[tool.uv.sources]` of a project says where its packages really are.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinetic_flows.dependencies.redaction import without_credentials

_DECIDING_VARIABLES = (
    "UV_BUILD_CONSTRAINT",
    "UV_CONSTRAINT",
    "UV_DEFAULT_INDEX",
    "UV_EXCLUDE",
    "UV_EXCLUDE_NEWER",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
    "UV_FORK_STRATEGY",
    "UV_INDEX",
    "UV_INDEX_STRATEGY",
    "UV_INDEX_URL",
    "UV_NO_BINARY",
    "UV_NO_BINARY_PACKAGE",
    "UV_NO_BUILD",
    "UV_NO_BUILD_PACKAGE",
    "UV_NO_CONFIG",
    "UV_NO_INDEX",
    "UV_NO_SOURCES",
    "UV_OVERRIDE",
    "UV_PRERELEASE",
    "UV_RESOLUTION",
    "UV_TORCH_BACKEND",
)
_FILE_VARIABLES = ("UV_BUILD_CONSTRAINT", "UV_CONSTRAINT", "UV_EXCLUDE", "UV_OVERRIDE")
_INDEX_VARIABLES = (
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_FIND_LINKS",
)
_NAMED_INDEX = re.compile(r"^(?:(?P<name>[\w.-]+)=)?(?P<url>\S+)$")


@dataclass(frozen=True, kw_only=True)
class Index:
    """An index or page of links: its URL as configured, and its name if it has one."""

    url: str
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class UvSettings:
    """The configuration of uv.

    Attributes:
        variables: Environment variables that decide, without credentials.
        tables: Contents of uv's configuration files, outermost last.
        indexes: Every index they name, with the credentials its URL may carry.
        keyring_provider: What the environment says of the `keyring` program.
    """

    variables: Mapping[str, str]
    tables: tuple[Mapping[str, Any], ...]
    indexes: tuple[Index, ...]
    keyring_provider: str = ""

    @property
    def asks_keyring(self) -> bool:
        """Whether uv asks the `keyring` program for passwords."""
        scopes = [item for table in self.tables for item in (table, table.get("pip"))]
        named = [item.get("keyring-provider") for item in scopes if isinstance(item, Mapping)]
        return "subprocess" in (self.keyring_provider, *named)

    def identity(self) -> object:
        """Return what decides, as JSON values without credentials."""
        return {"variables": dict(self.variables), "tables": [_clean(item) for item in self.tables]}


def uv_settings(project_root: Path, environ: Mapping[str, str]) -> UvSettings:
    """Read uv's configuration as it applies in a directory."""
    tables = tuple(_tables(project_root, environ))
    variables = {
        name: without_credentials(environ[name])
        for name in _DECIDING_VARIABLES
        if environ.get(name)
    }
    for name in _FILE_VARIABLES:
        for part in environ.get(name, "").split():
            variables[f"{name}:{part}"] = _text(project_root / part)
    indexes = (*_environment_indexes(environ), *_configured_indexes(tables))
    return UvSettings(
        variables=variables,
        tables=tables,
        indexes=indexes,
        keyring_provider=environ.get("UV_KEYRING_PROVIDER", ""),
    )


def without_deciding(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables without those that decide what uv finds: how it finds it is left."""
    return {name: value for name, value in environ.items() if name not in _DECIDING_VARIABLES}


def _tables(project_root: Path, environ: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    """Yield the project's table, then the person's, then the machine's, as uv merges them."""
    if environ.get("UV_CONFIG_FILE"):
        yield _toml(Path(environ["UV_CONFIG_FILE"]))
        return
    if environ.get("UV_NO_CONFIG", "").lower() in ("1", "true"):
        return
    for directory in (project_root, *project_root.parents):
        table = _toml(directory / "uv.toml")
        table = table or _project_table(directory / "pyproject.toml")
        if table:
            yield {key: value for key, value in table.items() if key not in _IRRELEVANT}
            break
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '/nonexistent')}/.config"
    for path in (Path(home) / "uv" / "uv.toml", Path("/etc/uv/uv.toml")):
        table = _toml(path)
        if table:
            yield table


_IRRELEVANT = frozenset({"dev-dependencies", "default-groups", "managed", "package", "workspace"})


def _environment_indexes(environ: Mapping[str, str]) -> Iterator[Index]:
    for variable in _INDEX_VARIABLES:
        for part in environ.get(variable, "").split():
            match = _NAMED_INDEX.match(part)
            if match and "://" in match["url"]:
                yield Index(url=match["url"], name=match["name"])


def _configured_indexes(tables: tuple[Mapping[str, Any], ...]) -> Iterator[Index]:
    for table in tables:
        for item in _listed(table.get("index")):
            if isinstance(item, Mapping) and isinstance(item.get("url"), str):
                yield Index(url=item["url"], name=str(item["name"]) if "name" in item else None)
        pip = table.get("pip")
        for scope in (table, pip if isinstance(pip, Mapping) else {}):
            for key in ("index-url", "extra-index-url", "find-links"):
                for url in _listed(scope.get(key)):
                    yield Index(url=str(url))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _clean(value: Any) -> Any:
    """Return TOML values as JSON values without credentials."""
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return value if isinstance(value, bool | int) else without_credentials(str(value))


def _project_table(path: Path) -> dict[str, Any]:
    tool = _toml(path).get("tool")
    table = tool.get("uv") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else {}


def _toml(path: Path) -> dict[str, Any]:
    # What is wrong with these files is uv's to say, when it runs.
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError):
        return {}


def _text(path: Path) -> str:
    try:
        return without_credentials(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
