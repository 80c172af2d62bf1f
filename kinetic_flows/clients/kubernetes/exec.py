"""A command in a container of a pod, through the cluster's API server, as kubectl's exec has it.

It is a websocket each of whose messages begins with the number of its channel: what goes to the
command's standard input, what comes from its output and its errors, how it ended (a `Status`
object), and the size of its terminal. `v5.channel.k8s.io` has one channel more, 255: its message is
the number of a channel that has ended. Kubernetes before 1.30 speaks `v4.channel.k8s.io`, where no
input can end before its command.

https://github.com/kubernetes/kubernetes/blob/v1.31.0/staging/src/k8s.io/apimachinery/pkg/util/remotecommand/constants.go
https://github.com/kubernetes/kubernetes/blob/v1.31.0/staging/src/k8s.io/apiserver/pkg/util/proxy/websocket.go
https://github.com/kubernetes/kubernetes/blob/v1.31.0/staging/src/k8s.io/apiserver/pkg/util/proxy/streamtranslator.go
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from kinetic_flows.clients.kubernetes.client import (
    KubernetesClient,
    KubernetesRefused,
    KubernetesUnreachable,
    core_path,
)
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.lazy import LazyModule

if TYPE_CHECKING:
    import aiohttp
else:
    aiohttp = LazyModule("aiohttp")

CLOSING = "v5.channel.k8s.io"
PROTOCOLS = (CLOSING, "v4.channel.k8s.io")
INPUT, OUTPUT, ERRORS, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
CHUNK_BYTES = 32_768

QUIET_SECONDS = 45.0
"""How long a connection may say nothing until it is taken for broken; it is asked each time."""

EXIT_CODE_REASON, EXIT_CODE_CAUSE = "NonZeroExitCode", "ExitCode"

Take = Callable[[bytes], Awaitable[None]]
Size = tuple[int, int]
"""Columns and rows."""


@dataclass(frozen=True, kw_only=True)
class PodCommand:
    """A command that is to run in a pod.

    Attributes:
        namespace: The pod's namespace.
        pod: The pod.
        container: Which of its containers.
        command: The program and its arguments.
        has_input: Whether it reads anything.
        has_terminal: Whether it gets a terminal, to which its errors go, too.
    """

    namespace: str
    pod: str
    container: str
    command: tuple[str, ...]
    has_input: bool = False
    has_terminal: bool = False

    @property
    def path(self) -> str:
        """Where the API server starts it."""
        query = [
            *(("command", part) for part in self.command),
            ("container", self.container),
            ("stdin", _said(self.has_input)),
            ("stdout", "true"),
            # A terminal has one stream for both.
            ("stderr", _said(not self.has_terminal)),
            ("tty", _said(self.has_terminal)),
        ]
        pod = core_path(self.namespace, "pods", self.pod)
        return f"{pod}/exec?{urlencode(query, quote_via=quote)}"

    def __str__(self) -> str:
        return f"{self.command[0]} in pod {self.namespace}/{self.pod}"


@dataclass(frozen=True, kw_only=True)
class Streams:
    """Where a command's streams lead.

    Attributes:
        output: Takes what it writes to its output.
        errors: Takes what it writes to its errors.
        source: What it reads; None for nothing.
        sizes: The terminal's sizes, the first at once; None where it has no terminal.
    """

    output: Take
    errors: Take
    source: AsyncIterator[bytes] | None = None
    sizes: AsyncIterator[Size] | None = None


async def execute_within(client: KubernetesClient, command: PodCommand, streams: Streams) -> int:
    """Run a command to its end, for work that was spawned; return its exit code.

    When the work is cancelled, the connection ends; the command itself may go on.

    Args:
        client: The cluster.
        command: The command.
        streams: Where its streams lead.

    Raises:
        KubernetesRefused: The API server refuses: there is no such pod, or this user may not.
        KubernetesUnreachable: It does not answer, or the connection broke off.
        LaunchError: The pod's node cannot start it.
    """
    websocket = await client.open_websocket_within(
        command.path, protocols=PROTOCOLS, heartbeat_seconds=None
    )
    if websocket.protocol not in PROTOCOLS:
        await websocket.close()
        raise KubernetesRefused(501, f"it speaks none of {', '.join(PROTOCOLS)}", str(command))
    pulse = _Pulse(websocket)
    receiving = asyncio.ensure_future(_receive(websocket, command, streams, pulse))
    others = (
        _send(websocket, streams.source, pulse),
        _resize(websocket, streams.sizes),
        pulse.watch(command),
    )
    tasks: set[asyncio.Task[Any]] = {receiving, *(asyncio.ensure_future(each) for each in others)}
    try:
        return await _end_of(receiving, tasks)
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await websocket.close()


async def _end_of(receiving: asyncio.Task[int], tasks: set[asyncio.Task[Any]]) -> int:
    """Return what is received at the end, unless something fails that is to be sent."""
    pending = tasks
    while not receiving.done():
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for each in done - {receiving}:
            each.result()
    return receiving.result()


class _Pulse:
    """Finds out whether a connection is there that says nothing.

    What is asked is answered behind all that was sent before it. So it proves nothing that no
    answer comes while what comes is not taken, as a pager does it, or while a command does not read
    what it is sent.

    Args:
        websocket: The connection.
    """

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._is_heard = True
        self._is_held = False
        self._sent = self._read = 0

    def send(self, size_bytes: int) -> None:
        """Take note of input that is sent."""
        self._sent += size_bytes

    async def hear(self, message: aiohttp.WSMessage) -> None:
        """Take note of a message, and answer what is asked."""
        self._is_heard = True
        if message.type is aiohttp.WSMsgType.PING:
            with suppress(aiohttp.ClientError, OSError):
                await self._websocket.pong(message.data)
        elif message.type is aiohttp.WSMsgType.PONG:
            with suppress(ValueError):
                self._read = int(message.data)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Expect nothing while something waits to be taken."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held, self._is_heard = False, True

    async def watch(self, command: PodCommand) -> None:
        """Ask again and again whether it is there, until it is not.

        Raises:
            KubernetesUnreachable: It is not.
        """
        while self._is_heard or self._is_held or self._sent - self._read > CHUNK_BYTES:
            self._is_heard = False
            # That it is closed is found by who receives.
            with suppress(aiohttp.ClientError, OSError):
                await self._websocket.ping(str(self._sent).encode())
            await asyncio.sleep(QUIET_SECONDS)
        raise _broken(command, f"it has said nothing for {QUIET_SECONDS:g} seconds")


async def _receive(
    websocket: aiohttp.ClientWebSocketResponse,
    command: PodCommand,
    streams: Streams,
    pulse: _Pulse,
) -> int:
    """Pass on what comes until the command's end is told; return its exit code."""
    takes = {OUTPUT: streams.output, ERRORS: streams.errors}
    async for message in websocket:
        await pulse.hear(message)
        if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
            continue
        channel, content = message.data[0], message.data[1:]
        if channel == STATUS and content:
            return exit_code_of(_status(content), command)
        # The first message is empty: it says that the connection is there.
        if channel in takes and content:
            with pulse.held():
                await takes[channel](content)
    raise _broken(command, str(websocket.exception() or "before it had ended"))


