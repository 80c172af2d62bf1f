"""What a run printed to its two streams, and what it logged, out of its one log.

How a log tells them apart is described in `runner_image/runner/marks.py`, which writes it. A log
without marks, such as an older runner's, is standard output.
"""

from __future__ import annotations

import codecs
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from kinetic_flows.core.progress import Stream

STDOUT_LOGGER = "kinetic"
STDERR_LOGGER = "kinetic.stderr"
RUNNER_LOGGER = "kinetic.runner"
TRACEBACK_LOGGER = "kinetic.traceback"
RESULT_LOGGER = "kinetic.result"
"""Logger of the line that says in a run's log what it returned; no output of the function."""

STDERR_MARK = "\x1b[1002m"
LONGEST_HEAD_CHARACTERS = 400

_MARK = re.compile(
    r"\x1b(?:\[100(?P<stream>[12])m"
    r"|\]1003;(?P<where>\w+);(?P<level>\d+);(?P<start>\d+);(?P<lines>\d+);(?P<name>[^\x07\n]*)\x07)"
)
_CUT_MARK = re.compile(
    r"\x1b(?:\[(?:1(?:0(?:0[12]?)?)?)?|\](?:1(?:0(?:0(?:3(?:;[^\x07\n]*)?)?)?)?)?)?\Z"
)

Where = Literal["stdout", "stderr", "hidden"]


class PrintedLine(str):
    """A line of what a run printed.

    Attributes:
        stream: The stream that shows it.
    """

    stream: Stream

    def __new__(cls, text: str, stream: Stream = "stdout") -> PrintedLine:
        """Return a line that knows its stream."""
        line = super().__new__(cls, text)
        line.stream = stream
        return line


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """A line that a run printed, or a record that it logged.

    Attributes:
        text: What; of a record its message, which may have several lines.
        level: Its level, as `logging` has it; of what was printed, INFO.
        logger: Its logger's name; one that begins with `kinetic` for what was not logged.
    """

    text: str
    level: int = logging.INFO
    logger: str = STDOUT_LOGGER

    @property
    def stream(self) -> Stream:
        """The stream that shows it."""
        return "stdout" if self.logger == STDOUT_LOGGER else "stderr"

    @property
    def shown(self) -> str:
        """The entry as it is shown where nobody else shows its level and its logger."""
        if self.logger.partition(".")[0] == STDOUT_LOGGER:
            return self.text
        return f"{logging.getLevelName(self.level)}:{self.logger}:{self.text}"

    def lines(self) -> list[PrintedLine]:
        """Return the lines that show it."""
        return [PrintedLine(line, self.stream) for line in self.shown.split("\n")]

    def encoded(self) -> bytes:
        """Return the entry as it stands in a log."""
        if self.logger == STDOUT_LOGGER:
            return f"{self.text}\n".encode()
        if self.logger in (STDERR_LOGGER, RUNNER_LOGGER):
            return f"{STDERR_MARK}{self.text}\n".encode()
        shown = self.shown
        start, lines = len(shown) - len(self.text), shown.count("\n") + 1
        head = f"stderr;{self.level};{start};{lines};{self.logger}"
        return f"\x1b]1003;{head}\x07{shown}\n".encode()


def entries_of(lines: Iterable[str | LogEntry], logger: str, level: int) -> list[LogEntry]:
    """Return entries for lines, those that are some already included."""
    return [
        line if isinstance(line, LogEntry) else LogEntry(text=line, level=level, logger=logger)
        for line in lines
    ]


@dataclass(frozen=True, kw_only=True)
class RecordHead:
    """What a log says of a record, before its text.

    Attributes:
        where: The stream that shows it, or `hidden` where Python would show nothing.
        level: Its level, as `logging` has it.
        start: How many characters precede its message.
        lines: How many lines its text has.
        logger: Its logger's name.
    """

    where: Where
    level: int
    start: int
    lines: int
    logger: str


@dataclass(kw_only=True)
class Piece:
    """Something that was printed, or a part of it.

    Attributes:
        where: The stream, or `hidden`.
        text: What; it may hold several lines or part of one.
        record: The record that it is a part of; None for what was printed.
    """

    where: Where
    text: str
    record: RecordHead | None = None


