"""Texts as names and tags take them."""

from __future__ import annotations

import re


def slug(text: str) -> str:
    """Reduce a text to lower-case letters, digits and dashes, for names and tags."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "run"
