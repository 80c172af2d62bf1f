"""Where an exception came from, told so that its client can show it as its own tracebacks.

Pickling an exception leaves its tracebacks behind. So frames follow the pickle, as JSON with its
length and a mark at the end: readers of the pickle alone stop before them.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, TracebackType

FRAMES_MAGIC = b"kinetic-frames-1"
"""The end of a body that has frames; kept equal to the client's by a test."""

LINE_CHARACTERS = 500
_FRAMES = 1000
_EXCEPTIONS = 200


def frames_after(
    error: BaseException, trace: TracebackType | None, shown: Callable[[str], str]
) -> bytes:
    """Return what follows the pickle of an exception.

    Args:
        error: The exception.
        trace: Its traceback, without the frames that are not the function's.
        shown: Returns the name of a file as the client has it.
    """
    tree = _Tree(shown).of(error, trace)
    data = json.dumps({"host": socket.gethostname(), "raised": tree}).encode()
    return data + struct.pack(">Q", len(data)) + FRAMES_MAGIC


class _Tree:
    """Describes an exception, those that led to it and those that it groups."""

    def __init__(self, shown: Callable[[str], str]) -> None:
        self._shown = shown
        self._seen: set[int] = set()

    def of(self, error: BaseException | None, trace: TracebackType | None) -> Any:
        """Return the description of an exception; None for one that is described already."""
        if error is None or id(error) in self._seen or len(self._seen) >= _EXCEPTIONS:
            return None
        self._seen.add(id(error))
        node: dict[str, Any] = {"frames": [self._frame(each) for each in _ends_of(trace)]}
        context = None if error.__suppress_context__ else error.__context__
        for name, other in (("cause", error.__cause__), ("context", context)):
            if other is not None:
                node[name] = self.of(other, other.__traceback__)
        members = getattr(error, "exceptions", None)
        if isinstance(members, tuple):
            node["members"] = [
                self.of(each, each.__traceback__) if isinstance(each, BaseException) else None
                for each in members
            ]
        return node

    def _frame(self, trace: TracebackType) -> dict[str, Any]:
        import linecache

        frame = trace.tb_frame
        code = frame.f_code
        line = linecache.getline(code.co_filename, trace.tb_lineno, frame.f_globals)
        return {
            "file": self._shown(code.co_filename),
            "name": code.co_name,
            "first_line": code.co_firstlineno,
            "line": trace.tb_lineno,
            "text": line.strip()[:LINE_CHARACTERS],
            "place": _place(code, trace.tb_lasti, trace.tb_lineno),
        }


def _ends_of(trace: TracebackType | None) -> list[TracebackType]:
    """Return a traceback's entries, of very many the first and the last."""
    entries = list(_entries(trace))
    half = _FRAMES // 2
    return entries if len(entries) <= _FRAMES else entries[:half] + entries[-half:]


def _entries(trace: TracebackType | None) -> Iterator[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _place(code: CodeType, instruction: int, line: int) -> list[int] | None:
    """Return the last line, and the first and last column, of what a frame was at."""
    if not hasattr(code, "co_positions"):  # since Python 3.11
        return None
    found = next(islice(code.co_positions(), instruction // 2, None), (None,) * 4)
    first_line, last_line, column, last_column = found
    if first_line != line or last_line is None or column is None or last_column is None:
        return None
    return [last_line, column, last_column]
