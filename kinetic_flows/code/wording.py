"""How paths, sizes and lists of them are written in messages."""

from __future__ import annotations

import os
from collections.abc import Sequence


def printable(path: str) -> str:
    """Write a file name so that it fits on a line, whatever its bytes are."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return text if text.isprintable() else ascii(text)[1:-1]


def listed(paths: Sequence[str], *, limit: int) -> str:
    """Write the first few of many paths, and how many more there are."""
    shown = ", ".join(printable(path) for path in paths[:limit])
    more = len(paths) - limit
    return f"{shown} and {more} more" if more > 0 else shown


def megabytes(size_bytes: int) -> str:
    """Write a size for people."""
    return f"{size_bytes / 1e6:,.1f} MB"