class StreamDecoder:
    """Takes a log's bytes in parts of any size, and tells what was printed where."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._rest = ""
        self._is_in_stderr = False
        self._record: RecordHead | None = None
        self._lines_left = 0

    def take(self, data: bytes) -> list[Piece]:
        """Return what a further part holds."""
        return self._cut(self._rest + self._decoder.decode(data))

    def end(self) -> list[Piece]:
        """Return what is left: no further part comes."""
        text, self._rest = self._rest + self._decoder.decode(b"", final=True), ""
        return self._cut(text, is_all=True)

    def _cut(self, text: str, *, is_all: bool = False) -> list[Piece]:
        if "\x1b" not in text and not self._is_in_stderr and self._record is None:
            self._rest = ""
            return [Piece(where="stdout", text=text)] if text else []
        cut = None if is_all else _CUT_MARK.search(text, max(text.rfind("\x1b"), 0))
        end = cut.start() if cut and len(text) - cut.start() < LONGEST_HEAD_CHARACTERS else None
        self._rest = "" if end is None else text[end:]
        return self._pieces(text[:end])

    def _pieces(self, text: str) -> list[Piece]:
        pieces: list[Piece] = []
        position = 0
        while position < len(text):
            if self._record is not None:
                end = self._end_of_record(text, position)
                _add(pieces, self._record.where, text[position:end], self._record)
                self._record = self._record if self._lines_left else None
            else:
                end = self._take_until_mark(text, position, pieces)
            position = end
        return pieces

    def _end_of_record(self, text: str, position: int) -> int:
        while self._lines_left:
            newline = text.find("\n", position)
            if newline < 0:
                return len(text)
            position = newline + 1
            self._lines_left -= 1
        return position

    def _take_until_mark(self, text: str, position: int, pieces: list[Piece]) -> int:
        """Take text up to a line's end, if it is standard error, or up to a mark and this."""
        mark = _MARK.search(text, position)
        end = mark.start() if mark else len(text)
        if self._is_in_stderr:
            newline = text.find("\n", position, end)
            if newline >= 0:
                self._is_in_stderr = False
                _add(pieces, "stderr", text[position : newline + 1], None)
                return newline + 1
        _add(pieces, "stderr" if self._is_in_stderr else "stdout", text[position:end], None)
        return self._apply(mark) if mark else end

    def _apply(self, mark: re.Match[str]) -> int:
        self._is_in_stderr = mark["stream"] == "2"
        if mark["stream"] is None:
            self._record = RecordHead(
                where=_where(mark["where"]),
                level=int(mark["level"]),
                start=int(mark["start"]),
                lines=int(mark["lines"]),
                logger=mark["name"],
            )
            self._lines_left = self._record.lines
            if not self._lines_left:
                self._record = None
        return mark.end()


def _where(name: str) -> Where:
    return "hidden" if name == "hidden" else "stdout" if name == "stdout" else "stderr"


def _add(pieces: list[Piece], where: Where, text: str, record: RecordHead | None) -> None:
    """Add text to the last piece, if it goes on with it."""
    if not text:
        return
    if pieces and pieces[-1].where == where and pieces[-1].record is record:
        pieces[-1].text += text
    else:
        pieces.append(Piece(where=where, text=text, record=record))


class EntryReader:
    """Takes a log's bytes in parts of any size, and gives its entries once they are complete."""

    def __init__(self) -> None:
        self._decoder = StreamDecoder()
        self._unfinished: dict[str, str] = {}
        self._record: RecordHead | None = None
        self._record_text = ""

    def take(self, data: bytes) -> list[LogEntry]:
        """Return the entries that a further part completes."""
        return self._entries(self._decoder.take(data))

    def end(self) -> list[LogEntry]:
        """Return the last entries, if nothing ended them: no further part comes."""
        entries = self._entries(self._decoder.end())
        if self._record is not None:
            entries.append(_entry(self._record, self._record_text))
        left = [(logger, _last_state(text)) for logger, text in self._unfinished.items()]
        # Nothing is left: who asks again is told nothing.
        self._record, self._unfinished = None, {}
        return entries + [LogEntry(text=text, logger=logger) for logger, text in left if text]

    def _entries(self, pieces: Iterable[Piece]) -> list[LogEntry]:
        entries: list[LogEntry] = []
        for piece in pieces:
            if piece.record is None:
                logger = STDOUT_LOGGER if piece.where == "stdout" else STDERR_LOGGER
                text = self._unfinished.get(logger, "") + piece.text
                *lines, self._unfinished[logger] = text.split("\n")
                entries += [LogEntry(text=_last_state(line), logger=logger) for line in lines]
                continue
            if piece.record is not self._record:
                self._record, self._record_text = piece.record, ""
            self._record_text += piece.text
            if self._record_text.count("\n") >= piece.record.lines:
                entries.append(_entry(piece.record, self._record_text))
                self._record = None
        return entries


def _last_state(line: str) -> str:
    """Return what a terminal would show of a line with carriage returns in it."""
    return line.rstrip("\r").rpartition("\r")[2] if "\r" in line else line


def _entry(head: RecordHead, text: str) -> LogEntry:
    return LogEntry(text=text[head.start :].rstrip("\n"), level=head.level, logger=head.logger)


def shown_text(data: bytes) -> str:
    """Return what a terminal shows of a log."""
    decoder = StreamDecoder()
    pieces = decoder.take(data) + decoder.end()
    return "".join(piece.text for piece in pieces if piece.where != "hidden")
