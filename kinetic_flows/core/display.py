"""Texts of others as they may be shown: on a terminal, and in Prefect's pages.

Names, messages and values come from the user who made a run. A terminal takes some characters for
orders (to rewrite what it shows, or to put something in the clipboard), and a page takes some
for links and markup.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from textwrap import wrap

_COLOURS = re.compile(r"\x1b\[[0-9;:]*m")
_LINE_ENDS = re.compile(r"[\r\n]")
# Controls (C0, DEL, C1), and what changes the direction of text or ends a line: see
# https://www.unicode.org/reports/tr9 and CVE-2021-42574.
_ORDERS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)
_KEPT_OF_OUTPUT = re.compile(r"\x1b\[[0-9;:]*[mK]|\r")
_NARROWEST = 30
_MARKUP = re.compile(r"[\\\\\[\]<>&`*_|]")


def for_terminal(text: str) -> str:
    """Return a text without colours, and with everything else that is an order written out."""
    return _ORDERS.sub(_written_out, _COLOURS.sub("", text))


def for_line(text: str) -> str:
    """Return a text for a terminal that takes one line, whatever it holds."""
    return _LINE_ENDS.sub(_written_out, for_terminal(text))


def output_for_terminal(text: str) -> str:
    """Return what a program printed, with colours and progress bars but without other orders."""
    kept = [*_KEPT_OF_OUTPUT.finditer(text), None]
    pieces, position = [], 0
    for match in kept:
        end = match.start() if match else len(text)
        pieces.append(_ORDERS.sub(_written_out, text[position:end]))
        if match:
            pieces.append(match[0])
            position = match.end()
    return "".join(pieces)


def value_for_output(value: object) -> str:
    """Return a value as it is printed: written out on a terminal, as it is for programs."""
    return for_terminal(str(value)) if sys.stdout.isatty() else str(value)


def counted(count: int, noun: str) -> str:
    """Return a number of things: `1 file`, `3 files`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def labelled(
    rows: Iterable[tuple[str, str]], *, label_width: int = 0, columns: int | None = None
) -> str:
    """Return rows of a label and a text as lines, the labels aligned at their ends.

    Args:
        rows: The rows.
        label_width: How wide labels are at least, for what stands above and below.
        columns: How wide a line may be before its text goes on below itself; None for any width.
    """
    rows = list(rows)
    width = max((len(label) for label, _ in rows), default=0)
    width = max(width, label_width)
    indent = " " * (width + 2)
    return "\n".join(
        f"{label.rjust(width)}  {_folded(text, indent, columns)}" for label, text in rows
    )


def _folded(text: str, indent: str, columns: int | None) -> str:
    """Return a text whose further lines stand below its first; words and paths stay whole."""
    room = max((columns or 0) - len(indent), _NARROWEST)
    if columns is None or len(text) <= room:
        return text
    lines = wrap(text, room, break_long_words=False, break_on_hyphens=False)
    return f"\n{indent}".join(lines)


def for_markdown(text: str) -> str:
    """Return a text that Markdown shows as it is: no link, no image, no markup."""
    return _MARKUP.sub(lambda match: f"\\{match[0]}", text)


def _written_out(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
