"""Layers as values: what one is made of, and what is known of one that was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FORMAT_VERSION = 1
"""Version of how wheels are laid out, ordered and written: another one, other layers."""

SITE_PACKAGES = "usr/local/lib/python3/site-packages"
"""Where packages lie, whatever the minor version of Python.

`usr/local/lib/python3.11/site-packages` is a link to it, so that a wheel that any Python takes is
the same layer in the images of all of them.
"""
SCRIPTS = "usr/local/bin"
PREFIX = "usr/local"
INTERPRETER = "/usr/local/bin/python3"


@dataclass(frozen=True, kw_only=True)
class WheelFacts:
    """What a wheel says of itself, for judging an image without its wheels.

    Attributes:
        name: The package's canonical name.
        version: Its version.
        sha256: Digest of the wheel.
        requires: Its `Requires-Dist` lines.
        requires_python: Its `Requires-Python`; empty for any.
        files: What it puts into an image: the path, with the digest of the content (SHA-256, its
            first 16 digits). Bytecode and `RECORD` are not among them.
        source_bytes: Size of its Python sources, which are what bytecode is made of.
    """

    name: str
    version: str
    sha256: str
    requires: tuple[str, ...]
    requires_python: str
    files: Mapping[str, str]
    source_bytes: int


@dataclass(frozen=True, kw_only=True)
class LayerBlob:
    """A layer as a registry keeps it.

    Attributes:
        digest: Digest of its compressed bytes (`sha256:…`).
        diff_id: Digest of its uncompressed bytes (`sha256:…`).
        size_bytes: Size of its compressed bytes.
    """

    digest: str
    diff_id: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class MadeLayer:
    """A layer that was made here.

    Attributes:
        blob: Its digests and size.
        path: The file with its compressed bytes.
        facts: Of each wheel in it.
    """

    blob: LayerBlob
    path: Path
    facts: tuple[WheelFacts, ...] = ()
