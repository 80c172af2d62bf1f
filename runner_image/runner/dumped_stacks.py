"""Reading what `faulthandler` writes: the threads of a process, each with its frames."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_THREAD = re.compile(
    r"(?:Current thread|Thread) 0x(?P<ident>[0-9a-f]+)(?: \[[^\]]*\])? \(most recent call first\):"
)
_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)')
_LEFT_OUT = "  ..."
_ESCAPED = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")


class Frame(NamedTuple):
    """A function that has been called, and has not returned.

    Attributes:
        function: Its name.
        file: Its file; the library's, of one in native code.
        line: The line that it is at; None where that is unknown.
        source: That line's text; empty where it is unknown.
        is_project: Whether it is the project's.
    """

    function: str
    file: str
    line: int | None
    source: str = ""
    is_project: bool = False


class Dumped(NamedTuple):
    """A thread as it is told.

    Attributes:
        ident: What Python calls it: `threading.Thread.ident`.
        frames: What it does, the outermost function first.
        name: Its name; empty where that is not told.
        has_lock: Whether it is known to keep Python's lock.
        native_id: What the kernel calls it; None where that is not told.
    """

    ident: int
    frames: tuple[Frame, ...]
    name: str = ""
    has_lock: bool = False
    native_id: int | None = None


def parse_dump(text: str) -> list[Dumped]:
    """Return the threads of a dump, in its order."""
    found: list[tuple[int, list[Frame]]] = []
    for line in text.splitlines():
        thread, frame = _THREAD.match(line), _FRAME.match(line)
        if thread:
            found.append((int(thread["ident"], 16), []))
        elif frame and found:
            number = int(frame["line"]) if frame["line"].isdigit() else None
            found[-1][1].append(Frame(_text(frame["function"]), _text(frame["file"]), number))
        elif line == _LEFT_OUT and found:
            found[-1][1].append(Frame("...", "", None))
    return [Dumped(ident, _outermost_first(frames)) for ident, frames in found]


def _outermost_first(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    return tuple(reversed(frames))


def _text(written: str) -> str:
    """Return a text whose characters beyond ASCII were written as numbers."""
    return _ESCAPED.sub(lambda match: chr(int(match[1] or match[2] or match[3], 16)), written)
