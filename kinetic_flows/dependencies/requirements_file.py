"""Reading requirements files into logical lines, each with the place it came from.

uv is what understands the lines. Reading them here serves four ends: accelerator packages are
left out line by line, every file and directory that matters is known before uv starts, errors
can name file and line, and what is passed on has one form whatever its comments and order.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from kinetic_flows.dependencies.redaction import written_credentials
from kinetic_flows.errors import DependencyError

KEEP_MARK = "kn:keep"

LineKind = Literal["requirement", "local", "option"]

_COMMENT = re.compile(r"(^|\s+)#.*$")
_INCLUDE = re.compile(
    r"^(?P<flag>-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(?P<path>.+)$"
)
_EDITABLE = re.compile(r"^(?:-e|--editable)(?:\s*=\s*|\s+)(?P<target>.+)$")
_HASH = re.compile(r"\s+--hash(?:=|\s+)(?P<hash>[a-z0-9]+:[0-9a-fA-F]+)")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_NAMED_URL = re.compile(r"^\s*(?P<name>[A-Za-z0-9][\w.-]*\s*(?:\[[^\]]*\])?)\s*@\s*(?P<url>\S+)")
_PATH_PARTS = re.compile(r"^(?P<path>.+?)(?P<extras>\[[^\]]*\])?(?:\s+;\s*(?P<marker>.+))?$")
_ARCHIVE_SUFFIXES = (".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a line stands.

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
class RequirementLines:
    """What a requirements file declares, its includes unfolded.

    Attributes:
        lines: Requirements, local packages and options, in order.
        constraints: The lines of `-c` files.
        files: Every file that was read.
    """

    lines: tuple[Line, ...]
    constraints: tuple[Line, ...] = ()
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Directories:
    """What relative paths in a line can be relative to, most likely first."""

    candidates: tuple[Path, ...]

    def resolve(self, text: str) -> Path:
        """Return the path that is there, else the most likely one."""
        options = [_lexical(base / Path(text).expanduser()) for base in self.candidates]
        return next((path for path in options if _is_package(path)), options[0])


def read_requirements(
    path: Path, *, working_directory: Path, environ: Mapping[str, str]
) -> RequirementLines:
    """Read a requirements file and everything it includes.

    Args:
        path: The file.
        working_directory: What local paths are relative to, as for pip and uv; where nothing
            is there, the directory of the file that names them is tried.
        environ: Values of `${VARIABLES}` in names of files and directories.

    Raises:
        DependencyError: A file cannot be read, or a line must not be used.
    """
    reader = _Reader(working_directory, environ)
    reader.read(path, included_from=None, as_constraint=False)
    return RequirementLines(
        lines=tuple(reader.lines), constraints=tuple(reader.constraints), files=tuple(reader.files)
    )


def requirement_list(items: Sequence[str], *, base: Path) -> RequirementLines:
    """Read the decorator's list: requirements and local paths, never options.

    Raises:
        DependencyError: An item is not one requirement.
    """
    directories = Directories(candidates=(base,))
    lines = []
    for index, item in enumerate(items):
        origin = Origin(file=None, line=index)
        _check_list_item(item, origin)
        lines.append(classify(item.strip(), origin, directories))
    return RequirementLines(lines=tuple(lines))


def classify(text: str, origin: Origin, directories: Directories, *, kept: bool = False) -> Line:
    """Say what one requirement line is (options and includes are dealt with before).

    Raises:
        DependencyError: The line carries a credential.
    """
    refuse_credentials(text, origin)
    hashes = tuple(match["hash"].lower() for match in _HASH.finditer(text))
    bare = _HASH.sub("", text).strip()
    editable = _EDITABLE.match(bare)
    target = editable["target"].strip().strip("'\"") if editable else bare
    local = _local_line(target, origin, directories)
    if local is not None:
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
        return canonicalize_name(Requirement(_VARIABLE.sub("x", text)).name)
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


def decode(data: bytes, path: Path) -> str:
    """Decode a dependency file: UTF-8, or UTF-16 with its byte order mark.

    Raises:
        DependencyError: It is neither; the message names the line.
    """
    encoding = "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DependencyError(
            f"{path}:{line}: not UTF-8 text (byte 0x{data[error.start]:02x})",
            value=str(path),
            hint="save the file as UTF-8",
        ) from error


class _Reader:
    """Unfolds one requirements file; collects lines in the order they apply."""

    def __init__(self, working_directory: Path, environ: Mapping[str, str]) -> None:
        self.working_directory = working_directory
        self.environ = environ
        self.lines: list[Line] = []
        self.constraints: list[Line] = []
        self.files: list[Path] = []
        self._seen: set[tuple[Path, bool]] = set()

    def read(self, path: Path, *, included_from: Origin | None, as_constraint: bool) -> None:
        if (path, as_constraint) in self._seen:
            return
        self._seen.add((path, as_constraint))
        text = decode(_read_bytes(path, included_from), path)
        if path not in self.files:
            self.files.append(path)
        for number, logical, kept in logical_lines(text):
            origin = Origin(file=path, line=number)
            self._take(logical, origin, kept=kept, as_constraint=as_constraint)

    def _take(self, text: str, origin: Origin, *, kept: bool, as_constraint: bool) -> None:
        include = _INCLUDE.match(text)
        target = self.constraints if as_constraint else self.lines
        if include is not None:
            self._include(include, origin, as_constraint=as_constraint)
        elif text.startswith("-") and not _EDITABLE.match(text):
            self.lines.append(self._option(text, origin))
        else:
            target.append(
                classify(self._expanded(text), origin, self._directories(origin), kept=kept)
            )

    def _include(self, include: re.Match[str], origin: Origin, *, as_constraint: bool) -> None:
        name = self._expanded(include["path"].strip().strip("'\""))
        if "://" in name and not name.startswith("file://"):
            raise DependencyError(
                f"{origin}: includes the URL {without_secrets(name)}",
                value=without_secrets(name),
                hint="download the file into the project and include it from there,"
                " so that everybody locks the same",
            )
        assert origin.file is not None
        path = _lexical(origin.file.parent / Path(_file_path(name)).expanduser())
        is_constraint = as_constraint or include["flag"] in ("-c", "--constraint")
        self.read(path, included_from=origin, as_constraint=is_constraint)

    def _option(self, text: str, origin: Origin) -> Line:
        refuse_credentials(text, origin)
        flag, _, value = re.sub(r"[=\s]+", " ", text, count=1).partition(" ")
        value = value.strip().strip("'\"")
        if flag in ("-f", "--find-links") and "://" not in self._expanded(value):
            value = str(self._directories(origin).resolve(self._expanded(value)))
        return Line(kind="option", text=f"{flag} {value}".strip(), origin=origin)

    def _directories(self, origin: Origin) -> Directories:
        own = origin.file.parent if origin.file else self.working_directory
        return Directories(candidates=(self.working_directory, own))

    def _expanded(self, text: str) -> str:
        """Expand variables where the line is a path; URLs are left to uv, secrets and all."""
        if "://" in text and "file://" not in text:
            return text
        return _VARIABLE.sub(lambda match: self.environ.get(match[1], match[0]), text)


def without_secrets(text: str) -> str:
    """Return a text as it may be shown."""
    return written_credentials(text) or text


def logical_lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Yield line number, text without comment, and whether the comment says to keep it."""
    pending, first, kept = "", 0, False
    for number, raw in enumerate([*text.splitlines(), ""], start=1):
        first = first or number
        comment = _COMMENT.search(raw)
        kept = kept or bool(comment and KEEP_MARK in comment[0])
        body = _COMMENT.sub("", raw)
        if body.endswith("\\") and not comment:
            pending += body[:-1] + " "
            continue
        logical = (pending + body).strip()
        if logical:
            yield first, logical, kept
        pending, first, kept = "", 0, False


