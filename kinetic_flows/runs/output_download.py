"""Downloading what a run has written: in parallel, checked, and going on where it was broken off.

A file arrives under a name of its own that tells its version, beside where it belongs; it gets
its name when all of it is there and its checksum is right. What is there and right is not read
again.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kinetic_flows.core import option_values as check
from kinetic_flows.core.display import counted
from kinetic_flows.core.errors import (
    ObjectNotFoundError,
    StoreError,
    UsageError,
)
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.interruption import in_threads
from kinetic_flows.core.output_files import OutputFile, OutputSource
from kinetic_flows.core.progress import Progress, StepStatus
from kinetic_flows.core.signals import interruption_in

STEP_DOWNLOAD = "download"
PARALLEL = 8
TRIES = 3
"""How often a file is begun anew that is not what it should be, or changes meanwhile."""

PART_SUFFIX = ".kinetic-part"


@dataclass(frozen=True, kw_only=True)
class Downloaded:
    """The outcome of a download.

    Attributes:
        directory: Where the files are.
        files: How many there are.
        size_bytes: Their size.
        kept: How many of them were there already, and right.
        read_bytes: How much was read.
        gone: Files that were removed while the others were read.
    """

    directory: Path
    files: int
    size_bytes: int
    kept: int
    read_bytes: int
    gone: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{counted(self.files, 'file')}, {size_in_units(self.size_bytes)}"]
        parts += [f"{self.kept} were there"] if self.kept else []
        parts += [f"{len(self.gone)} were removed or changed meanwhile"] if self.gone else []
        return f"{', '.join(parts)}: {self.directory}"


def matching(files: Iterable[OutputFile], pattern: str | None) -> list[OutputFile]:
    """Return the files whose names fit a pattern of `fnmatch`; all of them for None."""
    if pattern is not None:
        check.text("pattern", pattern, "give a pattern, such as 'checkpoints/*'")
    return [file for file in files if pattern is None or fnmatch.fnmatchcase(file.name, pattern)]


def download(
    source: OutputSource, files: Sequence[OutputFile], target: Path, progress: Progress
) -> Downloaded:
    """Download files to a directory, which is made.

    Args:
        source: Where they are.
        files: Which.
        target: Where to.
        progress: Told how far it is.

    Raises:
        UsageError: A file's name is none that can be below a directory, the directory cannot be
            written to, or has one file for two names.
        StoreError: A file cannot be read, or is not what its checksum says.
    """
    for file in files:
        _require_below(file)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{target} cannot be made: {error.strerror}",
            value=str(target),
            hint="give a directory that can be written to",
        ) from error
    work = _Download(source, files, target, progress)
    progress.step(STEP_DOWNLOAD, "started")
    try:
        in_threads(work.bring, sorted(files, key=lambda file: -file.size_bytes), threads=PARALLEL)
        _require_apart(files, target)
    except BaseException as error:
        work.leave()
        status: StepStatus = "failed" if interruption_in(error) is None else "interrupted"
        progress.step(STEP_DOWNLOAD, status, "what has arrived is kept for the next try")
        raise
    outcome = work.outcome()
    progress.step(STEP_DOWNLOAD, "done", str(outcome))
    return outcome


class _Download:
    """Files on their way to a directory; its methods are called from several threads."""

    def __init__(
        self,
        source: OutputSource,
        files: Sequence[OutputFile],
        target: Path,
        progress: Progress,
    ) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._count = len(files)
        self._size_bytes = sum(file.size_bytes for file in files)
        self._lock = threading.Lock()
        self._ended = self._kept = self._done_bytes = self._read_bytes = 0
        self._gone: list[OutputFile] = []
        self._is_left = False

    def outcome(self) -> Downloaded:
        """Return what came of it."""
        return Downloaded(
            directory=self._target,
            files=self._count - len(self._gone),
            size_bytes=self._size_bytes - sum(file.size_bytes for file in self._gone),
            kept=self._kept,
            read_bytes=self._read_bytes,
            gone=tuple(file.name for file in self._gone),
        )

    def leave(self) -> None:
        """Tell nothing more: files that are on their way may go on for a while."""
        with self._lock:
            self._is_left = True

    def bring(self, file: OutputFile) -> None:
        """Have a file in the directory."""
        path = self._target / file.name
        try:
            if self._is_there(file, path):
                self._advance(file.size_bytes, ended=1, kept=1)
                return
            self._fetch(file, path)
        except ObjectNotFoundError:
            _part_of(file, path).unlink(missing_ok=True)
            with self._lock:
                self._gone.append(file)
            self._advance(0, ended=1)
            return
        except OSError as error:
            raise UsageError(
                f"{path} cannot be written: {error.strerror}",
                value=str(path),
                hint="make room, or give another directory; what has arrived is kept",
            ) from error
        self._advance(0, ended=1)

    def _is_there(self, file: OutputFile, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size != file.size_bytes:
            return False
        return self._source.checksum_of(path) == self._source.checksum(file)

    def _fetch(self, file: OutputFile, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _part_of(file, path)
        for tried in range(TRIES):
            self._append(file, part)
            if self._source.checksum_of(part) == self._source.checksum(file):
                os.utime(part, (file.updated.timestamp(),) * 2)
                part.replace(path)
                self._remove_other_parts(path)
                return
            # Not what it should be, and nobody knows from where on.
            self._advance(-part.stat().st_size)
            part.unlink()
            if tried + 1 == TRIES:
                raise StoreError(
                    f"{file.name} does not arrive as its checksum says, in {TRIES} tries",
                    value=file.name,
                    hint="the run may be writing to it; download it again when it has ended",
                )

    def _append(self, file: OutputFile, part: Path) -> None:
        """Read what a part lacks of its file."""
        with part.open("ab") as target:
            have = target.tell()
            self._advance(have)
            if have < file.size_bytes:
                for piece in self._source.read(file, have):
                    target.write(piece)
                    self._advance(len(piece), read=len(piece))

    def _remove_other_parts(self, path: Path) -> None:
        """Remove what there is of earlier versions of a file that is there now."""
        for part in path.parent.glob(f".{_stem(path)}.*{PART_SUFFIX}"):
            with suppress(FileNotFoundError):
                part.unlink()

    def _advance(self, count: int, *, ended: int = 0, kept: int = 0, read: int = 0) -> None:
        with self._lock:
            self._done_bytes += count
            self._ended += ended
            self._kept += kept
            self._read_bytes += read
            done, total = size_in_units(self._done_bytes), size_in_units(self._size_bytes)
            files = f"{self._ended} of {counted(self._count, 'file')}"
            if not self._is_left:
                told = f"{files}, {done} of {total}"
                self._progress.count(STEP_DOWNLOAD, self._done_bytes, self._size_bytes, told)


def _part_of(file: OutputFile, path: Path) -> Path:
    """Return where a version of a file arrives."""
    version = hashlib.sha256(f"{file.version}/{file.size_bytes}".encode()).hexdigest()[:12]
    return path.parent / f".{_stem(path)}.{version}{PART_SUFFIX}"


def _stem(path: Path) -> str:
    """Return what the parts of a file are named by: names have 255 bytes at most."""
    return hashlib.sha256(path.name.encode(errors="surrogateescape")).hexdigest()[:16]


def _require_below(file: OutputFile) -> None:
    """Refuse a name that would lead out of the directory, or to no file in it."""
    parts = file.name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\0" in file.name:
        raise UsageError(
            f"the object {file.name!r} cannot be a file below a directory",
            value=file.name,
            hint="leave it out with a pattern, or give the object another name",
        )


def _require_apart(files: Sequence[OutputFile], target: Path) -> None:
    """Refuse names that are one file here, as those are on some systems that differ in case."""
    known: dict[str, str] = {}
    for file in files:
        name = unicodedata.normalize("NFC", file.name).casefold()
        other = known.setdefault(name, file.name)
        if other == file.name or not (target / file.name).exists():
            continue
        if (target / other).exists() and (target / other).samefile(target / file.name):
            raise UsageError(
                f"{other!r} and {file.name!r} are one file in {target}",
                value=file.name,
                hint="download them one at a time with a pattern, to different directories",
            )
