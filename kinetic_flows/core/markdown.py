"""Markdown of texts that are whatever somebody named, passed or raised.

Prefect's UI renders it (its own pages with `marked`, others with other renderers), so that what is
written here means the same to each: of the ways to keep a character from having a meaning, tables
and code spans disagree about the backslash, and about character references they do not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from kinetic_flows.core.display import for_line

_PLAIN = re.compile(r"[^\w\s]", re.ASCII)
_AWKWARD_IN_CODE = re.compile(r"`|\\\||^\s|\s$|\s\s")
_URL_CHARACTERS = ":/?#[]@!$&'*+,;=%~-._"


def text(words: str) -> str:
    """Return a text that is shown as it is, in one line, within a table too."""
    return re.sub(r"[\\`*_{}\[\]<>&|~#!$:@]", _reference, _line(words))


def code(words: str) -> str:
    """Return a text as code, in one line, within a table too; empty for an empty one."""
    line = _line(words)
    if not line:
        return ""
    if _AWKWARD_IN_CODE.search(line):
        return f"<code>{_PLAIN.sub(_reference, line)}</code>"
    escaped = line.replace("|", "\\|")
    return f"`{escaped}`"


def link(words: str, url: str | None) -> str:
    """Return a link; the text as code where there is nothing to link to."""
    return f"[{text(words)}]({quote(url, safe=_URL_CHARACTERS)})" if url else code(words)


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Return rows of a label and a cell as a table without a head; empty cells leave their row out.

    Args:
        rows: The rows; their cells are Markdown.
    """
    lines = [f"| {label} | {cell} |" for label, cell in rows if cell]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def shortened(words: str, characters: int) -> str:
    """Return a text of so many characters at most, with its middle left out."""
    if len(words) <= characters:
        return words
    end = characters // 3
    return f"{words[: characters - end - 1]}…{words[-end:]}"


def _line(words: str) -> str:
    readable = words.encode("utf-8", "backslashreplace").decode()
    return for_line(readable).replace("\t", " ")


def _reference(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"
