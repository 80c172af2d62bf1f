"""What the function logs: shown as Python shows it, and kept with its level and its logger.

Nothing is configured for the function. Where it has configured `logging`, its handlers write what
they always do, and what they write to the streams is known to be a record. Where it has not, a
handler of last resort prints warnings as Python's own does, and keeps what is less than a warning
for the run's page alone. For that the root logger lets INFO pass, as long as nobody sets its level.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

from .marks import HIDDEN, Record
from .streams import RecordWriter

_SENT = "_kinetic_is_kept"
_NAMES = {1: "stdout", 2: "stderr"}


class _Unset(int):
    """The root logger's level, as long as the function has set none."""


UNSET = _Unset(logging.INFO)


def install_logging(writer: RecordWriter) -> None:
    """Have every record of this process kept."""
    handle = logging.Handler.handle

    def handle_and_keep(self: logging.Handler, record: logging.LogRecord) -> Any:
        if _would_python_drop(self, record):
            return _keep_hidden(writer, record)
        return _during(writer, record, lambda: handle(self, record))

    logging.Handler.handle = handle_and_keep  # type: ignore[method-assign]
    logging.lastResort = _LastResort(logging.NOTSET)
    if logging.root.level == logging.WARNING:
        logging.root.setLevel(UNSET)


class _LastResort(logging.StreamHandler):  # type: ignore[type-arg]
    """Shows records that nobody else shows, as Python's own handler of last resort does."""

    def __init__(self, level: int) -> None:
        logging.Handler.__init__(self, level)

    @property
    def stream(self) -> Any:
        """What standard error is at the moment."""
        return sys.stderr


def _would_python_drop(handler: logging.Handler, record: logging.LogRecord) -> bool:
    """Whether Python would not show a record: its root logger, or its handler, lets less pass."""
    if record.levelno >= logging.WARNING:
        return False
    if isinstance(handler, _LastResort):
        return True
    return logging.getLogger(record.name).getEffectiveLevel() is UNSET


def _keep_hidden(writer: RecordWriter, record: logging.LogRecord) -> None:
    if vars(record).get(_SENT):
        return
    vars(record)[_SENT] = True
    try:
        text = logging.Formatter().format(record)
    except Exception:  # noqa: BLE001 - arguments that do not fit, which Python would not have seen
        return
    writer.send(Record(HIDDEN, record.levelno, 0, record.name, text + "\n"))


def _during(writer: RecordWriter, record: logging.LogRecord, handle: Callable[[], Any]) -> Any:
    """Have a record handled; what is written meanwhile is its text."""
    collected = writer.collected
    before, collected.written = collected.written, []
    try:
        return handle()
    finally:
        written, collected.written = collected.written, before
        if written:
            _send(writer, record, written)


def _send(
    writer: RecordWriter, record: logging.LogRecord, written: list[tuple[int, bytes]]
) -> None:
    fd = written[0][0]
    data = b"".join(piece for _, piece in written)
    # A second handler shows the record again; it was logged once.
    is_first = not vars(record).get(_SENT)
    vars(record)[_SENT] = True
    if is_first and data.endswith(b"\n"):
        text = data.decode(errors="surrogateescape")
        start = _start_of_message(text, record)
        if writer.send(Record(_NAMES[fd], record.levelno, start, record.name, text)):
            return
    for piece_fd, piece in written:
        stream = sys.__stdout__ if piece_fd == 1 else sys.__stderr__
        if stream is not None:
            stream.buffer.write(piece)


def _start_of_message(text: str, record: logging.LogRecord) -> int:
    """Return where in what a handler wrote the message begins; 0 when more follows it."""
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - the handler has said that the arguments do not fit
        return 0
    start = text.find(message) if message else -1
    if start <= 0:
        return 0
    follows = text[start + len(message) :]
    return start if follows.startswith("\n") else 0
