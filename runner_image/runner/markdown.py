"""Markdown of texts that are whatever somebody named, printed or raised.

It is what `kinetic_flows/core/markdown.py` makes of the same texts, which says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_MARKUP = re.compile(r"[\\`*_{}\[\]<>&|~#!$]")
_AWKWARD_IN_CODE = re.compile(r"`|\\\||^\s|\s$|\s\s")
_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
_ORDERS = re.compile(
    r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
"""As `kinetic_flows/core/display.py` has them."""


def text(words: str) -> str:
    """Return a text that is shown as it is, in one line, within a table too."""
    return _MARKUP.sub(lambda match: f"\\{match[0]}", _line(words))


def code(words: str) -> str:
    """Return a text as code, in one line, within a table too; as text where code cannot hold it."""
    line = _line(words)
    if not line or _AWKWARD_IN_CODE.search(line):
        return text(words)
    escaped = line.replace("|", "\\|")
    return f"`{escaped}`"


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return rows of a label and a cell as a table; empty cells leave their row out.

    The first of them is its head: a table has to have one, and an empty one is shown, too.

    Args:
        rows: The rows; their cells are Markdown.
    """
    lines = [f"| {label} | {cell} |" for label, cell in rows if cell]
    return "\n".join([*lines[:1], "| --- | --- |", *lines[1:]]) if lines else ""


def _line(words: str) -> str:
    """Return a text in one line, with what is an order to whatever shows it written out."""
    readable = _COLOURS.sub("", words.encode("utf-8", "backslashreplace").decode())
    return _ORDERS.sub(_written_out, readable).replace("\t", " ")


def _written_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
