"""One line of a requirements file, or one requirement of a list: what it is, and where it stands.

A line is a requirement from an index or a URL, a package on this machine, or an option. uv is
what understands it; here it is only told apart, named, and brought into one form.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from kinetic_flows.core.errors import DependencyError
from kinetic_flows.dependencies.redaction import written_credentials

LineKind = Literal["requirement", "local", "option"]
EDITABLE = re.compile(r"^(?:-e|--editable)(?:=\s*|\s+)(?P<target>[^=].*)$")
VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
NAMED_URL = re.compile(r"^\s*(?P<name>[A-Za-z0-9][\w.-]*\s*(?:\[[^\]]*\])?)\s*@\s*(?P<url>\S+)")
_HASH = re.compile(r"\s+--hash(?:=|\s+)(?P<hash>[a-z0-9]+:[0-9a-fA-F]+)")
# As in uv, a semicolon begins a marker only beside white space: it may stand in a path.
_MARKER = r"(?:(?:\s+;\s*|;\s+)(?P<marker>.+))?$"
_PATH_PARTS = re.compile(r"^(?P<path>.+?)(?P<extras>\[[^\]]*\])?" + _MARKER)
_NAMED_PARTS = re.compile(r"^(?P<path>.+?)(?P<extras>)" + _MARKER)
_QUOTED = re.compile(r"""^(?P<quote>['"])(?P<text>(?:(?!(?P=quote)).)+)(?P=quote)$""")
_ARCHIVE_SUFFIXES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The file and line that a requirement comes from.

    Attributes:
        file: The file; None for the decorator's list.
        line: Line number from 1, or index in the list.
    """

    file: Path | None
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.file else f"requirements[{self.line}]"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One logical line.

    Attributes:
        kind: A requirement from an index or URL, a package on this machine, or an option.
        text: The line without comment and hashes, its local path made absolute.
        origin: Where it stands.
        name: Canonical name of the package; None where the line does not say.
        hashes: Digests that the line allows, as `algorithm:hex`.
        path: The local package's directory or archive; None for the other kinds.
        kept: Whether its comment asks to keep it (`# kn:keep`).
        index: The table of the index it must come from; None for any.
    """

    kind: LineKind
    text: str
    origin: Origin
    name: str | None = None
    hashes: tuple[str, ...] = ()
    path: Path | None = None
    kept: bool = False
    index: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Directories:
    """What relative paths in a line can be relative to, most likely first."""

    candidates: tuple[Path, ...]

    def resolve(self, text: str) -> Path:
        """Return the path that is there, else the most likely one."""
        options = [lexical_path(base / expanded_user(text)) for base in self.candidates]
        return next((path for path in options if _is_package(path)), options[0])


def classify(text: str, origin: Origin, directories: Directories, *, kept: bool = False) -> Line:
    """Say what one requirement line is (options and includes are dealt with before).

    Raises:
        DependencyError: The line carries a credential.
    """
    refuse_credentials(text, origin)
    hashes = tuple(match["hash"].lower() for match in _HASH.finditer(text))
    bare = _HASH.sub("", text).strip()
    editable = EDITABLE.match(bare)
    target = _unquoted(editable["target"].strip()) if editable else bare
    if looks_local(_location(target)) or (editable and _names_a_path(target, origin)):
        local = _local_line(target, origin, directories)
        return replace(local, hashes=hashes, kept=kept)
    return Line(
        kind="requirement",
        text=_with_egg_name(target),
        origin=origin,
        name=requirement_name(target),
        hashes=hashes,
        kept=kept,
    )


def requirement_name(text: str) -> str | None:
    """Return the canonical name of the package a requirement asks for, if it says."""
    try:
        return canonicalize_name(Requirement(VARIABLE.sub("x", text)).name)
    except InvalidRequirement:
        match = re.match(r"\s*([A-Za-z0-9][\w.-]*)", text)
        is_url = "://" in text.split("@")[0]
        return canonicalize_name(match[1]) if match and not is_url else None


def normalized(line: Line) -> str:
    """Return the one form of a line that white space, case and separators do not change."""
    try:
        requirement = Requirement(line.text)
    except InvalidRequirement:
        return " ".join(line.text.split())
    extras = ",".join(sorted({canonicalize_name(extra) for extra in requirement.extras}))
    head = canonicalize_name(requirement.name) + (f"[{extras}]" if extras else "")
    body = f" @ {requirement.url}" if requirement.url else str(requirement.specifier)
    return head + body + (f" ; {requirement.marker}" if requirement.marker else "")


def passed_on(line: Line) -> str:
    """Return a line as uv is given it."""
    return line.text if line.kind == "option" else normalized(line)


def refuse_credentials(text: str, origin: Origin) -> None:
    """Refuse a text with a credential written into a URL.

    Raises:
        DependencyError: It has one; the message names the place, never the credential.
    """
    found = written_credentials(text)
    if found is not None:
        raise DependencyError(
            f"{origin}: a credential is written in {found}",
            value=str(origin),
            hint="take it out of the file: use ${VARIABLE} in its place, ~/.netrc, or"
            " UV_INDEX_<NAME>_USERNAME and UV_INDEX_<NAME>_PASSWORD for a named index",
        )


def without_secrets(text: str) -> str:
    """Return a text as it may be shown."""
    return written_credentials(text) or text


def looks_local(text: str) -> bool:
    """Whether a requirement without a name is a path on this machine."""
    if text.startswith("file:"):
        return True
    if "://" in text or " @ " in text:
        return False
    head = re.split(r"[\s;\[]", text, maxsplit=1)[0]
    return (
        head in (".", "..")
        or head.startswith(("./", "../", "/", "~/"))
        or ("/" in head and "@" not in head)
        or head.lower().endswith(_ARCHIVE_SUFFIXES)
    )


def file_path(text: str) -> str:
    """Return the path in a `file:` URL, or a path as it is."""
    if not text.startswith("file:"):
        return text
    without_host = re.sub(r"^file://[^/]*", "", text) if text.startswith("file://") else text[5:]
    return unquote(without_host.partition("#")[0])


def lexical_path(path: Path) -> Path:
    """Return an absolute path without `..`, symlinks left as they are named."""
    return Path(os.path.normpath(path.absolute()))


def expanded_user(text: str) -> Path:
    """Return a path with `~` expanded, where there is such a user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)


def _location(target: str) -> str:
    """Return the path or URL of a requirement that has one, else the requirement."""
    named = NAMED_URL.match(target)
    return named["url"] if named else target


def _unquoted(target: str) -> str:
    """Return a target without quotes around the whole of it, as shells and pip take them."""
    quoted = _QUOTED.match(target)
    return quoted["text"] if quoted else target


def _names_a_path(target: str, origin: Origin) -> bool:
    """Whether what is to be editable is a directory: a bare name is, too.

    Raises:
        DependencyError: It is a requirement of an index, which cannot be editable.
    """
    if "://" in target:
        return False
    try:
        requirement = Requirement(target)
    except InvalidRequirement:
        return True
    if requirement.specifier:
        raise DependencyError(
            f"{origin}: -e {target} cannot be editable, since it comes from an index",
            value=target,
            hint=f"write {target}, or the directory of the package after -e",
        )
    return True


def _local_line(target: str, origin: Origin, directories: Directories) -> Line:
    named = NAMED_URL.match(target)
    url = named["url"] if named else target
    rest = target[named.end() :] if named else ""
    parts = (_NAMED_PARTS if named else _PATH_PARTS).match(url + rest)
    if parts is None or "\0" in url:
        raise DependencyError(
            f"{origin}: {without_secrets(target)!r} is not a path",
            value=without_secrets(target),
            hint="write the package's directory or archive, such as ./libs/package",
        )
    path = directories.resolve(file_path(parts["path"].strip()))
    if not path.exists():
        raise DependencyError(
            f"{origin}: {without_secrets(target)} does not exist",
            value=str(path),
            hint=f"looked for {path}",
        )
    if not _is_package(path):
        raise DependencyError(
            f"{origin}: {path} is not a Python package",
            value=str(path),
            hint="it has neither pyproject.toml nor setup.py",
        )
    head = f"{named['name'].strip()} @ {path.as_uri()}" if named else str(path)
    extras = parts["extras"] or ""
    marker = f" ; {parts['marker'].strip()}" if parts["marker"] else ""
    name = requirement_name(target) if named else None
    return Line(kind="local", text=head + extras + marker, origin=origin, name=name, path=path)


def _with_egg_name(text: str) -> str:
    """Give an unnamed URL with `#egg=name` its name, the form every tool reads."""
    match = re.search(r"[#&]egg=([A-Za-z0-9][\w.-]*(?:\[[^\]]*\])?)", text)
    return f"{match[1]} @ {text}" if match and not NAMED_URL.match(text) else text


def _is_package(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg"))
    return path.is_file()
