"""Variables of this process that runs get: by name, or by patterns of names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from kinetic_flows.core import option_values as check
from kinetic_flows.core.errors import ConfigurationError
from kinetic_flows.core.secret_sources import SecretSource

NEVER_BY_PATTERN = re.compile(
    r"(KINETIC|PREFECT|PYTHON|LD|DYLD|UV|PIP)_.*|PYTHON.*|CI|DISPLAY|EDITOR|HOME|HOSTNAME|LANG|"
    r"LC_.*|LOGNAME|MAIL|OLDPWD|PATH|PS1|PWD|SHELL|SHLVL|TERM|TMPDIR|USER|VIRTUAL_ENV|XDG_.*|_"
)
"""What a process here has of its own, and what lets one in elsewhere: taken by name alone."""

_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True)
class CapturedVariables:
    """What `capture_env_vars` has found.

    Attributes:
        values: The variables and their values.
        warnings: What may not be what the person wants, a sentence each.
    """

    values: Mapping[str, str] = field(repr=False)
    warnings: tuple[str, ...] = ()


def check_captured(name: str, value: Any) -> tuple[str, ...]:
    """Check the option `capture_env_vars`.

    Args:
        name: What the option is called.
        value: Variables, and patterns of them.

    Raises:
        UsageError: One of them cannot be.
    """
    given = check.texts(name, value)
    for each in given:
        if re.search(r"[=\0\s]", each):
            check.refuse(name, each, "name variables alone; their values are taken at the call")
        if not is_pattern(each):
            continue
        if not re.search(r"[A-Za-z0-9]", each):
            check.refuse(name, each, "that is whatever is set; begin with what they have in common")
        if re.match("KINETIC_|PREFECT_", each):
            check.refuse(name, each, "these are taken by their names alone: give each")
    return given


def is_pattern(name: str) -> bool:
    """Whether a name of `capture_env_vars` stands for several."""
    return _WILD.search(name) is not None


def matched(pattern: str, environ: Iterable[str]) -> list[str]:
    """Return the variables that a pattern stands for, in order."""
    found = (name for name in environ if fnmatchcase(name, pattern))
    return sorted(name for name in found if not NEVER_BY_PATTERN.fullmatch(name))


def capture_variables(
    names: Iterable[str], sources: Mapping[str, SecretSource], environ: Mapping[str, str]
) -> CapturedVariables:
    """Return the values of the variables a function asked to take along.

    Args:
        names: Variables and patterns.
        sources: Where secret variables come from; these are not captured.
        environ: This process's variables.

    Raises:
        ConfigurationError: Variables are not set; all of them are named, those as well that
            secrets are to be taken from.
    """
    listed = tuple(names)
    by_name = [name for name in listed if not is_pattern(name) and name not in sources]
    _check_set(by_name, sources, environ)
    found = dict.fromkeys(by_name)
    warnings = []
    for pattern in filter(is_pattern, listed):
        names_found = matched(pattern, environ)
        found |= dict.fromkeys(name for name in names_found if name not in sources)
        if not names_found:
            warnings.append(f"capture_env_vars: no variable is set that {pattern} stands for")
    values = {name: environ[name] for name in found}
    return CapturedVariables(values=values, warnings=tuple(warnings))


def _check_set(
    names: Iterable[str], sources: Mapping[str, SecretSource], environ: Mapping[str, str]
) -> None:
    lacking = [name for name in names if name not in environ]
    secret = [
        f"{source.name} (secrets[{variable!r}])"
        for variable, source in sources.items()
        if source.kind == "env" and source.name not in environ
    ]
    if not lacking and not secret:
        return
    where = "capture_env_vars names" if not secret else "secrets= and capture_env_vars= name"
    where = "secrets= names" if secret and not lacking else where
    raise ConfigurationError(
        f"{where} variables that are not set: {', '.join((*lacking, *secret))}",
        value=(*lacking, *(each.partition(" ")[0] for each in secret)),
        hint="export them before the call, or take them out of "
        + ("capture_env_vars" if not secret else "it"),
    )
