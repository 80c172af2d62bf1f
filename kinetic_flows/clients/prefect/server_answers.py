"""Loopback ports: who listens at one, and a socket that listens at a free one."""

from __future__ import annotations

import hmac
import json
import secrets
import socket
from contextlib import suppress
from http.client import HTTPConnection, HTTPException

from kinetic_flows.clients.prefect.server_access import PROOF_PATH, proof


def is_healthy(port: int, patience_seconds: float) -> bool:
    """Whether a Prefect server answers, whoever's it is."""
    return _ask(port, "/api/health", patience_seconds) is not None


def proves_itself(port: int, auth_string: str, patience_seconds: float) -> bool:
    """Whether what listens knows the server's password; it learns none by being asked."""
    nonce = secrets.token_hex(16)
    answer = _ask(port, f"{PROOF_PATH}?nonce={nonce}", patience_seconds)
    with suppress(ValueError, TypeError, KeyError):
        given = str(json.loads(answer or b"")["proof"])
        return bool(auth_string) and hmac.compare_digest(
            given.encode(), proof(auth_string, port, nonce).encode()
        )
    return False


def _ask(port: int, path: str, patience_seconds: float) -> bytes | None:
    """Return what a server on this machine answers; None when it is no good answer."""
    connection = HTTPConnection("127.0.0.1", port, timeout=patience_seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def taken_port(preferred: int) -> socket.socket:
    """Return a socket that listens on a loopback port which is nobody else's now.

    Args:
        preferred: The port to take if it is free; else it is any that is.
    """
    try:
        return _listening(preferred)
    except OSError:
        return _listening(0)


def _listening(port: int) -> socket.socket:
    listener = socket.socket()
    # A server that has just stopped leaves connections behind, which must not keep its port.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        # With that option Linux lets several sockets be bound to a port until one listens.
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
