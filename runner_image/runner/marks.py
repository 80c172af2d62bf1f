r"""How one log tells apart what a function printed to its two streams, and what it logged.

A pod has one log, and so has a process here: both streams in one keep their order. What is not
standard output is preceded by a control sequence that terminals leave out:

- `ESC [ 1002 m`: until the line ends, this was printed to standard error;
- `ESC [ 1001 m`: the line goes on with standard output;
- `ESC ] 1003 ; where ; level ; start ; lines ; name BEL`: the next so many lines are one record
  that was logged. `where` is the stream that shows it, `hidden` where Python would show nothing.
  Its message begins after `start` characters; before them is what a formatter has added.

Every line of standard error has its mark, so that a log that is read from somewhere in its middle
is understood from the next line on. The client's side is `kinetic_flows/core/streams.py`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

STDOUT_MARK = b"\x1b[1001m"
STDERR_MARK = b"\x1b[1002m"

STDOUT_LOGGER = "kinetic"
STDERR_LOGGER = "kinetic.stderr"
RUNNER_LOGGER = "kinetic.runner"
TRACEBACK_LOGGER = "kinetic.traceback"
STACKS_LOGGER = "kinetic.stacks"
"""Of what a run's threads do, where that stands in its log."""
RESULT_LOGGER = "kinetic.result"
"""Of the line that says in a run's log what it returned; no output of the function."""

MAX_RECORD_BYTES = 100_000
"""A record travels as one message of a socket; longer ones are printed as plain text."""

HIDDEN = "hidden"
NAME_CHARACTERS = 200
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f;]")


class Record(NamedTuple):
    """A record that was logged.

    Attributes:
        where: The stream that shows it, or `hidden`.
        level: Its level, as `logging` has it.
        start: How many characters of the text precede its message.
        name: Its logger's name.
        text: What its handler wrote: whole lines.
    """

    where: str
    level: int
    start: int
    name: str
    text: str

    @property
    def parts(self) -> tuple[str, str]:
        """What its formatter has put before the message, and the rest."""
        return self.text[: self.start], self.text[self.start :]

    @property
    def message(self) -> str:
        """What was logged, without what the formatter has put before it."""
        return self.text[self.start :].rstrip("\n")

    def encoded(self) -> bytes:
        """Return the record as its process sends it."""
        name = _UNFIT.sub("_", self.name)[:NAME_CHARACTERS]
        head = f"{self.where};{self.level};{self.start};{name}\n"
        return bytes_of(head + self.text)


def decoded_record(data: bytes) -> Record:
    """Return the record that its process has sent."""
    head, _, text = data.decode(errors="surrogateescape").partition("\n")
    where, level, start, name = head.split(";", 3)
    return Record(where, int(level), int(start), name, text)


def bytes_of(text: str) -> bytes:
    """Return a text's bytes, also of one that no bytes can be: half a surrogate pair, say."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="backslashreplace")


class Marker:
    """Marks what goes into a log; a piece may be of any size and end anywhere."""

    def __init__(self) -> None:
        self._is_in_stderr = False

    def stdout(self, data: bytes) -> bytes:
        """Return standard output as it goes into the log."""
        if not self._is_in_stderr or not data:
            return data
        self._is_in_stderr = False
        return STDOUT_MARK + data

    def stderr(self, data: bytes) -> bytes:
        """Return standard error as it goes into the log."""
        if not data:
            return data
        begin = b"" if self._is_in_stderr else STDERR_MARK
        self._is_in_stderr = not data.endswith(b"\n")
        end = len(data) if self._is_in_stderr else len(data) - 1
        return begin + data[:end].replace(b"\n", b"\n" + STDERR_MARK) + data[end:]

    def record(self, record: Record) -> bytes:
        """Return a record as it goes into the log."""
        self._is_in_stderr = False
        lines = record.text.count("\n")
        head = f"{record.where};{record.level};{record.start};{lines};{record.name}"
        return f"\x1b]1003;{head}\x07{record.text}".encode(errors="surrogateescape")
