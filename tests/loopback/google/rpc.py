"""The gRPC side of the loopback Google."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc

from loopback.google.answers import GoogleRefusal, invalid
from loopback.google.calls import Calls, refuse_unknown
from loopback.google.state import Caller
from loopback.grpc_services import protobuf

WhoCalls = Callable[[Callable[[str], "str | None"]], Caller]
"""Returns who calls, by the headers of a call."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """A service of an API.

    Attributes:
        api: First word of the API's host.
        name: Its full name.
        methods: Its methods: request type, and what answers a request and its caller.
    """

    api: str
    name: str
    methods: Mapping[str, tuple[Any, Callable[[Any, Caller], Any]]]


class GrpcServices:
    """Serves services on a port of its own.

    Args:
        calls: Every call goes through it.
        services: What is served.
        who: Who calls.
    """

    def __init__(self, calls: Calls, services: Sequence[Service], who: WhoCalls) -> None:
        self._calls = calls
        self._who = who
        self._pool = ThreadPoolExecutor(32)
        self._server = grpc.server(self._pool)
        for service in services:
            handlers = {
                name: self._handler(service, name, request_type, answer)
                for name, (request_type, answer) in service.methods.items()
            }
            generic = grpc.method_handlers_generic_handler(service.name, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()
        self._pool.shutdown(wait=False)

    def _handler(
        self, service: Service, name: str, request_type: Any, answer: Callable[[Any, Caller], Any]
    ) -> Any:
        method = f"{service.name.rpartition('.')[2]}.{name}"

        def respond(data: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                caller = self._who(_headers(context))
                request = _parsed(request_type, data)
                answered = self._calls.answer(
                    service.api,
                    method,
                    caller,
                    lambda: protobuf(answer(request, caller)).SerializeToString(),
                )
            except GoogleRefusal as refusal:
                context.abort_with_status(_status(refusal))
            return bytes(answered)

        return grpc.unary_unary_rpc_method_handler(respond)


def _parsed(request_type: Any, data: bytes) -> Any:
    """Return a request as the client library's own type; one with unknown fields is refused."""
    is_plus = hasattr(request_type, "deserialize")
    request = request_type.deserialize(data) if is_plus else request_type.FromString(data)
    refuse_unknown(protobuf(request))
    message = protobuf(request)
    for name in ("name", "parent", "resource"):
        field = message.DESCRIPTOR.fields_by_name.get(name)
        if field is not None and not getattr(message, name):
            raise invalid(f"{message.DESCRIPTOR.full_name}.{name} is required.")
    return request


def _headers(context: grpc.ServicerContext) -> Callable[[str], str | None]:
    sent = dict(context.invocation_metadata())
    return lambda name: sent.get(name)


@dataclass(frozen=True, kw_only=True)
class _Status(grpc.Status):  # type: ignore[misc]  # grpc has no types
    """A refusal as gRPC sends it."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, bytes], ...]


def _status(refusal: GoogleRefusal) -> _Status:
    """Return a refusal with its details: https://grpc.io/docs/guides/error/#richer-error-model."""
    details = ("grpc-status-details-bin", refusal.status().SerializeToString())
    return _Status(code=refusal.code, details=str(refusal), trailing_metadata=(details,))
