"""A port of this machine that leads to a port of a pod, through the cluster's API server.

It is what kubectl's port-forward does, over a websocket for each connection. The protocol is the
API server's `v4.channel.k8s.io`: each message begins with the number of its channel, 0 for data and
1 for errors, and the first two bytes of each channel are the port.
https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    core_path,
)
from kinetic_flows.core.errors import KineticError, LaunchError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.listening import leave, listen

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = LazyModule("aiohttp")

PROTOCOL = "v4.channel.k8s.io"
CHUNK_BYTES = 65_536
PORT_BYTES = 2
DATA, ERROR = 0, 1

UNUSED_PORT = 1
"""Of the pod, where nothing listens: by it is found out whether there is a way to the target, which
is not connected to. A debugger that is, and is left at once, may answer nobody afterwards."""

AGAIN_SECONDS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses before a connection that could not be made is tried again; who waits at the port meets a
pod that is being replaced as one that is slow."""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class PodPort:
    """A port of a pod.

    Attributes:
        namespace: The pod's namespace.
        pod: The pod.
        port: The port.
    """

    namespace: str
    pod: str
    port: int

    @property
    def path(self) -> str:
        """Where the API server forwards it."""
        pod = core_path(self.namespace, "pods", self.pod)
        return f"{pod}/portforward?ports={self.port}"

    def __str__(self) -> str:
        return f"port {self.port} of pod {self.namespace}/{self.pod}"


class _Broken(Exception):
    """The pod, or the way to it, refused a connection that was made; says why."""


class PortForward:
    """Forwards connections for as long as it is open; one that breaks is made anew by who asks.

    Args:
        client: The cluster.
        target: Where they lead, or what says where each of them does: pods are replaced by others.
        tell: Told when connections cannot be made, and when they can again; called in another
            thread.
    """

    def __init__(
        self,
        client: KubernetesClient,
        target: PodPort | Callable[[], PodPort],
        tell: Tell = lambda _: None,
    ) -> None:
        self._client = client
        self._find = (lambda: target) if isinstance(target, PodPort) else target
        self._target: PodPort | None = None
        self._tell = tell
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._is_well = True

    def open(self, port: int = 0) -> int:
        """Begin to listen on this machine, for itself alone, and return the port.

        Args:
            port: The port to listen at; 0 for any that is free.

        Raises:
            KubernetesRefused: The API server does not forward it: there is no such pod, or this
                user may not.
            KubernetesUnreachable: It does not answer.
            ConfigurationError: The port of this machine is taken.
        """
        return self._client.spawn(self._open(port)).result()

    def close(self) -> None:
        """Stop listening, and end the connections."""
        self._client.spawn(self._close()).result()

    async def _open(self, port: int) -> int:
        await (await self._connect(UNUSED_PORT)).close()
        self._server, found = await listen(self._accept, port, hint="choose another with --port")
        return found

    async def _close(self) -> None:
        await leave(self._server, self._connections)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._forward(reader, writer)
        except (KineticError, _Broken) as error:
            self._note(str(error.message if isinstance(error, KineticError) else error))
        except (aiohttp.ClientError, OSError):
            # One side is gone; whoever was there asks again.
            pass
        except asyncio.CancelledError:
            # By `_close` alone; up to Python 3.12 streams log it as an error of theirs.
            pass
        finally:
            self._connections.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        websocket = await self._insist()
        there = asyncio.ensure_future(_send(reader, websocket))
        back = asyncio.ensure_future(_receive(websocket, writer))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (there, back):
                task.cancel()
            results = await asyncio.gather(there, back, return_exceptions=True)
            await websocket.close()
        for each in results:
            if isinstance(each, Exception):
                raise each

    async def _insist(self) -> aiohttp.ClientWebSocketResponse:
        """Connect, again and again for a while."""
        for seconds in AGAIN_SECONDS:
            try:
                return await self._connect()
            except LaunchError as error:
                self._note(error.message)
                await asyncio.sleep(seconds)
        return await self._connect()

    async def _connect(self, port: int = 0) -> aiohttp.ClientWebSocketResponse:
        """Connect to the target, or to another port of its pod."""
        target = self._target = await asyncio.to_thread(self._find)
        target = replace(target, port=port) if port else target
        websocket = await self._client.open_websocket_within(target.path, protocols=(PROTOCOL,))
        if websocket.protocol != PROTOCOL:
            await websocket.close()
            raise KubernetesRefused(501, f"it does not speak {PROTOCOL}", f"GET {target.path}")
        self._note("")
        return websocket

    def _note(self, problem: str) -> None:
        """Tell what is wrong, and that it is over; each once."""
        if problem and self._is_well:
            self._tell(f"{self._target} cannot be reached: {problem}")
        elif not problem and not self._is_well:
            self._tell(f"{self._target} is reached again")
        self._is_well = not problem


async def _send(reader: asyncio.StreamReader, websocket: aiohttp.ClientWebSocketResponse) -> None:
    """Send what comes from this machine until it ends."""
    while chunk := await reader.read(CHUNK_BYTES):
        await websocket.send_bytes(bytes((DATA,)) + chunk)


async def _receive(
    websocket: aiohttp.ClientWebSocketResponse, writer: asyncio.StreamWriter
) -> None:
    """Pass on what comes from the pod until it ends."""
    unread = {DATA: PORT_BYTES, ERROR: PORT_BYTES}
    async for message in websocket:
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, content = message.data[0], message.data[1:]
        skipped = min(unread.get(channel, 0), len(content))
        unread[channel] = unread.get(channel, 0) - skipped
        content = content[skipped:]
        if not content:
            continue
        if channel == ERROR:
            raise _Broken(_said(content))
        writer.write(content)
        await writer.drain()


def _said(content: bytes) -> str:
    """Return the words of an error, which may be a `Status` object."""
    text = content.decode(errors="replace").strip()
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text
