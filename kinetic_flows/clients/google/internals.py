"""What is used of google-cloud-storage 3 without being promised by it; see docs/upstream.md."""

from __future__ import annotations

from google.cloud.storage import Client
from requests.adapters import HTTPAdapter


def allow_connections(client: Client, count: int) -> None:
    """Let a client keep so many connections open; its own session keeps ten."""
    adapter = HTTPAdapter(pool_maxsize=count)
    client._http.mount("https://", adapter)
    client._http.mount("http://", adapter)
