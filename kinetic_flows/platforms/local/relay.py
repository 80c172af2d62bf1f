"""A port of this machine that leads to another of its ports."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from kinetic_flows.core.listening import LOOPBACK, leave, listen

CHUNK_BYTES = 65_536


@contextmanager
def relayed(port: int, local_port: int, tell: Callable[[str], None]) -> Iterator[int]:
    """Relay connections for as long as the block lasts; its value is the port that listens.

    Args:
        port: Where they lead.
        local_port: The port to listen at; 0 for any that is free.
        tell: Told when nothing listens where they lead, and when something does again.

    Raises:
        ConfigurationError: The port is taken.
    """
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="kinetic-relay", daemon=True)
    thread.start()
    relay = _Relay(port, tell)
    try:
        yield asyncio.run_coroutine_threadsafe(relay.open(local_port), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(relay.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Relay:
    def __init__(self, port: int, tell: Callable[[str], None]) -> None:
        self._port = port
        self._tell = tell
        self._is_well = True
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self, port: int) -> int:
        self._server, found = await listen(self._accept, port, hint="choose another one")
        return found

    async def close(self) -> None:
        await leave(self._server, self._connections)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            there_reader, there_writer = await asyncio.open_connection(LOOPBACK, self._port)
        except OSError as error:
            self._note(error.strerror or str(error))
        else:
            self._note("")
            ways = ((reader, there_writer), (there_reader, writer))
            await asyncio.gather(*(_pass(*way) for way in ways), return_exceptions=True)
        finally:
            self._connections.discard(task)
            writer.close()

    def _note(self, problem: str) -> None:
        if problem and self._is_well:
            self._tell(f"port {self._port} cannot be reached: {problem}")
        elif not problem and not self._is_well:
            self._tell(f"port {self._port} is reached again")
        self._is_well = not problem


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes until it ends, and say that it has."""
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()
