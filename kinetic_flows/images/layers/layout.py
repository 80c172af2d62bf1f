"""Where the files of a wheel go in an image, as an installer decides it.

See https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import csv
import io
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from configparser import Error as ConfigError
from dataclasses import dataclass
from email.errors import MessageError
from hashlib import sha256
from io import BytesIO
from typing import Any, BinaryIO

from installer import install
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import RecordEntry
from installer.sources import WheelSource
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import InvalidVersion

from kinetic_flows.core.files import printable
from kinetic_flows.core.wheel_file import WheelFile
from kinetic_flows.images.layers.facts import is_of
from kinetic_flows.images.layers.model import INTERPRETER, PREFIX, SCRIPTS, SITE_PACKAGES
from kinetic_flows.images.layers.paths import collision, wrong_target
from kinetic_flows.images.layers.wheel import Entry, Wheel

INSTALLER = b"kinetic\n"

_SHEBANG = b"#!python"
_UNSIGNED = frozenset({"RECORD", "RECORD.jws", "RECORD.p7s"})
"""What stands in no RECORD, or there without a digest."""
_OF_THE_INSTALLER = frozenset({"INSTALLER", "REQUESTED", "direct_url.json"})
"""What an installer says of an installation; no wheel can know it."""
_WRAPPER = re.compile(r"(?:\.exe|-script\.pyw?|\.pya)$", re.IGNORECASE)
"""What build tools of old put behind the name of a console script that they wrote themselves."""
_OTHER_SITE_PACKAGES = re.compile(r"usr/local/lib/python(3\.\d+)/site-packages/(.+)")

_SCRIPT = """\
#!{interpreter}
# -*- coding: utf-8 -*-
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.exit({function}())
"""


TESTS = "tests"
"""How packages call the directories of their own tests."""


@dataclass(frozen=True, kw_only=True)
class LaidFile:
    """A file of an image that a wheel puts there.

    Attributes:
        path: Its path in the image, relative to the root.
        executable: Whether it is a program.
        source: What it is in the wheel; a file with other content has none.
        content: Its content where it has no source.
        digest: Digest of its content by the wheel's RECORD, such as `sha256=…`; empty for none.
    """

    path: str
    executable: bool
    source: Entry | None = None
    content: bytes = b""
    digest: str = ""

    @property
    def size_bytes(self) -> int:
        """Size of its content."""
        return self.source.size_bytes if self.source else len(self.content)

    @property
    def is_compiled(self) -> bool:
        """Whether it is a source of Python that runs may import.

        Packages' own tests, a third and more of the largest ones' sources, are not: they can be
        imported, too, and are compiled then.
        """
        path = self.path.removeprefix(f"{SITE_PACKAGES}/")
        is_test = TESTS in path.split("/")[1:-1]
        return path != self.path and path.endswith(".py") and not is_test


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a wheel becomes.

    Attributes:
        files: Its files, sorted by path.
        info: Path of its metadata in the wheel (`NAME-VERSION.dist-info`).
        record: Path of its RECORD in the image.
    """

    files: tuple[LaidFile, ...]
    info: str
    record: str


class _Stream(BytesIO):
    """What pypa's installer hands on: a file of the wheel, by its name."""

    def __init__(self, entry: Entry) -> None:
        super().__init__()
        self.entry = entry


class _Source(WheelSource):
    """A wheel as pypa's installer wants it, whose content nobody reads yet."""

    def __init__(self, wheel: Wheel, info: str) -> None:
        name, _, version = info.removesuffix(".dist-info").rpartition("-")
        super().__init__(name, version)
        self._wheel = wheel
        self.digests = _digests(wheel, info)

    @property
    def dist_info_filenames(self) -> list[str]:
        start = f"{self.dist_info_dir}/"
        return [path.removeprefix(start) for path in self._wheel.entries if path.startswith(start)]

    def read_dist_info(self, filename: str) -> str:
        return _text(self._wheel, f"{self.dist_info_dir}/{filename}")

    def get_contents(self) -> Iterator[tuple[tuple[str, str, str], BinaryIO, bool]]:
        own = {f"{self.dist_info_dir}/{name}" for name in _OF_THE_INSTALLER}
        for path, entry in self._wheel.entries.items():
            if path in own or "__pycache__" in path.split("/")[:-1]:
                continue
            yield (path, "", ""), _Stream(entry), entry.executable


