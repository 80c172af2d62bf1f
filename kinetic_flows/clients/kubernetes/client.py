"""A Kubernetes cluster's API for code in threads: one event loop behind it for all of them.

Objects are plain mappings, as the API writes them. Nothing is imported before it is used.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from kinetic_flows.clients.kubernetes import internals
from kinetic_flows.clients.kubernetes.access import ClusterAccess, load_configuration
from kinetic_flows.clients.kubernetes.answer_warnings import warning_text
from kinetic_flows.clients.retry import Transient, insist_within_loop
from kinetic_flows.core.errors import LaunchError
from kinetic_flows.core.lazy import LazyModule
from kinetic_flows.core.waits import waiting_for

if TYPE_CHECKING:
    import aiohttp
    from kubernetes_asyncio.client import ApiClient
else:
    aiohttp = LazyModule("aiohttp")

T = TypeVar("T")
Query = Mapping[str, str | int]

RETRY_SECONDS = (0.2, 0.7, 2.0)
"""Pauses before each further try of a request that met a busy or unreachable API server."""


BUSY = frozenset({429, 500, 502, 503, 504})
CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 20.0
CLOSE_SECONDS = 5.0
HEARTBEAT_SECONDS = 60.0
"""Between questions whether a websocket's other end is there; half of it may pass to an answer."""


class KubernetesRefused(LaunchError):
    """The API server answered, and refused.

    Args:
        status: HTTP status.
        body: The answer: a `Status` object as JSON, or any text.
        request: The request's method and path.
    """

    def __init__(self, status: int, body: str, request: str) -> None:
        super().__init__(f"Kubernetes answered {status} to {request}: {body[:500]}", value=status)
        self.status = status
        self.body = body


class KubernetesUnreachable(LaunchError):
    """No answer came from the API server."""


