"""Reading requirements files into logical lines, each with the place it came from.

uv is what understands the lines. Reading them here serves four ends: accelerator packages are
left out line by line, every file and directory that matters is known before uv starts, errors
can name file and line, and what is passed on has one form whatever its comments and order.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from kinetic_flows.core.errors import DependencyError
from kinetic_flows.dependencies.lines import (
    EDITABLE,
    NAMED_URL,
    VARIABLE,
    Directories,
    Line,
    Origin,
    classify,
    expanded_user,
    file_path,
    lexical_path,
    looks_local,
    refuse_credentials,
    without_secrets,
)

KEEP_MARK = "kn:keep"

_COMMENT = re.compile(r"(^|\s+)#.*$")
_INCLUDE = re.compile(
    r"^(?P<flag>-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(?P<path>.+)$"
)


@dataclass(frozen=True, kw_only=True)
class RequirementLines:
    """The lines of a requirements file, its includes unfolded.

    Attributes:
        lines: Requirements, local packages and options, in order.
        constraints: The lines of `-c` files.
        files: Every file that was read.
    """

    lines: tuple[Line, ...]
    constraints: tuple[Line, ...] = ()
    files: tuple[Path, ...] = ()


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
        text, kept = _without_comment(item) if isinstance(item, str) else (item, False)
        _check_list_item(text, origin)
        lines.append(classify(text, origin, directories, kept=kept))
    return RequirementLines(lines=tuple(lines))


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


def logical_lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """Yield line number, text without comment, and whether the comment says to keep it."""
    pending, first, kept = "", 0, False
    for number, raw in enumerate([*text.splitlines(), ""], start=1):
        first = first or number
        body, keeps = _without_comment(raw, strip=False)
        kept = kept or keeps
        if body.endswith("\\") and body == raw:
            pending += body[:-1] + " "
            continue
        logical = (pending + body).strip()
        if logical:
            yield first, logical, kept
        pending, first, kept = "", 0, False


def _without_comment(text: str, *, strip: bool = True) -> tuple[str, bool]:
    """Return a text without its comment, and whether that says to keep what it is about."""
    comment = _COMMENT.search(text)
    body = _COMMENT.sub("", text)
    return body.strip() if strip else body, bool(comment and KEEP_MARK in comment[0])


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
        elif text.startswith("-") and not EDITABLE.match(text):
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
        path = lexical_path(origin.file.parent / expanded_user(file_path(name)))
        is_constraint = as_constraint or include["flag"] in ("-c", "--constraint")
        self.read(path, included_from=origin, as_constraint=is_constraint)

    def _option(self, text: str, origin: Origin) -> Line:
        refuse_credentials(text, origin)
        if text.startswith(("-e", "--editable")):
            raise DependencyError(
                f"{origin}: {text!r} does not name a directory",
                value=text,
                hint="write the directory of the package, as in `-e ./libs/package`",
            )
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
        return VARIABLE.sub(lambda match: self.environ.get(match[1], match[0]), text)


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
    if looks_local(text) or NAMED_URL.match(text):
        return
    try:
        Requirement(text)
    except InvalidRequirement as error:
        raise DependencyError(
            f"{origin} is not a requirement: {error}",
            value=text,
            hint="write 'numpy>=2', 'package @ https://…' or './libs/package'",
        ) from error


def _read_bytes(path: Path, included_from: Origin | None) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        where = f"{included_from}: " if included_from else ""
        reason = error.strerror if isinstance(error, OSError) else error
        raise DependencyError(
            f"{where}{path} cannot be read: {reason}",
            value=str(path),
            hint="check the path and its permissions",
        ) from error
