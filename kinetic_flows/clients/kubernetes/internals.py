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
