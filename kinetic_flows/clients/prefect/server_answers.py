"""What listens at a loopback port, and whether it is this home's Prefect server."""

from __future__ import annotations

import hmac
import json
import secrets
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
