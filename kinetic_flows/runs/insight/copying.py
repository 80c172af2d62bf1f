"""Files between this machine and a live run, as its function sees them.

Both sides are `runner_image/runner/carrying.py`: one gives a stream, and the other takes it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from io import BytesIO, RawIOBase
from typing import Any, BinaryIO, cast

from kinetic_flows.core.display import counted
from kinetic_flows.core.errors import KineticError, LaunchError, UsageError
from kinetic_flows.core.files import size_in_units
from kinetic_flows.core.process_access import Executed
from kinetic_flows.core.progress import Progress
from kinetic_flows.runs.insight.beside import LiveRun, explain_exit

STEP_COPY = "copy"
GIVE, TAKE = "give", "take"
EXIT_NOTHING_THERE = 2
"""Exit code of what gives, where there is nothing at the path."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """What was copied.

    Attributes:
        path: Where it is now.
        files: How many files.
        size_bytes: Their size.
        skipped: What was left out: neither files nor directories, and links that lead elsewhere.
    """

    path: str
    files: int
    size_bytes: int
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{counted(self.files, 'file')}, {size_in_units(self.size_bytes)}"]
        parts += [f"{len(self.skipped)} left out"] if self.skipped else []
        return f"{', '.join(parts)}: {self.path}"


def copy_from(run: LiveRun, host: int, path: str, target: str, progress: Progress) -> Copied:
    """Copy a file or a directory of a run to this machine.

    Args:
        run: The run.
        host: The host's number.
        path: What is copied; relative to the function's working directory.
        target: Where to, or the directory into which.
        progress: Told how far it is.

    Raises:
        UsageError: There is nothing there, or it cannot be written here.
        LaunchError: The host cannot be reached, or the connection broke off: no file is there in
            parts.
    """
    with _told(progress) as told, _here(TAKE, target) as taking:
        assert taking.stdin is not None
        counting = cast("BinaryIO", _Counted(taking.stdin, told))
        command = run.command(host, (GIVE, path))
        try:
            done = run.access.stream(run.key, host, command, BytesIO(), counting)
        except BrokenPipeError:
            # Who takes it has given up, and says why.
            done = None
        # What has not come to its end is undone by who takes it.
        _close(taking.stdin)
        ended = _ended(taking)
        if done is not None:
            _require(run, host, GIVE, done)
        return told.copied(_require_here(ended))


def copy_to(run: LiveRun, host: int, path: str, target: str, progress: Progress) -> Copied:
    """Copy a file or a directory of this machine to a run.

    Args:
        run: The run.
        host: The host's number.
        path: What is copied.
        target: Where to, or the directory into which; relative to the function's working directory.
        progress: Told how far it is.

    Raises:
        UsageError: There is nothing here, or it cannot be written there.
        LaunchError: The host cannot be reached, or the connection broke off.
    """
    answer = BytesIO()
    with _told(progress) as told, _here(GIVE, path) as giving:
        assert giving.stdout is not None
        counting = _Counted(giving.stdout, told)
        # What cannot be read here is not begun there.
        if not counting.begin():
            _require_here(_ended(giving))
        done = run.access.stream(
            run.key, host, run.command(host, (TAKE, target)), cast("BinaryIO", counting), answer
        )
        if done.exit_code:
            giving.stdout.close()
        # An archive ends before its last bytes, which are read by nobody else.
        ended = _ended(giving)
        if ended.errors or not done.exit_code:
            _require_here(ended)
        _require(run, host, TAKE, done)
        return told.copied(Executed(exit_code=0, output=answer.getvalue(), errors=b""))


class _Told:
    """Tells how far it is."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._total: int | None = None
        self._done = 0

    def begins(self, head: bytes) -> None:
        """Take the first line of the stream, which tells how much comes."""
        try:
            self._total = int(json.loads(head)["bytes"])
        except (ValueError, KeyError, TypeError):
            # It is no stream: who takes it says so.
            self._total = None

    def advance(self, count: int) -> None:
        """Take note of more of the stream; its headers are beyond the size of the files."""
        total = self._total
        self._done = self._done + count if total is None else min(self._done + count, total)
        words = size_in_units(self._done)
        if total is not None:
            words += f" of {size_in_units(total)}"
        self._progress.count(STEP_COPY, self._done, total, words)

    def copied(self, ended: Executed) -> Copied:
        """Return what was copied, from the answer of who took it."""
        found: dict[str, Any] = json.loads(ended.output)
        copied = Copied(
            path=found["path"],
            files=found["files"],
            size_bytes=found["bytes"],
            skipped=tuple(found["skipped"]),
        )
        self._progress.step(STEP_COPY, "done", str(copied))
        for each in copied.skipped:
            self._progress.warning(
                f"{each} was left out: it is neither a file nor a directory, or leads elsewhere"
            )
        return copied


