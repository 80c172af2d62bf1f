"""Credentials for gRPC in plain text, which gRPC itself sends over TLS only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from google.auth.transport.requests import Request

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


class TokenSender(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]  # grpc has no types
    """Sends an access token with every call; for servers on this machine only.

    Args:
        credentials: Whose token; it is refreshed when it is over.
    """

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], details: grpc.ClientCallDetails, request: Any
    ) -> Any:
        """Make a call with the token among its metadata."""
        headers: dict[str, str] = {}
        self._credentials.before_request(Request(), "POST", details.method, headers)
        sent = [(name.lower(), value) for name, value in headers.items()]
        metadata = [*(details.metadata or ()), *sent]
        changed = _Details(
            method=details.method,
            timeout=details.timeout,
            metadata=metadata,
            credentials=None,
            wait_for_ready=details.wait_for_ready,
            compression=details.compression,
        )
        return continuation(changed, request)


class _Details(NamedTuple):
    """What a call is made with, as `grpc.ClientCallDetails` has it."""

    method: str
    timeout: float | None
    metadata: list[tuple[str, str]]
    credentials: None
    wait_for_ready: bool | None
    compression: Any
