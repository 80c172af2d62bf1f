"""What containers print, line by line with the time of each, as nodes keep it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line, with its end."""

    stamp: str
    text: bytes


class PodLog:
    """The output of one container.

    Args:
        file: Where the container writes.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._lines: list[LogLine] = []
        self._rotated = 0
        self._position = 0
        self._rest = b""
        self._moment = 0

    def lines(self, *, ended: bool) -> Sequence[LogLine]:
        """Return every line so far, those that were rotated away included.

        Args:
            ended: Whether the container has ended: what it left without an end is a line, too.
        """
        with self.file.open("rb") as opened:
            opened.seek(self._position)
            text = opened.read()
        self._position += len(text)
        *complete, self._rest = (self._rest + text).split(b"\n")
        self._lines += [LogLine(stamp=self._stamp(), text=line + b"\n") for line in complete]
        if ended and self._rest:
            self._lines.append(LogLine(stamp=self._stamp(), text=self._rest))
            self._rest = b""
        return self._lines

    def first_kept(self, since: str) -> int:
        """Return the number of the first line that a node still shows, from a second on."""
        found = range(self._rotated, len(self._lines))
        return next((n for n in found if self._lines[n].stamp[:19] >= since[:19]), len(self._lines))

    def rotate(self) -> None:
        """Begin a new file: nothing that was printed before is shown any more."""
        self._rotated = len(self.lines(ended=False))

    def _stamp(self) -> str:
        self._moment = max(self._moment + 1, time.time_ns())
        second, nanoseconds = divmod(self._moment, 10**9)
        return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z"
