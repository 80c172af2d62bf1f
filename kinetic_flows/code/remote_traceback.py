"""The tracebacks that exceptions had in a run, made again in this process.

The runner tells of each frame its file, as it is named here, its line and the columns in it
(`runner_image/runner/frames.py`). Frames cannot be made, only entered: so for each a function is
compiled that raises at just that place of just that file. Whatever shows tracebacks shows them as
its own: the interpreter, notebooks, pytest, debuggers.
"""

from __future__ import annotations

import ast
import json
import linecache
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType, FunctionType, TracebackType
from typing import Any

FRAMES_MAGIC = b"kinetic-frames-1"
_LENGTH = struct.Struct(">Q")

LINE_CHARACTERS = 500
"""How much of a line the runner tells, at most; kept equal to its own by a test."""

MAX_CHANGES = 3
"""How many lines that have changed since are told of."""


@dataclass(frozen=True, kw_only=True)
class RemoteFrames:
    """Where an exception came from.

    Attributes:
        host: The name of the machine it was raised on.
        tree: What the runner says of it, of those that led to it and of those that it groups.
    """

    host: str
    tree: Mapping[str, Any]

    def trace(self) -> TracebackType | None:
        """Return the traceback of the exception itself; None where nothing is known of it."""
        return _trace(self.tree.get("frames") or ())

    def dress(self, error: BaseException) -> None:
        """Give the exceptions that led to an exception, or are in it, their tracebacks."""
        for other, node in _around(error, self.tree):
            other.with_traceback(_trace(node.get("frames") or ()))
            RemoteFrames(host=self.host, tree=node).dress(other)

    def changes(self) -> list[str]:
        """Say which lines are not here what they were there."""
        found = dict.fromkeys(
            f"{each['file']} has changed since: its line {each['line']} was `{each['text']}`"
            for each in self.tree.get("frames") or ()
            if each["text"] and _line_here(each) not in ("", each["text"])
        )
        return list(found)[-MAX_CHANGES:]


def split_frames(body: bytes | memoryview) -> tuple[bytes, RemoteFrames | None]:
    """Return the pickle in a body, and the frames behind it; None where there are none."""
    body = bytes(body)
    if not body.endswith(FRAMES_MAGIC):
        return body, None
    end = len(body) - len(FRAMES_MAGIC) - _LENGTH.size
    (size,) = _LENGTH.unpack_from(body, end)
    told = json.loads(body[end - size : end])
    return body[: end - size], RemoteFrames(host=told["host"], tree=told["raised"])


def _around(
    error: BaseException, node: Mapping[str, Any]
) -> Iterator[tuple[BaseException, Mapping[str, Any]]]:
    """Yield the exceptions around one, each with what is known of it."""
    members = getattr(error, "exceptions", None)
    pairs = [(error.__cause__, node.get("cause")), (error.__context__, node.get("context"))]
    if isinstance(members, tuple):
        pairs += zip(members, node.get("members") or (), strict=False)
    for other, told in pairs:
        if isinstance(other, BaseException) and told:
            yield other, told


def _trace(frames: list[Mapping[str, Any]] | tuple[()]) -> TracebackType | None:
    trace: TracebackType | None = None
    for each in reversed(frames):
        _show_lines(each)
        entered = _entered(each)
        trace = TracebackType(trace, entered.tb_frame, entered.tb_lasti, entered.tb_lineno)
    return trace


def _entered(told: Mapping[str, Any]) -> TracebackType:
    """Return the entry of a traceback at the place of a frame."""
    file, name, first_line, line = (told[key] for key in ("file", "name", "first_line", "line"))
    whole_line = (line, -1, -1)
    try:
        code = _code(file, name, first_line, (line, *(told["place"] or whole_line)))
    except ValueError:
        # Libraries that make code may have it at places where no source can be.
        code = _code(file, name, first_line, (line, *whole_line))
    try:
        FunctionType(code, {"__name__": name, "__file__": file})()
    except NameError as error:
        # The first entry is this function's.
        trace = error.__traceback__ and error.__traceback__.tb_next
    if trace is None:
        raise LookupError(f"{file} raised nothing at line {line}")
    return trace


@lru_cache(maxsize=128)
def _code(file: str, name: str, first_line: int, place: tuple[int, int, int, int]) -> CodeType:
    """Compile a function that fails at the place of a frame.

    The same for all frames of a recursion: by that the interpreter knows which lines to leave out.
    """
    tree = ast.parse("def function():\n    raise raised_in_a_run")
    (function,) = tree.body
    for node in ast.walk(function):
        _put(node, *place)
    first = min(first_line, place[0])
    _put(function, first, first, -1, -1)
    module = compile(tree, file, "exec")
    code = next(each for each in module.co_consts if isinstance(each, CodeType))
    return code.replace(co_name=name, co_qualname=name)


def _put(node: ast.AST, line: int, last_line: int, column: int, last_column: int) -> None:
    """Say where a node is; columns of -1 are none."""
    place = {"lineno": line, "end_lineno": last_line, "col_offset": column}
    vars(node).update(place, end_col_offset=last_column)


def _line_here(told: Mapping[str, Any]) -> str:
    """Return what is told of a frame's line, as it is here; empty where there is no such line."""
    linecache.checkcache(told["file"])
    return linecache.getline(told["file"], told["line"]).strip()[:LINE_CHARACTERS]


def _show_lines(told: Mapping[str, Any]) -> None:
    """Let the line of a file that is not here be shown: packages in an image, for instance."""
    file, number = told["file"], told["line"]
    if not told["text"] or (_line_here(told) or Path(file).exists()):
        return
    known = linecache.cache.get(file)
    lines = list(known[2]) if known and len(known) == 4 else []
    lines += ["\n"] * (number - len(lines))
    lines[number - 1] = f"{told['text']}\n"
    linecache.cache[file] = (sum(map(len, lines)), None, lines, file)
