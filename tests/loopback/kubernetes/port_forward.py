"""Ports of pods, forwarded over websockets as API servers and kubelets do.

https://github.com/kubernetes/kubernetes/blob/v1.31.0/staging/src/k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from contextlib import suppress

from aiohttp import WSMsgType, web

from loopback.kubernetes.errors import ApiError
from loopback.kubernetes.store import Object

PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
CHUNK_BYTES = 32_768


def check_pod(request: web.Request, pod: Object) -> int:
    """Return the port that is asked for, or refuse.

    Raises:
        ApiError: It cannot be forwarded.
    """
    name = pod["metadata"]["name"]
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise ApiError(400, "Upgrade request required")
    if not pod["spec"].get("nodeName"):
        raise ApiError(400, f"pod {name} does not have a host assigned")
    ports = request.query.getall("ports", [])
    if len(ports) != 1 or not ports[0].isdigit():
        raise ApiError(400, f"query parameter {'ports'!r} is one port here, not {ports}")
    return int(ports[0])


async def forward(
    request: web.Request, pod: Object, port: int, places: Mapping[int, int]
) -> web.WebSocketResponse:
    """Forward one connection until either side ends it.

    Args:
        request: The request, which is to be a websocket.
        pod: The pod.
        port: The pod's port.
        places: Where ports of pods are on this machine, by port; the others are where they say.
    """
    websocket = web.WebSocketResponse(protocols=(PROTOCOL,))
    await websocket.prepare(request)
    for channel in (DATA, ERROR):
        await websocket.send_bytes(bytes((channel,)) + struct.pack("<H", port))
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", places.get(port, port))
    except OSError:
        words = (
            f"error forwarding port {port} to pod {pod['metadata']['uid']}, uid : failed to "
            f"connect to localhost:{port} inside namespace: connection refused"
        )
        await websocket.send_bytes(bytes((ERROR,)) + words.encode())
        await websocket.close()
        return websocket
    back = asyncio.ensure_future(_send(reader, websocket))
    try:
        async for message in websocket:
            if message.type is WSMsgType.BINARY and message.data[:1] == bytes((DATA,)):
                writer.write(message.data[1:])
                await writer.drain()
    except OSError:
        pass
    finally:
        back.cancel()
        writer.close()
    return websocket


async def _send(reader: asyncio.StreamReader, websocket: web.WebSocketResponse) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            await websocket.send_bytes(bytes((DATA,)) + chunk)
    await websocket.close()