async def _send(
    websocket: aiohttp.ClientWebSocketResponse,
    source: AsyncIterator[bytes] | None,
    pulse: _Pulse,
) -> None:
    """Send the command's input, and that it has ended."""
    if source is None:
        return
    async for chunk in source:
        pulse.send(len(chunk))
        await _put(websocket, bytes((INPUT,)) + chunk)
    if websocket.protocol == CLOSING:
        await _put(websocket, bytes((CLOSE, INPUT)))


async def _resize(
    websocket: aiohttp.ClientWebSocketResponse, sizes: AsyncIterator[Size] | None
) -> None:
    """Send the size of the terminal whenever it changes."""
    if sizes is None:
        return
    async for columns, rows in sizes:
        size = json.dumps({"Width": columns, "Height": rows}).encode()
        await _put(websocket, bytes((RESIZE,)) + size)


async def _put(websocket: aiohttp.ClientWebSocketResponse, content: bytes) -> None:
    """Send a message; that the connection is gone is found by who receives."""
    with suppress(aiohttp.ClientError, OSError):
        await websocket.send_bytes(content)


def exit_code_of(status: Mapping[str, Any], command: PodCommand) -> int:
    """Return the exit code that a command's `Status` tells.

    Args:
        status: What came on the channel for it.
        command: The command.

    Raises:
        LaunchError: It never ran.
    """
    if status.get("status") == "Success":
        return 0
    causes = (status.get("details") or {}).get("causes") or ()
    if status.get("reason") == EXIT_CODE_REASON:
        for cause in causes:
            if cause.get("reason") == EXIT_CODE_CAUSE:
                return int(cause["message"])
    said = str(status.get("message") or "its node does not say why").strip()
    raise LaunchError(f"{command} could not be run: {said}", value=command.pod)


def _status(content: bytes) -> Mapping[str, Any]:
    text = content.decode(errors="replace")
    try:
        found: Any = json.loads(text)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"message": text}


def _broken(command: PodCommand, why: str) -> KubernetesUnreachable:
    return KubernetesUnreachable(
        f"the connection to {command} broke off: {why}",
        value=command.pod,
        hint="has the pod ended? `kinetic runs ls` shows what became of the run; else try again",
    )


def _said(flag: bool) -> str:
    return str(flag).lower()
