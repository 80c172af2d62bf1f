"""Reading what the function prints and logs: echoed at once, and cut into entries for others."""

from __future__ import annotations

import codecs
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from .marks import (
    HIDDEN,
    MAX_RECORD_BYTES,
    RUNNER_LOGGER,
    STDERR_LOGGER,
    STDOUT_LOGGER,
    Marker,
    Record,
    decoded_record,
)
from .masks import Masks
from .noted_lines import NotedLines
from .shown_paths import ShownPaths

TAIL_LINES = 20
RECENT_LINES = 50
"""How many of the last lines a result has that tells of a crash, and how many a black box."""

MAX_LINE_CHARACTERS = 65_536
STALE_SECONDS = 5.0
"""How long an unfinished line (a prompt, a progress bar) is waited for before it is shown."""

INFO = 20
"""The level of whatever is printed, to either stream, as `logging` has it."""

_READ_BYTES = 65_536
_TICK_SECONDS = 1.0
_SMALL_BYTES = 8192
_BURST_SECONDS = 0.0005
_REST_SECONDS = 0.001
_MANY_PIECES = 20
_RECORDS_AT_ONCE = 100


class LineSplitter:
    r"""Cuts output into lines, bounded in length and in the time they are waited for.

    A carriage return starts a line anew, as on a terminal: of a progress bar, the last state
    counts, and one now and then while it moves.

    Args:
        on_line: Called with each line, without its end.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._unfinished = ""
        self._shown_at = time.monotonic()

    def feed(self, data: bytes) -> None:
        """Take output as it arrives."""
        text = self._unfinished + self._decoder.decode(data)
        *lines, self._unfinished = text.split("\n")
        for line in lines:
            self._show(_last_state(line))
        if len(self._unfinished) > MAX_LINE_CHARACTERS:
            self._cut()
        self.tick()

    def tick(self) -> None:
        """Show an unfinished line that has waited for long."""
        is_stale = time.monotonic() - self._shown_at > STALE_SECONDS
        if is_stale and self._unfinished.strip("\r"):
            self._show(_last_state(self._unfinished))
            self._unfinished = ""

    def close(self) -> None:
        """Show what is left."""
        self.feed(b"")
        left = _last_state(self._unfinished + self._decoder.decode(b"", final=True))
        self._unfinished = ""
        if left:
            self._show(left)

    def _cut(self) -> None:
        """Show the start of a line that is too long, or forget the overwritten part of it."""
        line = _last_state(self._unfinished)
        while len(line) > MAX_LINE_CHARACTERS:
            self._show(line[:MAX_LINE_CHARACTERS])
            line = line[MAX_LINE_CHARACTERS:]
        self._unfinished = line

    def _show(self, line: str) -> None:
        self._shown_at = time.monotonic()
        for start in range(0, max(len(line), 1), MAX_LINE_CHARACTERS):
            self._on_line(line[start : start + MAX_LINE_CHARACTERS])


def _last_state(line: str) -> str:
    """Return what a terminal would show of a line with carriage returns in it."""
    return line.rstrip("\r").rpartition("\r")[2]


class Output:
    """Everything the run prints and logs, from the worker and from the runner itself.

    Args:
        on_entry: Called with each line that was printed and each record that was logged: its
            text, its level and its logger's name.
    """

    def __init__(self, on_entry: Callable[[str, int, str], None]) -> None:
        self._on_entry = on_entry
        self._recent: deque[str] = deque(maxlen=RECENT_LINES)
        self._can_echo = True
        self._paths = ("", "")
        self._masks = Masks()
        self._marker = Marker()
        self._guard = threading.Lock()
        self.heard = 0.0
        """When the worker has last printed or logged anything, by the monotonic clock."""
        self.noted = NotedLines()
        """Lines that may tell of a fault below the function."""

    @property
    def tail(self) -> list[str]:
        """The last lines."""
        return self.recent[-TAIL_LINES:]

    @property
    def recent(self) -> list[str]:
        """The last lines, more of them."""
        return list(self._recent)

    def say(self, message: str) -> None:
        """Print a line of the runner's own, and log it."""
        message = self.masked(message)
        with self._guard:
            self._echo(self._marker.stderr(f"kinetic: {message}\n".encode(errors="replace")))
        self._take(f"kinetic: {message}", RUNNER_LOGGER)

    def tell(self, text: str, level: int, logger: str) -> None:
        """Print lines of the runner's own, and log them as one record.

        Args:
            text: The lines.
            level: Their level, as `logging` has it.
            logger: Name of their logger.
        """
        self._show_record(Record("stderr", level, 0, logger, f"kinetic: {text}\n"))

    def show_paths(self, workspace: str, root: str) -> None:
        """Show files of the workspace, in tracebacks, as files of the client's project."""
        self._paths = (workspace, root)

    def mask(self, values: Iterable[str]) -> None:
        """Show `***` in the place of values from here on."""
        self._masks = Masks(values)

    def masked(self, text: str) -> str:
        """Return a text as it may be shown."""
        return self._masks.text(text)

    def follow(self, stdout: int, stderr: int, records: int) -> threading.Thread:
        """Read pipes to their ends in a thread, and what is logged meanwhile; close them.

        Args:
            stdout: The pipe of the worker's standard output.
            stderr: The pipe of its standard error.
            records: The socket of what it logs.
        """
        readers: list[_Reader] = [
            self._reader(stdout, self._marker.stdout, STDOUT_LOGGER),
            self._reader(stderr, self._marker.stderr, STDERR_LOGGER),
            _RecordReader(records, ShownPaths(*self._paths), self._take_record),
        ]
        thread = threading.Thread(target=_pump, args=(readers,), daemon=True)
        thread.start()
        return thread

    def _reader(self, pipe: int, marked: Callable[[bytes], bytes], logger: str) -> _StreamReader:
        def show(data: bytes) -> None:
            self.heard = time.monotonic()
            with self._guard:
                self._echo(marked(data))

        splitter = LineSplitter(lambda line: self._take(line, logger))
        masks = self._masks.follower()
        return _StreamReader(pipe, ShownPaths(*self._paths), masks, show, splitter)

    def _take_record(self, record: Record) -> None:
        self.heard = time.monotonic()
        self._show_record(record)

    def _show_record(self, record: Record) -> None:
        if self._masks:
            head, text = (self._masks.text(part) for part in record.parts)
            record = record._replace(start=len(head), text=head + text)
        with self._guard:
            self._echo(self._marker.record(record))
        if record.where != HIDDEN:
            lines = record.text.splitlines()
            self._recent.extend(lines)
            for line in lines:
                self.noted.take(line)
        self._on_entry(record.message, record.level, record.name)

    def _take(self, line: str, logger: str) -> None:
        self._recent.append(line)
        if logger != RUNNER_LOGGER:
            self.noted.take(line)
        self._on_entry(line, INFO, logger)

    def _echo(self, data: bytes) -> None:
        """Pass output on as it is; whoever read it may have gone, and the run goes on."""
        while data and self._can_echo:
            try:
                data = data[os.write(1, data) :]
            except BlockingIOError:
                select.select([], [1], [])
            except OSError:
                self._can_echo = False


