"""Google's gRPC services on loopback, from plain objects with one method per call."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc


class Refusal(Exception):
    """A call that is answered with an error."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(kw_only=True)
class CallFault:
    """Something to go wrong with the next calls of a method.

    Attributes:
        method: Name of the method.
        code: What the call is answered with; None to answer it properly, if late.
        message: The error's words.
        times: How many calls to spoil.
        handled: Whether the call takes effect, and only its answer is lost.
        stall_seconds: How long the answer is held back.
    """

    method: str
    code: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE
    message: str = "injected"
    times: int = 1
    handled: bool = False
    stall_seconds: float = 0.0


class GrpcServer:
    """Serves methods on a free port of the loopback interface.

    Args:
        services: Per service its methods: request type and handler.
    """

    def __init__(self, services: Mapping[str, Mapping[str, tuple[Any, Any]]]) -> None:
        self.calls: list[str] = []
        self._faults: list[CallFault] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(32)
        self._server = grpc.server(self._pool)
        for service, methods in services.items():
            handlers = {
                name: self._handler(name, request, call)
                for name, (request, call) in methods.items()
            }
            generic = grpc.method_handlers_generic_handler(service, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.endpoint = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop(0).wait()
        self._pool.shutdown(wait=False)

    @contextmanager
    def fault(self, fault: CallFault) -> Any:
        """Spoil calls as long as the block runs."""
        with self._lock:
            self._faults.append(fault)
        try:
            yield fault
        finally:
            with self._lock:
                self._faults.remove(fault)

    def _fault_for(self, method: str) -> CallFault | None:
        with self._lock:
            self.calls.append(method)
            for fault in self._faults:
                if fault.method == method and fault.times > 0:
                    fault.times -= 1
                    return fault
        return None

    def _handler(self, name: str, request_type: Any, call: Any) -> Any:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            fault = self._fault_for(name)
            if fault:
                time.sleep(fault.stall_seconds)
            if fault and fault.code and not fault.handled:
                context.abort(fault.code, fault.message)
            try:
                response = call(request)
            except Refusal as refusal:
                context.abort(refusal.code, str(refusal))
            if fault and fault.code:
                context.abort(fault.code, fault.message)
            return protobuf(response)

        deserialize = getattr(request_type, "deserialize", None) or request_type.FromString
        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=deserialize,
            response_serializer=lambda message: message.SerializeToString(),
        )


def protobuf(message: Any) -> Any:
    """Return the protobuf message inside a proto-plus one."""
    return type(message).pb(message) if hasattr(type(message), "pb") else message
