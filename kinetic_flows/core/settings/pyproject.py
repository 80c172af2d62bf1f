"""What `[tool.kinetic]` of a project's `pyproject.toml` says: settings that belong in a repository.

Its keys are the names of the settings' variables, in lower case and without `KINETIC_`. Beside
them stand those that select dependencies, which others read (`dependencies/project.py`), and the
names that the project gives to accelerators.

Some settings are left out: what is a person's or a machine's (`home`, `quiet`), what overrides the
code itself (`container_image`), and addresses that Google's credentials would be sent to, as a
repository that somebody has only just cloned is not to decide that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinetic_flows.core.errors import AcceleratorError, ConfigurationError, suggest
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.settings.table import ProjectSettings, ProjectValue, Setting, rows

if TYPE_CHECKING:
    import tomllib

    from kinetic_flows.core.accelerators import aliases
else:
    aliases = LazyModule("kinetic_flows.core.accelerators.aliases")
    tomllib = LazyModule("tomllib")

DEPENDENCY_KEYS = ("extras", "groups", "requirements")
"""Keys of the table that select dependencies."""

ACCELERATOR = "accelerator"
ACCELERATORS = "accelerators"
"""Key of the project's own names for accelerators."""

OTHER_KEYS = (*DEPENDENCY_KEYS, ACCELERATORS)
"""Keys of the table that are no settings."""

FILE = "pyproject.toml"


@dataclass(frozen=True, kw_only=True)
class _Document:
    """A file that has been read.

    Attributes:
        stamp: When it was changed last, and its size.
        settings: What it says; None when it has no table of ours.
    """

    stamp: tuple[int, int]
    settings: ProjectSettings | None


_read: dict[Path, _Document] = {}
"""What was read, by its file: a call reads a file anew when it has changed."""


def keys(tables: Iterable[type]) -> dict[str, Setting]:
    """Return the settings that a project may have, by the key that sets them."""
    settings = (row for table in tables for row in rows(table).values() if row.is_of_projects)
    return {row.key: row for row in settings}


def read_project_settings(path: Path, tables: Iterable[type]) -> ProjectSettings | None:
    """Return what a `pyproject.toml` says; None when there is no such file, or no table of ours.

    Args:
        path: The file.
        tables: The tables of settings.

    Raises:
        ConfigurationError: It cannot be read, names a setting that there is not, or has a value
            of another type than the setting's.
    """
    try:
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        known = _read.get(path)
        if known is None or known.stamp != stamp:
            known = _read[path] = _Document(stamp=stamp, settings=_parsed(path, tables))
    except OSError:
        return None
    return known.settings


def _parsed(path: Path, tables: Iterable[type]) -> ProjectSettings | None:
    data = path.read_bytes()
    if b"kinetic" not in data:
        return None
    try:
        text = data.decode()
        table = tomllib.loads(text).get("tool", {}).get("kinetic")
    except (ValueError, AttributeError) as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error}", value=str(path), hint="mend it, or remove it"
        ) from error
    if table is None:
        return None
    if not isinstance(table, Mapping):
        raise ConfigurationError(
            f"{path}: tool.kinetic is no table", value=str(path), hint="write [tool.kinetic]"
        )
    known = keys(tables)
    values = {
        key: ProjectValue(value=_checked(path, known, key, value), line=_line_of(text, key))
        for key, value in table.items()
        if key not in OTHER_KEYS
    }
    named = _aliases(path, table.get(ACCELERATORS, {}))
    line = _line_of(text, ACCELERATORS)
    return ProjectSettings(path=path, values=values, accelerators=named, accelerators_line=line)


def _aliases(path: Path, table: Any) -> dict[str, str]:
    """Return the project's own names for accelerators."""
    where = f"[tool.kinetic.{ACCELERATORS}]"
    if not isinstance(table, Mapping):
        raise ConfigurationError(
            f"{path}: {ACCELERATORS} of [tool.kinetic] is {table!r}",
            value=table,
            hint=f"write {where}, and in it lines such as big = 'tpu-v6e-8:spot'",
        )
    for alias, meant in table.items():
        if not isinstance(meant, str):
            raise ConfigurationError(
                f"{path}: {alias} of {where} is {meant!r}",
                value=meant,
                hint="give an accelerator's name in quotes, such as 'tpu-v6e-8:spot'",
            )
        try:
            aliases.check_alias(alias, meant)
        except AcceleratorError as error:
            raise ConfigurationError(
                f"{path}: {alias} of {where}: {error.message}", value=error.value, hint=error.hint
            ) from None
    return dict(table)


def _checked(path: Path, known: Mapping[str, Setting], key: str, value: Any) -> Any:
    """Return a value if it may be there and is of its setting's type."""
    if key not in known:
        raise ConfigurationError(
            f"{path}: [tool.kinetic] has no setting {key!r}",
            value=key,
            hint=suggest(key, [*known, *OTHER_KEYS]),
        )
    if key == ACCELERATOR and isinstance(value, list) and value:
        # As everywhere, it may be a list; between the settings it is one text.
        value = ",".join(each if isinstance(each, str) else repr(each) for each in value)
    wanted = known[key].type
    # A truth value is a whole number to Python.
    if type(value) is not wanted:
        raise ConfigurationError(
            f"{path}: {key} of [tool.kinetic] is {value!r}",
            value=value,
            hint=f"give {_TYPES[wanted]}",
        )
    return value


_TYPES = {
    str: "a text in quotes",
    int: "a whole number",
    bool: "true or false",
    dict: "a table, such as {key = 'value'}",
}


def _line_of(text: str, key: str) -> int | None:
    """Return the line of a key in our table; None where it is written in another way."""
    is_inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\s*([^\]]*?)\s*\]", line)
        if header:
            name = header[1].replace(" ", "")
            is_inside = name == "tool.kinetic"
            if name == f"tool.kinetic.{key}":
                return number
        elif is_inside and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[.=]""", line):
            return number
    return None
