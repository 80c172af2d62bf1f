"""`[tool.uv]` of a script's inline metadata: settings of uv that hold for that script alone.

uv has no way to be given such a table but the script itself, whose requirements are not all
handed on. So the table is written, merged with the configuration that holds around the script,
as a configuration file that uv is told to read in place of any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from kinetic_flows.core.files import write_atomically
from kinetic_flows.core.job import sha256_hex
from kinetic_flows.dependencies.discovery import DependencySource, inline_metadata
from kinetic_flows.dependencies.lines import file_path
from kinetic_flows.dependencies.uv_settings import uv_settings

_NOT_FOR_A_FILE = frozenset(
    {
        # `uv_sources` follows it.
        "sources",
        # uv knows these in a project's `pyproject.toml` only, and has no use for them in a script.
        *("build-backend", "conflicts", "default-groups", "dependency-groups"),
        *("dev-dependencies", "managed", "package", "workspace"),
    }
)


def uv_variables(
    source: DependencySource, environ: Mapping[str, str], *, home: Path
) -> Mapping[str, str]:
    """Return the variables that uv is given for a source.

    Args:
        source: What declares the dependencies.
        environ: The person's variables.
        home: Directory of this machine's caches, where the configuration file is written.

    Returns:
        The person's own, but for a script with settings of its own, whose configuration file
        stands in for every other.
    """
    table = _script_table(source)
    if not table:
        return environ
    around = uv_settings(source.project_root, environ).tables
    data = tomli_w.dumps(_merged(table, *around)).encode()
    path = home / "uv" / f"{sha256_hex(data)[:32]}.toml"
    write_atomically(path, data)
    return {**environ, "UV_CONFIG_FILE": str(path)}


def _script_table(source: DependencySource) -> dict[str, Any]:
    if source.kind != "script" or source.path is None:
        return {}
    text = source.path.read_bytes().decode("utf-8", errors="replace")
    metadata: Mapping[str, Any] = inline_metadata(text) or {}
    tool = metadata.get("tool")
    table = tool.get("uv") if isinstance(tool, Mapping) else None
    if not isinstance(table, Mapping):
        return {}
    chosen = {key: value for key, value in table.items() if key not in _NOT_FOR_A_FILE}
    return {key: _placed(key, value, source.project_root) for key, value in chosen.items()}


def _placed(key: str, value: Any, directory: Path) -> Any:
    """Return a setting with paths that do not depend on where its file stands."""
    match key, value:
        case "index", list():
            return [
                {**item, "url": _absolute(item["url"], directory)} if "url" in item else item
                for item in value
            ]
        case "find-links" | "extra-index-url", list():
            return [_absolute(item, directory) for item in value]
        case "index-url", str():
            return _absolute(value, directory)
        case "pip", Mapping():
            return {name: _placed(name, item, directory) for name, item in value.items()}
    return value


def _absolute(location: Any, directory: Path) -> Any:
    if not isinstance(location, str) or ("://" in location and not location.startswith("file:")):
        return location
    return str(directory / file_path(location))


def _merged(first: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """Merge configurations as uv does: lists are joined, of all else the first one counts."""
    merged = dict(first)
    for other in others:
        for key, value in other.items():
            present = merged.get(key)
            if present is None:
                merged[key] = value
            elif isinstance(present, list) and isinstance(value, list):
                merged[key] = [*present, *value]
            elif isinstance(present, Mapping) and isinstance(value, Mapping):
                merged[key] = _merged(present, value)
    return {key: value for key, value in merged.items() if key not in _NOT_FOR_A_FILE}
