"""What is used of kubernetes-asyncio without being promised by it; see docs/upstream.md.

Its generated methods read a whole answer into objects of classes; the paths, patches and streams
that are needed here come as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp
    from kubernetes_asyncio.client import ApiClient


async def send(
    api: ApiClient,
    method: str,
    url: str,
    *,
    headers: dict[str, str],
    parameters: list[tuple[str, Any]],
    body: Any,
    timeout: aiohttp.ClientTimeout,
) -> aiohttp.ClientResponse:
    """Send one request as the client's user, and return the answer unread."""
    await api.update_params_for_auth(headers, parameters, ["BearerToken"])
    answer: aiohttp.ClientResponse = await api.rest_client.request(
        method,
        url,
        query_params=dict(parameters),
        headers=headers,
        body=body,
        _preload_content=False,
        _request_timeout=timeout,
    )
    return answer


async def open_websocket(
    api: ApiClient, url: str, *, protocols: tuple[str, ...], heartbeat_seconds: float | None
) -> aiohttp.ClientWebSocketResponse:
    """Open a websocket as the client's user; without a heartbeat, pings are its reader's."""
    headers: dict[str, str] = {}
    await api.update_params_for_auth(headers, [], ["BearerToken"])
    rest = api.rest_client
    further: dict[str, Any] = {}
    if rest.proxy:
        further = {"proxy": rest.proxy, "proxy_headers": rest.proxy_headers}
    opened: aiohttp.ClientWebSocketResponse = await rest.pool_manager.ws_connect(
        url,
        protocols=protocols,
        headers=headers,
        heartbeat=heartbeat_seconds,
        autoping=heartbeat_seconds is not None,
        max_msg_size=0,
        **further,
    )
    return opened
