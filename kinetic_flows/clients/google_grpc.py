"""Opening Google's gRPC clients, at Google's endpoint or at another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.auth.credentials import Credentials


def open_client(
    client: Any, transport: Any, *, endpoint: str | None, credentials: Credentials | None
) -> Any:
    """Return a client.

    Args:
        client: Class of the client.
        transport: Class of its gRPC transport.
        endpoint: `host:port` of another endpoint; with `http://` in front it is asked in plain
            text and without credentials; None for Google's.
        credentials: Who asks; None for Application Default Credentials.
    """
    if endpoint is None or not endpoint.startswith("http://"):
        options = {"api_endpoint": endpoint.removeprefix("https://")} if endpoint else None
        return client(credentials=credentials, client_options=options)
    import grpc  # type: ignore[import-untyped]

    address = endpoint.removeprefix("http://").rstrip("/")
    channel = grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
    return client(transport=transport(channel=channel))
