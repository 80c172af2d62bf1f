"""Wheels of a few bytes, made as the specification says, for whatever they stand in for.

See https://packaging.python.org/en/latest/specifications/binary-distribution-format/.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.wheel_file import WheelFile


def make_wheel(
    directory: Path,
    name: str,
    version: str,
    files: Mapping[str, str | bytes] | None = None,
    *,
    tag: str = "py3-none-any",
    requires: tuple[str, ...] = (),
) -> WheelFile:
    """Make a wheel in a directory; equal contents give equal wheels.

    Args:
        directory: Where it is written.
        name: The package's name.
        version: Its version.
        files: Its contents by their path; none for a package of metadata alone.
        tag: What it is for.
        requires: Its `Requires-Dist` lines.
    """
    folder = f"{name.replace('-', '_')}-{version}"
    lines = [f"Requires-Dist: {line}\n" for line in requires]
    contents = {
        **(files or {}),
        f"{folder}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\n"
        f"Version: {version}\n{''.join(lines)}",
        f"{folder}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: loopback\n"
        f"Root-Is-Purelib: true\nTag: {tag}\n",
    }
    encoded = {
        path: content.encode() if isinstance(content, str) else content
        for path, content in contents.items()
    }
    record = "".join(f"{path},{_recorded(content)}\n" for path, content in encoded.items())
    encoded[f"{folder}.dist-info/RECORD"] = f"{record}{folder}.dist-info/RECORD,,\n".encode()
    target = directory / f"{folder}-{tag}.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in encoded.items():
            archive.writestr(zipfile.ZipInfo(path), content, zipfile.ZIP_DEFLATED)
    return WheelFile(
        name=name,
        version=version,
        filename=target.name,
        sha256=sha256_hex(target.read_bytes()),
        size_bytes=target.stat().st_size,
    )


def _recorded(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest},{len(content)}"
