"""Commands in containers, over websockets as API servers and kubelets have it.

https://github.com/kubernetes/kubernetes/blob/v1.31.0/staging/src/k8s.io/apiserver/pkg/util/proxy/websocket.go
https://github.com/kubernetes/kubernetes/blob/v1.31.0/staging/src/k8s.io/apiserver/pkg/util/proxy/streamtranslator.go
https://github.com/kubernetes/kubernetes/blob/v1.31.0/staging/src/k8s.io/kubelet/pkg/cri/streaming/remotecommand/exec.go
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import struct
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType, web

from loopback.kubernetes.errors import ApiError
from loopback.kubernetes.runtime import Container, Inside
from loopback.kubernetes.store import Object

PROTOCOLS = ("v5.channel.k8s.io",)
"""What API servers speak since Kubernetes 1.30; before, they hand on to `v4` of their nodes."""

INPUT, OUTPUT, ERRORS, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
CHUNK_BYTES = 32_768

_IN_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a request asks for."""

    command: tuple[str, ...]
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def check_command(request: web.Request, pod: Object) -> Asked:
    """Return what is asked for, or refuse.

    Raises:
        ApiError: It cannot be run.
    """
    name, query = pod["metadata"]["name"], request.query
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise ApiError(400, "Upgrade request required")
    containers = [each["name"] for each in pod["spec"]["containers"]]
    container = query.get("container") or containers[0]
    if container not in containers:
        raise ApiError(400, f"container {container} is not valid for pod {name}")
    if not pod["spec"].get("nodeName"):
        raise ApiError(400, f"pod {name} does not have a host assigned")
    asked = Asked(
        command=tuple(query.getall("command", [])),
        **{each: query.get(each) == "true" for each in ("stdin", "stdout", "stderr", "tty")},
    )
    if not asked.command:
        raise ApiError(400, "you must specify at least 1 command for the container")
    if not (asked.stdin or asked.stdout or asked.stderr):
        raise ApiError(400, "you must specify at least one of stdin, stdout, stderr")
    return asked


async def execute(
    request: web.Request, asked: Asked, container: Container | None, protocols: Sequence[str]
) -> web.WebSocketResponse:
    """Run a command to its end, and tell how it ended.

    Args:
        request: The request, which is to be a websocket.
        asked: What it asks for.
        container: The pod's container; None where none runs.
        protocols: Which subprotocols are spoken here.
    """
    websocket = web.WebSocketResponse(protocols=tuple(protocols))
    await websocket.prepare(request)
    await websocket.send_bytes(bytes((OUTPUT,)))
    status = await _run(websocket, asked, container)
    with suppress(ConnectionError):
        await websocket.send_bytes(bytes((STATUS,)) + json.dumps(status).encode())
        await websocket.close()
    return websocket


async def _run(
    websocket: web.WebSocketResponse, asked: Asked, container: Container | None
) -> dict[str, Any]:
    if container is None:
        return _failure('unable to upgrade connection: container not found ("prefect-job")')
    inside = container.inside(asked.command, has_terminal=asked.tty)
    try:
        process = await (_Terminal if asked.tty else _Pipes).start(inside, asked)
    except OSError as error:
        return _failure(
            "error executing command in container: OCI runtime exec failed: exec failed: unable "
            f'to start container process: exec: "{asked.command[0]}": {error.strerror}'
        )
    listening = asyncio.ensure_future(_listen(websocket, process))
    try:
        await process.pump(websocket)
        code = await process.process.wait()
    except ConnectionError:
        # Nobody listens any more; what was started goes on without.
        return _failure("the client is gone")
    finally:
        process.close_input()
        listening.cancel()
    return _ended(code if code >= 0 else 128 - code)


async def _listen(websocket: web.WebSocketResponse, process: _Process) -> None:
    """Take what the client sends until it leaves."""
    async for message in websocket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, content = message.data[0], message.data[1:]
        if channel == INPUT:
            await process.write(content)
        elif channel == RESIZE:
            size = json.loads(content)
            process.resize(size["Width"], size["Height"])
        elif channel == CLOSE and websocket.ws_protocol == PROTOCOLS[0]:
            process.close_input()
    process.close_input()


class _Process:
    """A command that runs."""

    process: asyncio.subprocess.Process

    async def pump(self, websocket: web.WebSocketResponse) -> None:
        """Send what it writes until that ends."""
        raise NotImplementedError

    async def write(self, content: bytes) -> None:
        """Have it read something."""
        raise NotImplementedError

    def close_input(self) -> None:
        """Have it read no more."""

    def resize(self, columns: int, rows: int) -> None:
        """Give its terminal another size."""


class _Pipes(_Process):
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, inside: Inside, asked: Asked) -> _Pipes:
        nothing, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *inside.command,
            stdin=pipe if asked.stdin else nothing,
            stdout=pipe if asked.stdout else nothing,
            stderr=pipe if asked.stderr else nothing,
            env=inside.environment,
            cwd=inside.directory,
            start_new_session=True,
        )
        return cls(process)

    async def pump(self, websocket: web.WebSocketResponse) -> None:
        process = self.process
        ways = ((OUTPUT, process.stdout), (ERRORS, process.stderr))
        await asyncio.gather(*(_send(websocket, *way) for way in ways))

    async def write(self, content: bytes) -> None:
        if self.process.stdin is not None:
            with suppress(OSError):
                self.process.stdin.write(content)
                await self.process.stdin.drain()

    def close_input(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()


class _Terminal(_Process):
    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.process = process
        self._master = master
        self._is_open = True

    @classmethod
    async def start(cls, inside: Inside, _asked: Asked) -> _Terminal:
        master, slave = os.openpty()
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", _IN_TERMINAL, *inside.command),
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env={"TERM": "xterm", **inside.environment},
                cwd=inside.directory,
                start_new_session=True,
            )
        finally:
            os.close(slave)
        return cls(process, master)

    async def pump(self, websocket: web.WebSocketResponse) -> None:
        # A terminal whose other side is closed is an error to read from.
        with suppress(OSError):
            while chunk := await asyncio.to_thread(os.read, self._master, CHUNK_BYTES):
                await websocket.send_bytes(bytes((OUTPUT,)) + chunk)

    async def write(self, content: bytes) -> None:
        if self._is_open:
            await asyncio.to_thread(os.write, self._master, content)

    def close_input(self) -> None:
        if self._is_open:
            self._is_open = False
            os.close(self._master)

    def resize(self, columns: int, rows: int) -> None:
        if self._is_open:
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


async def _send(
    websocket: web.WebSocketResponse, channel: int, source: asyncio.StreamReader | None
) -> None:
    while source is not None and (chunk := await source.read(CHUNK_BYTES)):
        await websocket.send_bytes(bytes((channel,)) + chunk)


def _ended(code: int) -> dict[str, Any]:
    if not code:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: command terminated with exit "
        f"code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _failure(message: str) -> dict[str, Any]:
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }
