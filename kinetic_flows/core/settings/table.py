"""The mechanism of the tables of settings: what a row is, and which of a value's givers wins.

A table is a frozen dataclass whose fields have a row each; what a setting is for stands under its
field. A value comes from the decorator's argument, else the environment, else the active profile,
else the project's `pyproject.toml`, else the row's default; a profile that the project's file names
or that is remembered comes after what else stands in that file. Where a value came from is kept
beside it. Nothing here reads anything: variables, profiles and what the file says are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

PREFIX = "KINETIC_"


@dataclass(frozen=True)
class Source:
    """Where a value came from.

    Attributes:
        kind: Who gave it.
        name: The argument, the variable, the profile, the file with its line, or for whom or which
            directory it is remembered; empty for a default.
    """

    kind: Literal["argument", "environment", "pyproject", "profile", "remembered", "default"]
    name: str = ""

    def __str__(self) -> str:
        """Return it as `kinetic config` shows it."""
        if self.kind == "remembered":
            return f"remembered for {self.name}"
        return self.name if self.kind == "pyproject" else f"{self.kind} {self.name}".rstrip()


DEFAULT = Source("default")


class ProfileCredentials(Protocol):
    """Google credentials that a profile carries."""

    @property
    def name(self) -> str:
        """Name of the saved credentials."""
        ...

    @property
    def profile(self) -> str:
        """Name of the profile, for blocks that refer to it."""
        ...

    def load(self) -> Any:
        """Return them as `google.auth` credentials."""
        ...


class ProfileLogin(Protocol):
    """A login to a registry that a profile carries."""

    @property
    def name(self) -> str:
        """Name of the saved image repository it belongs to."""
        ...

    def load(self) -> tuple[str, str] | None:
        """Return user name and password; None where the saved repository has none."""
        ...


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A saved cluster.

    Attributes:
        name: The name it is saved under.
        values: What it sets, by field of `CloudSettings`.
        credentials: The Google credentials it carries; None for none.
        logins: Logins to registries it carries, by host.
    """

    name: str
    values: Mapping[str, object]
    credentials: ProfileCredentials | None = field(default=None, repr=False)
    logins: Mapping[str, ProfileLogin] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class ProjectValue:
    """What a project's file says of one setting.

    Attributes:
        value: The value, as TOML has it.
        line: Its line; None where that is not known.
    """

    value: object
    line: int | None


@dataclass(frozen=True, kw_only=True)
class ProjectSettings:
    """What `[tool.kinetic]` says.

    Attributes:
        path: The `pyproject.toml`.
        values: What it says, by key.
        accelerators: The project's own names for accelerators, with what each stands for.
        accelerators_line: Where they begin; None where that is not known, or there are none.
    """

    path: Path
    values: Mapping[str, ProjectValue]
    accelerators: Mapping[str, str] = field(default_factory=dict)
    accelerators_line: int | None = None

    def given(self, setting: Setting) -> tuple[object, Source] | None:
        """Return what it says of a setting, and where; None when it says nothing."""
        found = self.values.get(setting.key)
        if found is None:
            return None
        return found.value, self.source(setting.key, found.line)

    def source(self, key: str, line: int | None) -> Source:
        """Return a key of the file as the source of a value."""
        place = f":{line}" if line else f" [tool.kinetic] {key}"
        return Source("pyproject", f"{self.path}{place}")


class Profiles(Protocol):
    """Where profiles are saved."""

    def load(self, name: str) -> Profile | None:
        """Return a profile; None when there is none of that name."""
        ...

    def names(self) -> tuple[str, ...]:
        """Return the names of all profiles."""
        ...


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row: how a setting is read.

    Attributes:
        name: Its field.
        parse: Checks a value, given what to call it in an error, and returns it as it is used.
        default: Its value when nobody gives one; a function is called with those of the rows
            before it.
        variable: The variable that gives it.
        googles: A variable of Google's own, which fills in what nobody else gives.
        is_option: Whether `kinetic.run` has an option of that name.
        is_of_projects: Whether a project's `pyproject.toml` may have it.
        type: What it is in TOML.
    """

    name: str
    parse: Callable[[object, str], Any]
    default: Any
    variable: str
    googles: str
    is_option: bool
    is_of_projects: bool
    type: type

    @property
    def key(self) -> str:
        """What it is called in a project's file."""
        return self.variable.removeprefix(PREFIX).lower()


