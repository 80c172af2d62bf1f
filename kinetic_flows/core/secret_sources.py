"""`secrets=`: variables of a run whose values nobody else is to see, and where they come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kinetic_flows.core import option_values as check
from kinetic_flows.core.errors import UsageError

SecretKind = Literal["secret-manager", "k8s", "prefect", "env"]

KINDS: Mapping[SecretKind, str] = {
    "secret-manager": "secret-manager:NAME, or secret-manager:projects/P/secrets/NAME/versions/V",
    "k8s": "k8s:SECRET/KEY",
    "prefect": "prefect:BLOCK",
    "env": "env:VARIABLE",
}
"""How each kind of source is written."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FORMS: Mapping[SecretKind, re.Pattern[str]] = {
    "secret-manager": re.compile(
        r"(?:projects/(?P<project>[\w:.-]+)/secrets/)?(?P<name>[\w-]{1,255})"
        r"(?:/versions/(?P<version>latest|\d+|[\w-]+))?"
    ),
    "k8s": re.compile(r"(?P<name>[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)/(?P<key>[\w.-]{1,253})"),
    "prefect": re.compile(r"(?P<name>[a-z0-9]([a-z0-9-]*[a-z0-9])?)"),
    "env": re.compile(rf"(?P<name>{_VARIABLE.pattern})"),
}


@dataclass(frozen=True, kw_only=True)
class SecretSource:
    """Where the value of a variable of a run comes from.

    Attributes:
        variable: The variable's name.
        kind: `secret-manager`, `k8s` (a Kubernetes Secret of the runs' namespace), `prefect` (a
            Secret block) or `env` (this process's environment).
        name: The secret's name there.
        key: Which key of a Kubernetes Secret; empty for the other kinds.
        project: The secret's Google Cloud project; None for the one that runs are in.
        version: The version in Secret Manager.
    """

    variable: str
    kind: SecretKind
    name: str
    key: str = ""
    project: str | None = None
    version: str = "latest"

    def __str__(self) -> str:
        if self.kind == "k8s":
            return f"k8s:{self.name}/{self.key}"
        if self.kind == "secret-manager" and (self.project or self.version != "latest"):
            project = f"projects/{self.project}/secrets/" if self.project else ""
            return f"secret-manager:{project}{self.name}/versions/{self.version}"
        return f"{self.kind}:{self.name}"


def parse_secrets(name: str, value: Any) -> dict[str, SecretSource]:
    """Check the option `secrets`.

    Args:
        name: What the option is called.
        value: Where the value of which variable comes from, as `KINDS` says.

    Raises:
        UsageError: A variable or a source cannot be.
    """
    if not isinstance(value, Mapping):
        check.refuse(name, value, "give a mapping: secrets={'HF_TOKEN': 'secret-manager:hf-token'}")
    return {_variable(name, key): _source(f"{name}[{key!r}]", key, value[key]) for key in value}


def _variable(name: str, variable: object) -> str:
    if not isinstance(variable, str) or not _VARIABLE.fullmatch(variable):
        check.refuse(name, variable, "give names of environment variables")
    if variable.startswith("KINETIC_"):
        check.refuse(name, variable, "variables that begin with KINETIC_ are our own")
    return variable


def _source(name: str, variable: str, value: object) -> SecretSource:
    if isinstance(value, SecretSource):
        return value
    given = value.strip() if isinstance(value, str) else ""
    word, colon, rest = given.partition(":")
    if word not in KINDS or not colon:
        raise UsageError(
            f"{name} names no source; what it says is not shown, as it may be the secret itself",
            value=name,
            hint=f"give one of {'; '.join(KINDS.values())}",
        )
    kind: SecretKind = word  # type: ignore[assignment]
    found = _FORMS[kind].fullmatch(rest)
    if found is None:
        check.refuse(name, given, f"write {KINDS[kind]}")
    parts = {key: text for key, text in found.groupdict().items() if text}
    return SecretSource(variable=variable, kind=kind, **parts)
