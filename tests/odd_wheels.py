"""Wheels for tests, sound ones and others: any path, mode, RECORD or flag can be in them."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from packaging.utils import canonicalize_name

from kinetic_flows.core.job import sha256_hex
from kinetic_flows.core.wheel_file import WheelFile

REGULAR, PROGRAM = 0o100644, 0o100755


def record_line(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
    quoted = f'"{path}"' if "," in path else path
    return f"{quoted},sha256={digest},{len(data)}\n"


@dataclass(kw_only=True)
class OddWheel:
    """A wheel as it is about to be written.

    Attributes:
        files: Contents by path; `INFO/…` and `DATA/…` are those of its two directories.
        modes: Modes by path, where they are not those of a plain file.
        requires: Its `Requires-Dist` lines.
        metadata: Its METADATA; None for the right one.
        record: Its RECORD; None for the right one.
        compression: How its files are compressed.
        change: What is done to each entry before it is written.
    """

    name: str = "thing"
    version: str = "1.0"
    tag: str = "py3-none-any"
    files: Mapping[str, bytes | str] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    requires: Sequence[str] = ()
    metadata: str | None = None
    record: str | None = None
    compression: int = zipfile.ZIP_DEFLATED
    change: Callable[[zipfile.ZipInfo], None] = lambda info: None

    @property
    def stem(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}"

    @property
    def filename(self) -> str:
        return f"{self.stem}-{self.tag}.whl"

    def contents(self) -> dict[str, bytes]:
        """Return all of its files, in the order in which they are written."""
        metadata = self.metadata
        if metadata is None:
            metadata = f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n"
            metadata += "".join(f"Requires-Dist: {line}\n" for line in self.requires)
        files = {
            **self.files,
            "INFO/METADATA": metadata,
            "INFO/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {self.tag}\n",
        }
        found = {
            self.path(path): content.encode() if isinstance(content, str) else content
            for path, content in files.items()
        }
        record = self.record
        if record is None:
            record = "".join(record_line(path, content) for path, content in found.items())
            record += f"{self.path('INFO/RECORD')},,\n"
        return {**found, self.path("INFO/RECORD"): record.encode()}

    def path(self, path: str) -> str:
        """Return a path in the wheel, whose first part may be `INFO` or `DATA`."""
        first, slash, rest = path.partition("/")
        suffix = {"INFO": ".dist-info", "DATA": ".data"}.get(first)
        return f"{self.stem}{suffix}{slash}{rest}" if suffix else path

    def data(self) -> bytes:
        """Return its bytes."""
        modes = {self.path(path): mode for path, mode in self.modes.items()}
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", self.compression) as archive:
            for path, content in self.contents().items():
                entry = zipfile.ZipInfo(path)
                entry.external_attr = modes.get(path, REGULAR) << 16
                entry.create_system = 3
                entry.compress_type = self.compression
                self.change(entry)
                archive.writestr(entry, content)
        return out.getvalue()

    def write(self, directory: Path) -> tuple[WheelFile, Path]:
        """Write it to a directory; return what it is, and its file."""
        return written(self.data(), self.filename, directory, name=self.name, version=self.version)


def written(
    data: bytes, filename: str, directory: Path, *, name: str, version: str
) -> tuple[WheelFile, Path]:
    """Write the bytes of a wheel; return what it is said to be, and its file."""
    path = directory / filename
    path.write_bytes(data)
    file = WheelFile(
        name=canonicalize_name(name),
        version=version,
        filename=filename,
        sha256=sha256_hex(data),
        size_bytes=len(data),
    )
    return file, path
