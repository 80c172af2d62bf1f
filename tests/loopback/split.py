"""gRPC and REST on one port, as Google's hosts have them: told apart by the first bytes."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

_HTTP2 = b"PRI"
"""How a connection of gRPC begins."""


def is_http2(connection: socket.socket) -> bool:
    """Whether a connection is gRPC's; nothing is read of it."""
    return connection.recv(len(_HTTP2), socket.MSG_PEEK) == _HTTP2


def pass_on(connection: socket.socket, port: int) -> None:
    """Have another port of this machine answer a connection, until one side ends it."""
    with socket.create_connection(("127.0.0.1", port)) as onward:
        back = threading.Thread(target=_copy, args=(onward, connection), daemon=True)
        back.start()
        _copy(connection, onward)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
