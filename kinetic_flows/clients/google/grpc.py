"""Opening Google's gRPC clients, at Google's endpoint or at another one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kinetic_flows.clients.google.sessions import may_have_credentials

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

C = TypeVar("C")


class Connection(Generic[C]):
    """A client that is opened when it is first used; safe under threads.

    Args:
        open_client: Makes the client.
    """

    def __init__(self, open_client: Callable[[], C]) -> None:
        self._open_client = open_client
        self._client: C | None = None
        self._lock = threading.Lock()

    def client(self) -> C:
        """Return the client, opening it if need be."""
        with self._lock:
            if self._client is None:
                self._client = self._open_client()
            return self._client

    def close(self) -> None:
        """Close the client; the next use opens a new one."""
        with self._lock:
            client: Any = self._client
            self._client = None
        if client is not None:
            (client if hasattr(client, "close") else client.transport).close()


def open_client(
    client: Any, transport: Any, *, endpoint: str | None, credentials: Credentials | None
) -> Any:
    """Return a client.

    Args:
        client: Class of the client.
        transport: Class of its gRPC transport.
        endpoint: `host:port` of another endpoint; with `http://` in front it is asked in plain
            text, and without credentials unless it is on this machine; None for Google's.
        credentials: Google credentials; None for Application Default Credentials.
    """
    if endpoint is None or not endpoint.startswith("http://"):
        options = {"api_endpoint": endpoint.removeprefix("https://")} if endpoint else None
        return client(credentials=credentials, client_options=options)
    import grpc

    address = endpoint.removeprefix("http://").rstrip("/")
    channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
    if credentials is not None and may_have_credentials(endpoint):
        from kinetic_flows.clients.google.plain_text import TokenSender

        channel = grpc.intercept_channel(channel, TokenSender(credentials))
    return client(transport=transport(channel=channel))
