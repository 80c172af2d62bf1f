"""Reading what the function prints: echoed at once, and cut into lines for everyone else."""

from __future__ import annotations

import codecs
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

from .shown_paths import ShownPaths

TAIL_LINES = 20
MAX_LINE_CHARACTERS = 65_536
STALE_SECONDS = 5.0
"""How long an unfinished line (a prompt, a progress bar) is waited for before it is shown."""

_READ_BYTES = 65_536
_TICK_SECONDS = 1.0


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
    """Everything the run prints, from the worker and from the runner itself.

    Args:
        on_line: Called with each line that the function printed.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._can_echo = True
        self._paths = ("", "")

    @property
    def tail(self) -> list[str]:
        """The last lines."""
        return list(self._tail)

    def say(self, message: str) -> None:
        """Print a line of the runner's own, and log it."""
        self._echo(f"kinetic: {message}\n".encode(errors="replace"))
        self._take(f"kinetic: {message}")

    def show_paths(self, workspace: str, root: str) -> None:
        """Show files of the workspace, in tracebacks, as files of the client's project."""
        self._paths = (workspace, root)

    def follow(self, pipe: int) -> threading.Thread:
        """Read a pipe to its end in a thread, and close it."""
        thread = threading.Thread(target=self._pump, args=(pipe,), daemon=True)
        thread.start()
        return thread

    def _pump(self, pipe: int) -> None:
        splitter, paths = LineSplitter(self._take), ShownPaths(*self._paths)

        def show(data: bytes) -> None:
            self._echo(data)
            splitter.feed(data)

        try:
            while True:
                readable, _, _ = select.select([pipe], [], [], _TICK_SECONDS)
                if not readable:
                    show(paths.flush())
                    continue
                data = os.read(pipe, _READ_BYTES)
                if not data:
                    return
                show(paths.feed(data))
        finally:
            show(paths.flush())
            splitter.close()
            os.close(pipe)

    def _take(self, line: str) -> None:
        self._tail.append(line)
        self._on_line(line)

    def _echo(self, data: bytes) -> None:
        """Pass output on as it is; whoever read it may have gone, and the run goes on."""
        while data and self._can_echo:
            try:
                data = data[os.write(1, data) :]
            except BlockingIOError:
                select.select([], [1], [])
            except OSError:
                self._can_echo = False
