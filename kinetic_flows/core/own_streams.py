"""This process's own standard streams, handed to a command that runs elsewhere.

A terminal is made raw meanwhile: keys go to the command as they are, Ctrl-C among them, and it is
told of the terminal's size whenever that changes.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from kinetic_flows.core.signals import heeded_signals

CHUNK_BYTES = 32_768
QUEUED_CHUNKS = 4

STDIN, STDOUT, STDERR = 0, 1, 2


class OwnStreams:
    """The standard streams of this process, for work in an event loop of another thread.

    Args:
        terminal: Whether keys are passed as they are, and sizes told.
    """

    def __init__(self, *, terminal: bool) -> None:
        self._is_terminal = terminal
        self._end, self._ending = os.pipe()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resized: asyncio.Event | None = None

    @contextmanager
    def opened(self) -> Iterator[OwnStreams]:
        """Take the terminal, and give it back as it was, whatever ends the block."""
        try:
            with heeded_signals(), _raw(self._is_terminal), self._told_of_sizes():
                yield self
        finally:
            os.write(self._ending, b"\0")

    async def output(self, content: bytes) -> None:
        """Write to standard output."""
        await asyncio.to_thread(_write, STDOUT, content)

    async def errors(self, content: bytes) -> None:
        """Write to standard error."""
        await asyncio.to_thread(_write, STDERR, content)

    def source(self, *, reads: bool = True) -> AsyncIterator[bytes]:
        """Return what comes from standard input until it ends, or the block does.

        Args:
            reads: Whether it is read; else nothing comes.
        """
        return chunks_of(self._read if reads else self._await_end)

    async def sizes(self) -> AsyncIterator[tuple[int, int]]:
        """Yield the terminal's columns and rows, now and whenever they change."""
        self._resized, self._loop = asyncio.Event(), asyncio.get_running_loop()
        while True:
            size = terminal_size()
            yield size.columns, size.lines
            await self._resized.wait()
            self._resized.clear()

    def _read(self, size: int) -> bytes:
        try:
            ready, _, _ = select.select([STDIN, self._end], [], [])
            return b"" if self._end in ready else os.read(STDIN, size)
        except OSError:
            # It was closed, or its terminal is gone: nothing comes any more.
            return b""

    def _await_end(self, _size: int) -> bytes:
        select.select([self._end], [], [])
        return b""

    @contextmanager
    def _told_of_sizes(self) -> Iterator[None]:
        is_main = threading.current_thread() is threading.main_thread()
        if not self._is_terminal or not is_main:
            yield
            return
        before = signal.signal(signal.SIGWINCH, self._on_resize)
        try:
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)

    def _on_resize(self, _number: int, _frame: FrameType | None) -> None:
        if self._loop is not None and self._resized is not None:
            # A loop that is being closed has no use for it.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._resized.set)


def terminal_size() -> os.terminal_size:
    """Return the size of the terminal that this process's output goes to."""
    for descriptor in (STDOUT, STDIN):
        with suppress(OSError):
            return os.get_terminal_size(descriptor)
    return os.terminal_size((80, 24))


async def chunks_of(read: Callable[[int], bytes]) -> AsyncIterator[bytes]:
    """Yield what a read that blocks returns, until that is nothing; it has a thread of its own.

    Args:
        read: Called with the number of bytes that it may return.

    Raises:
        OSError: It has.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | OSError] = asyncio.Queue(QUEUED_CHUNKS)
    is_over = threading.Event()

    def put(item: bytes | OSError) -> None:
        # The loop may have been closed: then nobody waits for it.
        with suppress(RuntimeError):
            asyncio.run_coroutine_threadsafe(queue.put(item), loop).result()

    def pump() -> None:
        chunk: bytes | OSError = b"\0"
        while chunk and not isinstance(chunk, OSError) and not is_over.is_set():
            try:
                chunk = read(CHUNK_BYTES)
            except OSError as error:
                chunk = error
            put(chunk)

    threading.Thread(target=pump, name="kinetic-input", daemon=True).start()
    try:
        while item := await queue.get():
            if isinstance(item, OSError):
                raise item
            yield item
    finally:
        is_over.set()
        while not queue.empty():
            queue.get_nowait()


def _write(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:
            # Another program that has the same terminal, or pipe, may have said not to wait.
            select.select([], [descriptor], [])


@contextmanager
def _raw(is_terminal: bool) -> Iterator[None]:
    if not is_terminal or not os.isatty(STDIN):
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(STDIN)
    try:
        tty.setraw(STDIN)
        yield
    finally:
        termios.tcsetattr(STDIN, termios.TCSADRAIN, before)
