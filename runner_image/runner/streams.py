"""The function's two streams, in its own process: their order, and the way of what it logs.

Each stream is a pipe of its own, so that children and libraries in C are told apart too. What is
written to one is kept back until the other has been read, and so everything that Python writes
arrives in its order. (For what others write that is so unless it comes at the same moment.)

Records that were logged travel through a socket whose messages arrive whole, whatever thread or
child sends them.
"""

from __future__ import annotations

import fcntl
import io
import os
import sys
import termios
import threading
import time
from collections.abc import Callable
from typing import Any

from .marks import MAX_RECORD_BYTES, Record

PATIENCE_SECONDS = 0.1
TOGETHER_SECONDS = 0.0001
"""Within it, nobody else is expected to have printed between two writes to one stream."""

_YIELDS = 100
_SLEEP_SECONDS = 0.0001
_STDOUT, _STDERR = 1, 2


class Order:
    """Waits before a write until what was written elsewhere has been read.

    Args:
        records: The socket for records.

    Attributes:
        last: Where was written last.
        written: When.
    """

    def __init__(self, records: int) -> None:
        # The function may close or replace the streams.
        queues = {fd: (os.dup(fd), termios.FIONREAD) for fd in (_STDOUT, _STDERR)}
        queues[records] = (records, termios.TIOCOUTQ)
        self._others = {
            fd: [queue for other, queue in queues.items() if other != fd] for fd in queues
        }
        self.last, self.written = _STDOUT, 0.0

    def settle(self, fd: int) -> None:
        """Wait, for a moment at most, until nothing but one may hold something unread."""
        self.last = fd
        for queue, request in self._others[fd]:
            if _unread(queue, request):
                _wait_until_read(queue, request)


def _unread(queue: int, request: int) -> int:
    try:
        return int.from_bytes(fcntl.ioctl(queue, request, bytes(4)), sys.byteorder)
    except OSError:
        return 0


def _wait_until_read(queue: int, request: int) -> None:
    deadline, tries = time.monotonic() + PATIENCE_SECONDS, 0
    yield_processor = getattr(os, "sched_yield", None) or (lambda: time.sleep(0))
    while _unread(queue, request) and time.monotonic() < deadline:
        tries += 1
        # The reader needs some ten microseconds: less than the shortest sleep.
        if tries < _YIELDS:
            yield_processor()
        else:
            time.sleep(_SLEEP_SECONDS)


class _Collected(threading.local):
    """What a thread has written while it was at a record; None while it is at none."""

    written: list[tuple[int, bytes]] | None = None


class RecordWriter:
    """Sends records; what a handler writes while it is at one is a part of it.

    Args:
        socket: Its file descriptor.
        order: Keeps records in order with what is printed.

    Attributes:
        collected: What this thread has written of a record.
    """

    def __init__(self, socket: int, order: Order) -> None:
        self._socket = socket
        self._order = order
        self.collected = _Collected()

    def send(self, record: Record) -> bool:
        """Send a record; return whether that could be done."""
        data = record.encoded()
        if len(data) > MAX_RECORD_BYTES:
            return False
        try:
            if self._order.last != self._socket:
                self._order.settle(self._socket)
            os.write(self._socket, data)
        except OSError:
            return False
        return True


class OrderedFile(io.FileIO):
    """A stream's file: written to at once, and in order with the other one.

    Args:
        fd: Its file descriptor.
        order: Keeps it in order.
        records: Takes what is a record's.
    """

    def __init__(self, fd: int, order: Order, records: RecordWriter) -> None:
        super().__init__(fd, "w", closefd=False)
        # A closure, since `print` comes here several times for a line.
        vars(self)["write"] = _writer(fd, super().write, order, records.collected)


def _writer(
    fd: int, write: Callable[[Any], int | None], order: Order, collected: _Collected
) -> Callable[[Any], int]:
    """Return what writes all of some data to a file, or keeps it if its thread is at a record."""
    monotonic = time.monotonic

    def write_all(data: Any) -> int:
        if collected.written is not None:
            collected.written.append((fd, bytes(data)))
            return len(data)
        now = monotonic()
        if order.last != fd or now - order.written > TOGETHER_SECONDS:
            order.settle(fd)
        order.written = now
        size: int = len(data)
        done = write(data) or 0
        while done < size:
            done += write(memoryview(data)[done:]) or 0
        return size

    return write_all


def install_streams(socket: int) -> RecordWriter:
    """Make `sys.stdout` and `sys.stderr` ordered; return what sends records.

    Args:
        socket: File descriptor of the socket for records.
    """
    order = Order(socket)
    records = RecordWriter(socket, order)
    for fd, name in ((_STDOUT, "stdout"), (_STDERR, "stderr")):
        stream = getattr(sys, name)
        made: Any = io.TextIOWrapper(
            OrderedFile(fd, order, records),
            encoding=stream.encoding,
            errors=stream.errors,
            write_through=True,
        )
        made.mode = "w"
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)
    return records
