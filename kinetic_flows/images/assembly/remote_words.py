"""What an assembler that runs elsewhere prints, and what is read of it here. Pure.

kinetic: 3 of 41 layers are made
kinetic error: numpy-2.1.0-….whl does not match its sha256 digest
kinetic hint: run again
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from kinetic_flows.core.errors import KineticError

_WE = "kinetic"
_WARNING = "warning: "
_LINE = re.compile(rf"^{_WE}(?P<kind>| error| hint): (?P<text>.*)$")
_STEP = re.compile(r'^Step #\d+(?: - "[^"]*")?: ')
"""Cloud Build puts a step's name before what it prints."""


def without_step(line: str) -> str:
    """Return a line of a build's log without the name of the step that printed it."""
    return _STEP.sub("", line)


def progress_line(text: str) -> str:
    """Return the line by which an assembler says what it is doing."""
    return f"{_WE}: {text}"


def failure_lines(error: KineticError) -> Iterator[str]:
    """Yield the lines by which an assembler says why it failed, and what to do."""
    for line in error.message.splitlines():
        yield f"{_WE} error: {line}"
    for line in (error.hint or "").splitlines():
        yield f"{_WE} hint: {line}"


def progress_in(line: str) -> str | None:
    """Return what an assembler does from a line of its output on; None for another line."""
    match = _LINE.match(without_step(line))
    return match["text"] if match and not match["kind"] else None


def as_from_elsewhere(line: str) -> str:
    """Return a line of an assembler here, a warning as one elsewhere would print it."""
    return progress_line(line) if line.startswith(_WARNING) else line


def warning_in(line: str) -> str | None:
    """Return what an assembler warns of; None for another line."""
    text = progress_in(line) or ""
    return text.removeprefix(_WARNING) if text.startswith(_WARNING) else None


def failure_in(lines: Iterable[str]) -> tuple[str, str] | None:
    """Return why an assembler failed and what to do; None where its output does not say so."""
    found: dict[str, list[str]] = {" error": [], " hint": []}
    for match in map(_LINE.match, map(without_step, lines)):
        if match and match["kind"]:
            found[match["kind"]].append(match["text"])
    if not found[" error"]:
        return None
    return "\n".join(found[" error"]), "\n".join(found[" hint"])
