"""Ports of this machine at which something listens for this machine alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from kinetic_flows.core.errors import ConfigurationError

LOOPBACK = "127.0.0.1"


async def listen(
    accept: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    port: int,
    *,
    hint: str,
) -> tuple[asyncio.Server, int]:
    """Listen at a port; returns the server, and the port.

    Args:
        accept: What is done with a connection.
        port: The port; 0 for any that is free.
        hint: How another port is chosen where this one is taken.

    Raises:
        ConfigurationError: The port is taken.
    """
    try:
        server = await asyncio.start_server(accept, LOOPBACK, port)
    except OSError as error:
        raise ConfigurationError(
            f"port {port} of this machine cannot be used: {error.strerror or error}",
            value=port,
            hint=hint,
        ) from error
    return server, server.sockets[0].getsockname()[1]


async def leave(server: asyncio.Server | None, connections: Iterable[asyncio.Task[None]]) -> None:
    """Listen no more, and end the connections.

    Args:
        server: What listens; None where nothing does yet.
        connections: A task for each connection.
    """
    if server is not None:
        server.close()
    tasks = tuple(connections)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