class _Reader:
    """Reads what the worker writes to one file descriptor.

    Args:
        fd: The descriptor.
    """

    ends = False
    """Whether it has an end that is waited for."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self) -> int:
        """Read what there is; return how many bytes that was, 0 at its end."""
        raise NotImplementedError

    def flush(self) -> None:
        """Show what was held back because more might have followed."""

    def close(self) -> None:
        """Show what is left."""
        os.close(self.fd)


class _StreamReader(_Reader):
    """Reads a stream: shown at once, and cut into lines.

    Args:
        fd: Its pipe.
        paths: Rewrites files in it.
        masks: Put in the place of what it may not show.
        show: Shows it.
        splitter: Cuts it.
    """

    ends = True

    def __init__(
        self,
        fd: int,
        paths: ShownPaths,
        masks: Masks,
        show: Callable[[bytes], None],
        splitter: LineSplitter,
    ) -> None:
        super().__init__(fd)
        self._paths = paths
        self._masks = masks
        self._show = show
        self._splitter = splitter

    def read(self) -> int:
        data = os.read(self.fd, _READ_BYTES)
        self._pass_on(self._masks.feed(self._paths.feed(data)))
        return len(data)

    def flush(self) -> None:
        self._show_held(is_last=False)
        self._splitter.tick()

    def close(self) -> None:
        self._show_held(is_last=True)
        self._splitter.close()
        super().close()

    def _show_held(self, *, is_last: bool) -> None:
        held = self._masks.feed(self._paths.flush())
        self._pass_on(held + self._masks.flush(is_last=is_last))

    def _pass_on(self, data: bytes) -> None:
        if data:
            self._show(data)
            self._splitter.feed(data)


class _RecordReader(_Reader):
    """Reads records, each of them whole.

    Args:
        fd: Their socket.
        paths: Rewrites files in their texts.
        show: Shows one.
    """

    def __init__(self, fd: int, paths: ShownPaths, show: Callable[[Record], None]) -> None:
        super().__init__(fd)
        os.set_blocking(fd, False)
        self._paths = paths
        self._show = show

    def read(self) -> int:
        size = 0
        with suppress(BlockingIOError):
            # What is printed meanwhile waits for its turn.
            for _ in range(_RECORDS_AT_ONCE):
                size += self._read_one()
        return size

    def close(self) -> None:
        while self.read():
            continue
        super().close()

    def _read_one(self) -> int:
        data = os.read(self.fd, MAX_RECORD_BYTES)
        with suppress(ValueError):  # the function has found the socket, and written to it
            record = decoded_record(data)
            if 'File "' in record.text:
                record = record._replace(text=self._paths.text(record.text))
            self._show(record)
        return len(data)


class _Haste:
    """Takes what comes in many small pieces together: each by itself costs more than all."""

    def __init__(self) -> None:
        self._last, self._read_at, self._pieces = -1, 0.0, 0

    def took(self, fd: int, size: int) -> None:
        """Note a piece that was read, and rest for a moment when it is one of many."""
        now = time.monotonic()
        is_one_more = fd == self._last and size < _SMALL_BYTES
        is_soon = now - self._read_at < _BURST_SECONDS
        self._pieces = self._pieces + 1 if is_one_more and is_soon else 0
        if self._pieces > _MANY_PIECES:
            time.sleep(_REST_SECONDS)
            now = time.monotonic()
        self._last, self._read_at = fd, now


def _pump(readers: list[_Reader]) -> None:
    """Read until every stream has come to its end."""
    last, haste = -1, _Haste()
    waiting = {reader.fd: reader for reader in readers}
    try:
        while any(reader.ends for reader in waiting.values()):
            readable, _, _ = select.select(list(waiting), [], [], _TICK_SECONDS)
            if not readable:
                _flush(readers, -1)
            for fd in readable:
                if fd != last:
                    _flush(readers, fd)
                size = waiting[fd].read()
                if not size:
                    del waiting[fd]
                elif waiting[fd].ends:
                    haste.took(fd, size)
                last = fd
    finally:
        for reader in readers:
            reader.close()


def _flush(readers: list[_Reader], fd: int) -> None:
    """Show what was held back of everything but one, since something else comes after it."""
    for reader in readers:
        if reader.fd != fd:
            reader.flush()
