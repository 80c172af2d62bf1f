"""A small HTTP server whose answers can be made to fail on the wire.

The servers of the loopback cloud are functions from a request to a response; this module
carries them over real sockets, and spoils what a test asks it to spoil: statuses, resets,
truncated and dripping bodies.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from loopback.split import is_http2, pass_on

Kind = Literal["status", "reset", "truncate", "drip", "stall", "alter", "cut"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it came over the wire."""

    method: str
    path: str
    target: str
    query: Mapping[str, str]
    headers: Message
    body: bytes

    @property
    def segments(self) -> list[str]:
        """The path's segments, unquoted one by one."""
        return [unquote(segment) for segment in self.path.strip("/").split("/")]


@dataclass(frozen=True, kw_only=True)
class Response:
    """An answer; its body is sent with a Content-Length, whole unless a fault spoils it."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: Iterable[bytes] | None = None
    length: int | None = None


Handler = Callable[[Request], Response]


@dataclass(kw_only=True)
class Fault:
    """Something to go wrong with the next matching requests.

    Attributes:
        kind: `status`: answer with it instead of handling the request. `reset`: close the
            connection with a TCP reset after handling it, before answering. `truncate`: send
            half of the body and close. `drip`: send the body a byte at a time. `stall`: handle
            it, send nothing, hold the connection. `alter`: send one other byte in the body. `cut`:
            handle the first half of what is sent, and close with a TCP reset before the rest.
        times: How many requests to spoil; each uses one up.
        method: Only requests of this method; empty for any.
        path: Only requests whose path holds this text; empty for any.
        status: The status of a `status` fault.
        headers: The headers of a `status` fault.
        body: The body of a `status` fault.
        pause_seconds: Between the bytes of a `drip`, or the length of a `stall`.
    """

    kind: Kind
    times: int = 1
    method: str = ""
    path: str = ""
    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    pause_seconds: float = 0.05

    def fits(self, request: Request) -> bool:
        return (
            self.times > 0 and self.method in ("", request.method) and self.path in request.target
        )


class WireServer:
    """Serves a handler on a free port of the loopback interface.

    Args:
        handler: Answers requests, in one thread per connection.
        grpc_port: Who answers connections of gRPC; None for nobody.
    """

    def __init__(self, handler: Handler, grpc_port: int | None = None) -> None:
        self.handler = handler
        self.requests: list[tuple[str, str]] = []
        self.clock_offset_seconds = 0.0
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _connection_class(self))
        self._server.grpc_port = grpc_port
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def start(self) -> WireServer:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @contextmanager
    def fault(self, fault: Fault) -> Iterator[Fault]:
        """Spoil requests as long as the block runs."""
        with self._lock:
            self._faults.append(fault)
        try:
            yield fault
        finally:
            with self._lock:
                self._faults.remove(fault)

    def fault_at_head(self, request: Request) -> Fault | None:
        """Note a request, and take the fault that is meant for what is still to be read of it."""
        with self._lock:
            self.requests.append((request.method, request.target))
        return self._take(request, lambda fault: fault.kind == "cut")

    def fault_for(self, request: Request) -> Fault | None:
        """Take the fault that is meant for a request, which has been read."""
        return self._take(request, lambda fault: fault.kind != "cut")

    def _take(self, request: Request, may: Callable[[Fault], bool]) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if may(fault) and fault.fits(request):
                    fault.times -= 1
                    return fault
        return None

    def wait(self, seconds: float) -> None:
        """Wait, but not longer than the server lives."""
        self._stopping.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    grpc_port: int | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self.grpc_port is not None and is_http2(request):
            pass_on(request, self.grpc_port)
        else:
            super().finish_request(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    owner: WireServer

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # inherited name
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        """Return what the server's clock shows, which may be wrong."""
        now = time.time() if timestamp is None else timestamp
        return super().date_time_string(now + self.owner.clock_offset_seconds)

    def do_GET(self) -> None:
        request = self._read_head()
        if self.owner.fault_at_head(request):
            half = int(self.headers.get("Content-Length") or 0) // 2
            self.owner.handler(replace(request, body=self.rfile.read(half)))
            self._reset()
            return
        request = replace(request, body=self._read_body())
        fault = self.owner.fault_for(request)
        if fault and fault.kind == "status":
            answer = Response(status=fault.status, headers=fault.headers, body=fault.body)
            self._send(request, answer)
            return
        response = self.owner.handler(request)
        if fault is None:
            self._send(request, response)
        elif fault.kind == "reset":
            self._reset()
        elif fault.kind == "stall":
            self.owner.wait(fault.pause_seconds)
            self.close_connection = True
        else:
            self._send(request, response, fault)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _read_head(self) -> Request:
        parts = urlsplit(self.path)
        return Request(
            method=self.command,
            path=parts.path,
            target=self.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers=self.headers,
            body=b"",
        )

    def _read_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(body)

    def _send(self, request: Request, response: Response, fault: Fault | None = None) -> None:
        self.send_response(response.status)
        for name, value in response.headers.items():
            self.send_header(name, value)
        length = len(response.body) if response.length is None else response.length
        if response.status not in (204, 304):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if request.method != "HEAD" and response.status not in (204, 304):
            self._send_body(response, fault)
        self.wfile.flush()

    def _send_body(self, response: Response, fault: Fault | None) -> None:
        if response.stream is not None:
            for chunk in response.stream:
                self.wfile.write(chunk)
        elif fault is None:
            self.wfile.write(response.body)
        elif fault.kind == "truncate":
            self.wfile.write(response.body[: len(response.body) // 2])
            self.close_connection = True
        elif fault.kind == "alter":
            self.wfile.write(bytes([response.body[0] ^ 1]) + response.body[1:])
        else:
            for position in range(len(response.body)):
                self.wfile.write(response.body[position : position + 1])
                self.wfile.flush()
                self.owner.wait(fault.pause_seconds)

    def _reset(self) -> None:
        """Close with RST instead of FIN: the client sees "connection reset by peer"."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        os.close(self.connection.detach())

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ValueError, OSError):
            self.close_connection = True

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            return


def _connection_class(owner: WireServer) -> type[_Connection]:
    return type("Connection", (_Connection,), {"owner": owner})


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for something that another process does, looking at it every few milliseconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.01)
