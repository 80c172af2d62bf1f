"""The manifest: every file, link and directory that ships, as one canonical JSON object.

    {"version": 1, "files": [{"path": "a.py", "mode": 420, "size": 12, "sha256": "…"},
                             {"path": "latest", "link": "runs/3"},
                             {"path": "runs", "dir": true, "mode": 493}]}

Sorted by path. A name that is not UTF-8 carries its bytes as lone surrogates (PEP 383), which
JSON escapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from kinetic_flows.core.job import canonical_json

MANIFEST_VERSION = 1


class Entry(NamedTuple):
    """One thing that ships. A plain tuple: projects have thousands.

    Attributes:
        path: Relative to the root, with `/` between its parts.
        mode: Permission bits; 0 for a link.
        size_bytes: Size of a file; 0 for links and directories.
        sha256: Digest of a file's content; empty for links and directories.
        link: What a link points to, relative to its own directory; None for all else.
    """

    path: str
    mode: int = 0
    size_bytes: int = 0
    sha256: str = ""
    link: str | None = None

    @property
    def is_directory(self) -> bool:
        """Whether this is a directory."""
        return self.link is None and not self.sha256


def encode_manifest(entries: Iterable[Entry]) -> bytes:
    """Write a manifest; equal sets of entries give equal bytes."""
    files = [_to_json(entry) for entry in sorted(entries)]
    return canonical_json({"version": MANIFEST_VERSION, "files": files})


def decode_manifest(data: bytes) -> list[Entry]:
    """Read a manifest that `encode_manifest` wrote."""
    return [_from_json(item) for item in json.loads(data)["files"]]


def _to_json(entry: Entry) -> dict[str, Any]:
    if entry.link is not None:
        return {"path": entry.path, "link": entry.link}
    if entry.is_directory:
        return {"path": entry.path, "dir": True, "mode": entry.mode}
    return {
        "path": entry.path,
        "mode": entry.mode,
        "size": entry.size_bytes,
        "sha256": entry.sha256,
    }


def _from_json(item: Mapping[str, Any]) -> Entry:
    return Entry(
        path=item["path"],
        mode=item.get("mode", 0),
        size_bytes=item.get("size", 0),
        sha256=item.get("sha256", ""),
        link=item.get("link"),
    )
