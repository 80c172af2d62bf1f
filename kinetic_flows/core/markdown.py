"""Markdown of texts that are whatever somebody named, passed or raised.

It is written so that every renderer shows the same. Prefect's own shows character references as
they stand, and takes a backslash before a pipe in code for the end of a table's cell.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from kinetic_flows.core.display import for_line

_MARKUP = re.compile(r"[\\`*_{}\[\]<>&|~#!$]")
_AWKWARD_IN_CODE = re.compile(r"`|\\\||^\s|\s$|\s\s")
_URL_CHARACTERS = ":/?#[]@!$&'*+,;=%~-._"


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


def link(words: str, url: str | None) -> str:
    """Return a link; the text as code where there is nothing to link to."""
    return f"[{text(words)}]({quote(url, safe=_URL_CHARACTERS)})" if url else code(words)


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return rows of a label and a cell as a table; empty cells leave their row out.

    The first of them is its head: a table has to have one, and an empty one is shown, too.

    Args:
        rows: The rows; their cells are Markdown.
    """
    lines = [f"| {label} | {cell} |" for label, cell in rows if cell]
    return "\n".join([*lines[:1], "| --- | --- |", *lines[1:]]) if lines else ""


def shortened(words: str, characters: int) -> str:
    """Return a text of so many characters at most, with its middle left out."""
    if len(words) <= characters:
        return words
    end = characters // 3
    return f"{words[: characters - end - 1]}…{words[-end:]}"


def _line(words: str) -> str:
    readable = words.encode("utf-8", "backslashreplace").decode()
    return for_line(readable).replace("\t", " ")
