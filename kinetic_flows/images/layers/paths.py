"""Which paths a wheel may put into an image."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from kinetic_flows.core.files import printable
from kinetic_flows.images.layers.model import SITE_PACKAGES

LONGEST_NAME_BYTES = 255
LONGEST_PATH_BYTES = 4000
WHITEOUT = ".wh."
"""What the name of a file begins with that says that another one is gone.

See https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
"""

_INTERPRETER = re.compile(
    r"usr/local/(?:bin/python(?:3(?:\.\d+)?t?)?|lib/libpython3[^/]*|(?:bin/)?pyvenv\.cfg)(?:/.*)?"
)
"""What the interpreter is, and what tells it where its packages are."""

_LIBRARY = re.compile(r"usr/local/lib/python(3\.\d+)t?(?:/.*)?")
"""The standard library."""

_DIRECTORIES = frozenset(
    "/".join(parts[:count])
    for parts in (
        SITE_PACKAGES.split("/"),
        *(f"usr/local/{name}".split("/") for name in ("bin", "etc", "include", "sbin", "share")),
    )
    for count in range(1, len(parts) + 1)
)
"""What is a directory in every image."""


def wrong_name(path: str) -> str | None:
    """Say what is wrong with a relative path in a wheel; None for nothing.

    Args:
        path: Its path, with `/` between names and none at its end.
    """
    shown = printable(path)
    if path.startswith("/"):
        return f"{shown} is an absolute path"
    if "\\" in path or re.match(r"[A-Za-z]:", path):
        return f"{shown} is a path of Windows"
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in path):
        return f"{shown} has control characters in its name"
    return _wrong_part(path, shown)


def _wrong_part(path: str, shown: str) -> str | None:
    for part in path.split("/"):
        if part == "..":
            return f"{shown} climbs out of its directory"
        if part in ("", "."):
            return f"{shown} is not a plain path"
        if part.startswith(WHITEOUT):
            return f"{shown} has the name of a whiteout, which removes files of other layers"
        if len(part.encode()) > LONGEST_NAME_BYTES:
            return f"{shown[:60]}… is longer than a file name can be"
    return f"{shown[:60]}… is too long" if len(path.encode()) > LONGEST_PATH_BYTES else None


def wrong_target(path: str, python: str | None) -> str | None:
    """Say why no wheel may put a file at a path of the image; None when it may.

    Args:
        path: Its path in the image, relative to the root.
        python: The image's Python minor version; None for any.
    """
    if wrong := wrong_name(path):
        return wrong
    shown = printable(path)
    library = _LIBRARY.fullmatch(path)
    if _INTERPRETER.fullmatch(path) or (library and python in (None, library[1])):
        return f"/{shown} is the interpreter's own"
    if path in _DIRECTORIES:
        return f"/{shown} is a directory of every image"
    if path.endswith("/__pycache__"):
        return f"/{shown} is where bytecode goes"
    return None


def collision(paths: Iterable[str]) -> str | None:
    """Say which two of several paths cannot be together; None when all can.

    Names that differ only in case, or in how an accent is written, are one file on some systems.
    """
    spelled: dict[str, str] = {}
    directories: dict[str, str] = {}
    for path in paths:
        key = _folded(path)
        if other := spelled.get(key):
            if other == path:
                return f"two of its files would be /{printable(path)}"
            return f"/{printable(other)} and /{printable(path)} differ only in how they are written"
        spelled[key] = path
        parent = key
        while (parent := parent.rpartition("/")[0]) and parent not in directories:
            directories[parent] = path
    for key, path in spelled.items():
        if below := directories.get(key):
            return f"/{printable(path)} is a file, and the directory of /{printable(below)}"
    return None


def _folded(path: str) -> str:
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
