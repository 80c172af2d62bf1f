"""What an API server warns of beside its answers."""

from __future__ import annotations

import re

_WARNING = re.compile(r'\d{3} \S+ "((?:[^"\\]|\\.)*)"')


def warning_text(header: str) -> str:
    """Return what a Warning header says: `299 - "text"`, with quotes in the text escaped.

    https://www.rfc-editor.org/rfc/rfc7234#section-5.5
    """
    found = _WARNING.match(header)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else header