class _Destination(WheelDestination):
    """Notes what pypa's installer would write."""

    def __init__(
        self, wheel: Wheel, name: str, python: str | None, digests: Mapping[str, str]
    ) -> None:
        self._wheel, self._name, self._python = wheel, name, python
        self._digests = digests
        self._generated: dict[str, LaidFile] = {}
        self._files: list[LaidFile] = []
        self.record = ""

    @property
    def files(self) -> list[LaidFile]:
        """What it would write, but for RECORD."""
        return [*self._files, *self._generated.values()]

    def write_script(
        self,
        name: str,
        module: str,
        attr: str,
        section: object,  # noqa: ARG002
    ) -> RecordEntry:
        text = _SCRIPT.format(
            interpreter=INTERPRETER, module=module, name=attr.partition(".")[0], function=attr
        )
        # As other installers do it, the last one of a name is the one that is there.
        target = self._target("scripts", name)
        self._generated[name] = self._laid(target, content=text.encode(), executable=True)
        return RecordEntry(name, None, None)

    def write_file(
        self, scheme: str, path: Any, stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        target = self._target(scheme, path)
        if not isinstance(stream, _Stream):
            laid = self._laid(target, content=stream.read(), executable=False)
        elif scheme == "scripts":
            laid = self._script(target, stream.entry)
        else:
            laid = self._laid(target, source=stream.entry, executable=is_executable)
        if scheme != "scripts" or _WRAPPER.sub("", path) not in self._generated:
            self._files.append(laid)
        return RecordEntry(path, None, None)

    def finalize_installation(
        self,
        scheme: str,
        record_file_path: str,
        records: Iterable[Any],  # noqa: ARG002
    ) -> None:
        self.record = self._target(scheme, record_file_path)

    def _target(self, scheme: str, path: str) -> str:
        if scheme in ("purelib", "platlib"):
            return f"{SITE_PACKAGES}/{path}"
        if scheme == "scripts":
            if "/" in path:
                self._wheel.refuse(f"{printable(path)} among its scripts is in a directory", path)
            return f"{SCRIPTS}/{path}"
        if scheme == "headers":
            # Nobody compiles against what every Python takes, so one place does for all of them.
            return f"{PREFIX}/include/python{self._python or 3}/{self._name}/{path}"
        return self._data_target(f"{PREFIX}/{path}")

    def _data_target(self, path: str) -> str:
        """Place a data file; one for this Python's packages goes where they are for all."""
        found = _OTHER_SITE_PACKAGES.fullmatch(path)
        if found and found[1] == self._python:
            return f"{SITE_PACKAGES}/{found[2]}"
        return path

    def _script(self, target: str, entry: Entry) -> LaidFile:
        start = next((plain for _, plain in self._wheel.pieces(entry)), b"")
        if not start.startswith(_SHEBANG):
            return self._laid(target, source=entry, executable=True)
        _, _, rest = self._wheel.metadata(entry.path).partition(b"\n")
        return self._laid(target, content=f"#!{INTERPRETER}\n".encode() + rest, executable=True)

    def _laid(
        self, path: str, *, executable: bool, source: Entry | None = None, content: bytes = b""
    ) -> LaidFile:
        if wrong := wrong_target(path, self._python):
            self._wheel.refuse(wrong, path)
        digest = self._digests.get(source.path, "") if source else _digest(content)
        return LaidFile(
            path=path, executable=executable, source=source, content=content, digest=digest
        )


def lay_out(wheel: Wheel, file: WheelFile, python: str | None) -> Layout:
    """Decide what a wheel becomes in an image.

    Args:
        wheel: The open wheel.
        file: What it is said to be.
        python: The Python minor version it is laid out for; None for any.

    Raises:
        WheelRefused: It is something else, its metadata is wrong, or its files cannot be together
            in an image.
    """
    info = _info_directory(wheel, file)
    source = _Source(wheel, info)
    destination = _Destination(wheel, source.distribution, python, source.digests)
    try:
        install(source, destination, {"INSTALLER": INSTALLER})
    except (InstallerError, ConfigError, MessageError, ValueError, AssertionError) as error:
        said = " ".join(str(error).split()) or "entry_points.txt has a line that names no function"
        wheel.refuse(f"its metadata is wrong: {said}")
    record = destination.record
    if clash := collision([*(laid.path for laid in destination.files), record]):
        wheel.refuse(clash)
    listing = LaidFile(path=record, executable=False, content=_record_of(destination.files, record))
    files = sorted([*destination.files, listing], key=lambda laid: laid.path)
    return Layout(files=tuple(files), info=info, record=record)


def _record_of(files: Iterable[LaidFile], record: str) -> bytes:
    """Return the RECORD of what was laid out, whose paths are relative to the packages."""
    rows = [(posixpath.relpath(record, SITE_PACKAGES), "", "")]
    for laid in files:
        relative = posixpath.relpath(laid.path, SITE_PACKAGES)
        rows.append((relative, laid.digest, str(laid.size_bytes)))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(sorted(rows))
    return text.getvalue().encode()


def _digest(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(sha256(content).digest()).decode()
    return f"sha256={digest.rstrip('=')}"


def _info_directory(wheel: Wheel, file: WheelFile) -> str:
    """Return the name of the directory with the metadata, which has to be of this wheel."""
    try:
        name, version, *_ = parse_wheel_filename(file.filename)
    except (InvalidWheelFilename, InvalidVersion) as error:
        wheel.refuse(f"its name is none of a wheel ({error})")
    if not is_of(file, name, str(version)):
        wheel.refuse(f"its name is not that of {file}", file.filename)
    tops = {path.partition("/")[0] for path in wheel.entries}
    found = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(found) != 1:
        wheel.refuse(f"it has {len(found)} directories of metadata ({', '.join(found) or 'none'})")
    said, _, number = found[0].removesuffix(".dist-info").rpartition("-")
    if not is_of(file, said, number):
        wheel.refuse(f"its metadata is of another package: {printable(found[0])}", found[0])
    return found[0]


def _records(wheel: Wheel, path: str) -> dict[str, tuple[str, str]]:
    """Return the digest and the size that RECORD has of each file, as it has them."""
    try:
        rows = [row for row in csv.reader(io.StringIO(_text(wheel, path), newline="")) if row]
    except csv.Error as error:
        wheel.refuse(f"its RECORD cannot be read: {error}", path)
    for row in rows:
        if len(row) != 3:
            wheel.refuse(f"its RECORD has a line of {len(row)} columns: {printable(row[0])}", path)
    return {name: (digest, size) for name, digest, size in rows}


def _text(wheel: Wheel, path: str) -> str:
    try:
        return wheel.metadata(path).decode()
    except UnicodeDecodeError:
        wheel.refuse(f"{printable(path)} is not UTF-8", path)


def _digests(wheel: Wheel, info: str) -> dict[str, str]:
    """Return the digests that RECORD has, which has to name what is in the wheel, and no more.

    An empty one, as some small build backends write it, says nothing, and is taken by installers.
    """
    records = _records(wheel, f"{info}/RECORD")
    unsigned = {f"{info}/{name}" for name in _UNSIGNED}
    for path in wheel.entries:
        if records and path not in records and path not in unsigned:
            wheel.refuse(f"{printable(path)} is not in its RECORD", path)
    found = {}
    for path, (digest, size) in records.items():
        entry = wheel.entries.get(path)
        if entry is None:
            if path.endswith(("/", ".pyc")):
                continue
            wheel.refuse(f"{printable(path)} of its RECORD is not in it", path)
        if size and size != str(entry.size_bytes):
            wheel.refuse(f"{printable(path)} has not the size of its RECORD", path)
        found[path] = digest
    return found
