"""Where a manifest of another project is taken from: a file, or a URL."""

from __future__ import annotations

import re
from pathlib import Path

from kinetic_flows.core.errors import UsageError

_URL = re.compile(r"https?://\S+")


def is_url(source: str) -> bool:
    """Whether a manifest is fetched."""
    return bool(_URL.fullmatch(source))


def check_source(source: str, option: str) -> None:
    """Refuse a manifest that cannot be there, before anything is made.

    Args:
        source: A file or a URL.
        option: The option that names it.

    Raises:
        UsageError: It is neither.
    """
    if not is_url(source) and not Path(source).expanduser().is_file():
        raise UsageError(
            f"{option} is {source!r}, which is no file and no URL",
            value=source,
            hint="give the path of a manifest, or its URL beginning with https://",
        )