def _check_list_item(item: object, origin: Origin) -> None:
    if not isinstance(item, str) or not item.strip():
        raise DependencyError(
            f"{origin} is {item!r}", value=item, hint="give each requirement as text: 'numpy>=2'"
        )
    text = item.strip()
    if text.startswith("-") or "\n" in text or "\r" in text or re.search(r"\s--?\w", text):
        raise DependencyError(
            f"{origin} is {without_secrets(text)!r}, which is an option, not a requirement",
            value=without_secrets(text),
            hint="the list takes requirements and local paths; put options in a requirements file",
        )
    if _looks_local(text) or _NAMED_URL.match(text):
        return
    try:
        Requirement(text)
    except InvalidRequirement as error:
        raise DependencyError(
            f"{origin} is not a requirement: {error}",
            value=text,
            hint="write 'numpy>=2', 'package @ https://…' or './libs/package'",
        ) from error


def _local_line(target: str, origin: Origin, directories: Directories) -> Line | None:
    named = _NAMED_URL.match(target)
    url = named["url"] if named else target
    if not _looks_local(url):
        return None
    rest = target[named.end() :] if named else ""
    parts = _PATH_PARTS.match(url + rest)
    assert parts is not None
    path = directories.resolve(_file_path(parts["path"].strip()))
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
    extras = "" if named else parts["extras"] or ""
    marker = f" ; {parts['marker'].strip()}" if parts["marker"] else ""
    name = requirement_name(target) if named else None
    return Line(kind="local", text=head + extras + marker, origin=origin, name=name, path=path)


def _looks_local(text: str) -> bool:
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


def _file_path(text: str) -> str:
    if not text.startswith("file:"):
        return text
    return unquote(urlsplit(text).path) if text.startswith("file://") else unquote(text[5:])


def _with_egg_name(text: str) -> str:
    """Give an unnamed URL with `#egg=name` its name, the form every tool reads."""
    match = re.search(r"[#&]egg=([A-Za-z0-9][\w.-]*(?:\[[^\]]*\])?)", text)
    return f"{match[1]} @ {text}" if match and not _NAMED_URL.match(text) else text


def _is_package(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in ("pyproject.toml", "setup.py", "setup.cfg"))
    return path.is_file()


def _lexical(path: Path) -> Path:
    """Return an absolute path without `..`, symlinks left as they are named."""
    import os

    return Path(os.path.normpath(path.absolute()))


def _read_bytes(path: Path, included_from: Origin | None) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        where = f"{included_from}: " if included_from else ""
        raise DependencyError(
            f"{where}{path} cannot be read: {error.strerror}",
            value=str(path),
            hint="check the path and its permissions",
        ) from error