class StreamBroken(Exception):
    """An answer that goes on broke off, or fell silent."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    """One request, which repeating never does twice."""

    method: str
    path: str
    query: Query
    body: Any = None
    media_type: str | None = None

    @property
    def content_type(self) -> str:
        if self.media_type:
            return self.media_type
        return "application/merge-patch+json" if self.method == "PATCH" else "application/json"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class KubernetesClient:
    """Talks to one cluster; every method may be called from any thread.

    Args:
        access: The cluster, and as whom.
    """

    def __init__(self, access: ClusterAccess) -> None:
        self.access = access
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guard = threading.Lock()
        self._opened: list[ApiClient] = []
        self._connecting: asyncio.Lock | None = None
        self._host = ""

    # For threads

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        media_type: str | None = None,
    ) -> dict[str, Any]:
        """Send a request and return the object it is answered with.

        Args:
            method: HTTP method.
            path: Path, such as `/api/v1/namespaces/default/pods`.
            query: Query parameters.
            body: Object to send.
            media_type: The body's; None for JSON, which with PATCH is a JSON merge patch.

        Raises:
            KubernetesRefused: The API server refuses.
            KubernetesUnreachable: It does not answer.
            ConfigurationError: The cluster's credentials cannot be read.
        """
        work = self.ask_within(method, path, query=query, body=body, media_type=media_type)
        return self.spawn(work).result()

    def host(self) -> str:
        """Return the API server's URL."""
        self.spawn(self._connected()).result()
        return self._host

    def spawn(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start work in the client's event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._running_loop())

    def close(self) -> None:
        """Stop everything that runs in the event loop, and close the connections."""
        with self._guard:
            loop, self._loop = self._loop, None
        if loop is not None:
            self._at_end.detach()
            _end_loop(loop, self._opened).result(CLOSE_SECONDS)
            self._connecting = None

    # For work within the event loop

    async def ask_within(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Any = None,
        media_type: str | None = None,
        on_warning: Callable[[str], object] | None = None,
    ) -> dict[str, Any]:
        """Do what `ask` does, for work that was spawned.

        Args:
            method: HTTP method.
            path: Path.
            query: Query parameters.
            body: Object to send.
            media_type: The body's; None as `ask` has it.
            on_warning: Called with each warning that comes with the answer, as `kubectl` shows
                them (https://kubernetes.io/blog/2020/09/03/warnings/).
        """
        request = _Request(
            method=method, path=path, query=query or {}, body=body, media_type=media_type
        )
        with waiting_for("the cluster's API server"):
            text, warnings = await self._insist(request)
        if on_warning is not None:
            for warning in warnings:
                on_warning(warning)
        found: dict[str, Any] = json.loads(text) if text else {}
        return found

    @asynccontextmanager
    async def open_stream(
        self, path: str, query: Query, *, silence_seconds: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open an answer that goes on, and yield its chunks as they come.

        Args:
            path: Path.
            query: Query parameters.
            silence_seconds: Ends the stream when nothing came for so long.

        Raises:
            KubernetesRefused: The API server refuses.
            KubernetesUnreachable: It does not answer.
            StreamBroken: The answer broke off, or fell silent.
        """
        timeout = aiohttp.ClientTimeout(
            connect=CONNECT_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds
        )
        try:
            answer = await self._send(_Request(method="GET", path=path, query=query), timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error
        async with answer:
            if answer.status >= 300:
                raise KubernetesRefused(answer.status, await answer.text(), f"GET {path}")
            yield _chunks(answer)

    async def open_websocket_within(
        self,
        path: str,
        *,
        protocols: tuple[str, ...],
        heartbeat_seconds: float | None = HEARTBEAT_SECONDS,
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a websocket, for work that was spawned.

        Args:
            path: Path with its query.
            protocols: The subprotocols that are spoken here, the best first.
            heartbeat_seconds: How long it may be silent until it is asked whether it is there;
                None where its reader asks, and answers.

        Raises:
            KubernetesRefused: The API server refuses.
            KubernetesUnreachable: It does not answer.
        """
        try:
            return await self._open_websocket(path, protocols, heartbeat_seconds)
        except KubernetesRefused as refusal:
            if refusal.status != HTTPStatus.UNAUTHORIZED:
                raise
        # As of requests: tokens expire.
        await self._disconnect()
        return await self._open_websocket(path, protocols, heartbeat_seconds)

    async def _open_websocket(
        self, path: str, protocols: tuple[str, ...], heartbeat_seconds: float | None
    ) -> aiohttp.ClientWebSocketResponse:
        api = await self._connected()
        url = re.sub("^http", "ws", self._host) + path
        try:
            return await internals.open_websocket(
                api, url, protocols=protocols, heartbeat_seconds=heartbeat_seconds
            )
        except aiohttp.WSServerHandshakeError as error:
            raise KubernetesRefused(error.status, error.message, f"GET {path}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    async def _insist(self, request: _Request) -> tuple[str, list[str]]:
        """Send a request until it is answered; repeating ours never does anything twice."""
        attempt = partial(self._attempt, request)
        try:
            return await insist_within_loop(attempt, RETRY_SECONDS)
        except KubernetesRefused as refusal:
            if refusal.status != HTTPStatus.UNAUTHORIZED:
                raise
        # Tokens of login plugins expire while their kubeconfig stays.
        await self._disconnect()
        return await insist_within_loop(attempt, RETRY_SECONDS)

    async def _attempt(self, request: _Request) -> tuple[str, list[str]]:
        """Send a request once; return the answer's text and warnings."""
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, connect=CONNECT_SECONDS)
        try:
            async with await self._send(request, timeout) as answer:
                status, text = answer.status, await answer.text()
                said = answer.headers.getall("Warning", [])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Transient(self._unreachable(error)) from error
        if status < 300:
            return text, [warning_text(each) for each in said]
        refusal = KubernetesRefused(status, text, str(request))
        raise Transient(refusal) if status in BUSY else refusal

    async def _send(
        self, request: _Request, timeout: aiohttp.ClientTimeout
    ) -> aiohttp.ClientResponse:
        api = await self._connected()
        headers = {"Accept": "application/json, */*", "Content-Type": request.content_type}
        parameters: list[tuple[str, Any]] = list(request.query.items())
        return await internals.send(
            api,
            request.method,
            self._host + request.path,
            headers=headers,
            parameters=parameters,
            body=request.body,
            timeout=timeout,
        )

    async def _connected(self) -> ApiClient:
        if self._connecting is None:
            self._connecting = asyncio.Lock()
        async with self._connecting:
            if not self._opened:
                from kubernetes_asyncio.client import ApiClient

                configuration = await load_configuration(self.access)
                # Each pod whose output is followed holds a connection.
                configuration.connection_pool_maxsize = 0
                self._opened.append(ApiClient(configuration=configuration))
                self._host = str(configuration.host).rstrip("/")
            return self._opened[0]

    async def _disconnect(self) -> None:
        await _close_all(self._opened)

    def _unreachable(self, error: Exception) -> KubernetesUnreachable:
        words = str(error) or type(error).__name__
        return KubernetesUnreachable(
            f"the cluster's API server {self._host} cannot be reached: {words}",
            value=self._host,
            hint="is this network among the cluster's authorised networks?",
        )

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=_run_loop, args=(self._loop,), name="kinetic-kubernetes", daemon=True
                ).start()
                # Also runs when the interpreter ends, while sockets can still be closed.
                self._at_end = weakref.finalize(
                    self, _close, weakref.ref(self), self._loop, self._opened
                )
            return self._loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _close(
    reference: weakref.ref[KubernetesClient],
    loop: asyncio.AbstractEventLoop,
    opened: list[ApiClient],
) -> None:
    client = reference()
    if client is not None:
        client.close()
    else:
        # Nobody has it any more. This thread may be the loop's own, and waits for nothing.
        _end_loop(loop, opened)


def _end_loop(loop: asyncio.AbstractEventLoop, opened: list[ApiClient]) -> Future[None]:
    ended = asyncio.run_coroutine_threadsafe(_shut(opened), loop)
    ended.add_done_callback(lambda _: loop.call_soon_threadsafe(loop.stop))
    return ended


async def _shut(opened: list[ApiClient]) -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await _close_all(opened)


async def _close_all(opened: list[ApiClient]) -> None:
    while opened:
        await opened.pop().close()


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield what comes until the answer ends."""
    try:
        async for chunk in answer.content.iter_any():
            yield chunk
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise StreamBroken(str(error) or type(error).__name__) from error


def core_path(namespace: str, plural: str, name: str = "") -> str:
    """Return the path of objects of the core API in a namespace."""
    return f"/api/v1/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def jobs_path(namespace: str, name: str = "") -> str:
    """Return the path of the Jobs of a namespace, or of one."""
    return f"/apis/batch/v1/namespaces/{namespace}/jobs" + (f"/{name}" if name else "")