def row(
    parse: Callable[[object, str], Any],
    default: Any = None,
    *,
    variable: str = "",
    googles: str = "",
    is_option: bool = False,
    is_of_projects: bool = True,
) -> Mapping[str, Any]:
    """Return the metadata of a field that is a setting; see `Setting`."""
    told = {"default": default, "variable": variable, "googles": googles, "is_option": is_option}
    return {"setting": {"parse": parse, "is_of_projects": is_of_projects, **told}}


@cache
def rows(table: type) -> Mapping[str, Setting]:
    """Return the settings of a table by name, in the order in which they are decided and shown."""
    found = {}
    for item in fields(table):
        if "setting" in item.metadata:
            told = item.metadata["setting"]
            variable = told["variable"] or PREFIX + item.name.upper()
            kind = _toml_type(str(item.type))
            found[item.name] = Setting(name=item.name, **{**told, "variable": variable}, type=kind)
    return found


def _toml_type(annotation: str) -> type:
    """Return what a field with an annotation is in TOML."""
    kinds = {"int": int, "bool": bool, "Mapping": dict}
    return next((kind for name, kind in kinds.items() if annotation.startswith(name)), str)


@dataclass(frozen=True, kw_only=True)
class Givers:
    """Who may have given a value.

    Attributes:
        environ: Variables.
        arguments: What the decorator says, by field; None counts as not said.
        profile: The active profile; None for none.
        project: What the project's file says; None when there is none.
        is_profile_last: Whether that file's values come before the profile's, which it names
            itself, or which is only remembered.
    """

    environ: Mapping[str, str]
    arguments: Mapping[str, object] = field(default_factory=dict)
    profile: Profile | None = None
    project: ProjectSettings | None = None
    is_profile_last: bool = False

    def given(self, setting: Setting) -> tuple[object, Source] | None:
        """Return the value that wins, and who gave it; None when nobody did."""
        if self.arguments.get(setting.name) is not None:
            return self.arguments[setting.name], Source("argument", f"{setting.name}=")
        own = self.environ.get(setting.variable, "").strip()
        if own:
            return own, Source("environment", setting.variable)
        saved, project = self._saved(setting), self.project and self.project.given(setting)
        found = (project or saved) if self.is_profile_last else (saved or project)
        if found:
            return found
        googles = setting.googles and self.environ.get(setting.googles, "").strip()
        if googles:
            return _googles(setting.googles, googles), Source("environment", setting.googles)
        return None

    def _saved(self, setting: Setting) -> tuple[object, Source] | None:
        """Return what the active profile says."""
        if self.profile is None or self.profile.values.get(setting.name) is None:
            return None
        return self.profile.values[setting.name], Source("profile", self.profile.name)

    def resolve(self, table: type) -> tuple[dict[str, Any], dict[str, Source]]:
        """Return the value of each setting of a table, and where it came from.

        Raises:
            ConfigurationError: A value cannot be.
        """
        values: dict[str, Any] = {}
        sources: dict[str, Source] = {}
        for name, setting in rows(table).items():
            given = self.given(setting)
            if given is None:
                default = setting.default
                values[name] = default(values) if callable(default) else default
                sources[name] = DEFAULT
            else:
                value, sources[name] = given
                values[name] = setting.parse(value, label(name, sources[name]))
        return values, sources


def _googles(name: str, value: str) -> str:
    """Return the value of one of Google's variables; emulators are named without a scheme."""
    if name == "STORAGE_EMULATOR_HOST" and "://" not in value:
        return f"http://{value}"
    return value


def label(name: str, source: Source) -> str:
    """Return what to call a setting in an error."""
    if source.kind == "profile":
        return f"{name} of profile {source.name!r}"
    if source.kind == "pyproject":
        return f"{source.name}: {name}"
    return source.name