@contextmanager
def _told(progress: Progress) -> Iterator[_Told]:
    progress.step(STEP_COPY, "started")
    try:
        yield _Told(progress)
    except KeyboardInterrupt:
        progress.step(STEP_COPY, "interrupted")
        raise
    except Exception:
        progress.step(STEP_COPY, "failed")
        raise


class _Counted(RawIOBase):
    """A stream of files that is counted as it passes; it is read or written, whichever it can be.

    Args:
        stream: The stream.
        told: Told of it.
    """

    def __init__(self, stream: Any, told: _Told) -> None:
        self._stream = stream
        self._told = told
        self._head: bytes | None = b""
        self._unread = b""

    def begin(self) -> bool:
        """Read the first line ahead; return whether there is one."""
        self._unread = self._stream.readline()
        return bool(self._unread)

    def read(self, size: int = -1) -> bytes:
        chunk: bytes = self._unread or self._stream.read(size)
        self._unread = b""
        self._pass(chunk)
        return chunk

    def write(self, content: Any) -> int:
        self._stream.write(content)
        self._pass(bytes(content))
        return len(content)

    def _pass(self, chunk: bytes) -> None:
        if self._head is None:
            self._told.advance(len(chunk))
            return
        head, is_whole, rest = (self._head + chunk).partition(b"\n")
        self._head = None if is_whole else head
        if is_whole:
            self._told.begins(head)
            self._told.advance(len(rest))


@contextmanager
def _here(what: str, path: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start this machine's side; it does not outlive the block."""
    script = files("kinetic_flows.runner_image").joinpath("runner", "carrying.py")
    with as_file(script) as program:
        process = subprocess.Popen(
            [sys.executable, str(program), what, path],
            stdin=subprocess.PIPE if what == TAKE else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C is for us: it undoes what it has begun when its input ends.
            start_new_session=True,
        )
        try:
            yield process
        finally:
            for stream in (process.stdin, process.stdout):
                if stream is not None and not stream.closed:
                    _close(stream)
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


def _close(stream: Any) -> None:
    try:
        stream.close()
    except BrokenPipeError:
        return


def _ended(process: subprocess.Popen[bytes]) -> Executed:
    """Wait for this machine's side, and return what became of it."""
    output = b""
    if process.stdout is not None and not process.stdout.closed:
        output = process.stdout.read()
    errors = process.stderr.read() if process.stderr is not None else b""
    return Executed(exit_code=process.wait(), output=output, errors=errors)


def _require_here(ended: Executed) -> Executed:
    if ended.exit_code:
        said = ended.errors.decode(errors="replace").strip()
        raise UsageError(said or "it could not be copied", hint="look at the path on this machine")
    return ended


def _require(run: LiveRun, host: int, name: str, done: Executed) -> None:
    """Raise what the run's side says has failed."""
    said = done.errors.decode(errors="replace").strip()
    problem: KineticError | None = explain_exit(run, host, name, done.exit_code, said)
    if problem is not None:
        raise problem
    if done.exit_code == EXIT_NOTHING_THERE:
        raise UsageError(
            f"host {host} of run {run.name}: {said}",
            hint=f"`kinetic runs exec {run.run_id} -- ls` lists the function's working directory",
        )
    if done.exit_code:
        raise LaunchError(f"host {host} of run {run.name}: {said or 'it could not be copied'}")
