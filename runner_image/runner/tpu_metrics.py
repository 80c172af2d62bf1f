"""What libtpu says of how busy TPU chips are: the metrics server of the process that has them.

libtpu serves gRPC at port 8431, or at those that `TPU_RUNTIME_METRICS_PORTS` names, for as long as
a process has the chips; GKE's own device plugin and `tpu-info` read it. There is no gRPC in a
runner, so that one call is spoken here: HTTP/2 with a request of one message.

https://github.com/AI-Hypercomputer/cloud-accelerator-diagnostics/blob/main/tpu_info/tpu_info/proto/tpu_metric_service.proto
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
https://www.rfc-editor.org/rfc/rfc9113 and, for headers, https://www.rfc-editor.org/rfc/rfc7541
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

PORTS_VARIABLE = "TPU_RUNTIME_METRICS_PORTS"
DEFAULT_PORTS = "8431"
ANSWER_SECONDS = 5.0

_NOBODY = (errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""What connecting says last: without IPv6, one of localhost's addresses is not there to refuse."""

_PATH = "/tpu.monitoring.runtime.RuntimeMetricService/GetRuntimeMetric"
_DUTY_CYCLE = b"tpu.runtime.tensorcore.dutycycle.percent"
_MEMORY = b"tpu.runtime.hbm.memory.usage.bytes"
_MEMORY_TOTAL = b"tpu.runtime.hbm.memory.total.bytes"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _AWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACKNOWLEDGED, _END_HEADERS, _PADDED = 1, 1, 4, 8
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5

Value = int | bytes


class NoServer(Exception):
    """Nothing listens at a port: no process has chips, or libtpu serves no metrics."""


class TpuChips(NamedTuple):
    """What a process's chips do, in their order.

    Attributes:
        duty_cycles: For how many per cent of the last moments each chip was busy; none before its
            first program.
        memory_bytes: How much HBM of each device is taken; a chip is one device or two.
        memory_total_bytes: How much each has.
    """

    duty_cycles: list[float]
    memory_bytes: list[int]
    memory_total_bytes: list[int]


def metric_ports(environ: Mapping[str, str]) -> list[int]:
    """Return the ports of the metrics servers of processes with these variables."""
    named = environ.get(PORTS_VARIABLE) or DEFAULT_PORTS
    return [int(port) for port in named.split(",") if port.strip().isdigit()]


def read_chips(port: int) -> TpuChips:
    """Return what the chips of the process do that serves metrics at a port.

    Args:
        port: Where a metrics server listens on this host.

    Raises:
        NoServer: None does.
        ValueError: What answers is none, or does not know of duty cycles.
        OSError: It does not answer.
    """
    cycles = _metric(port, _DUTY_CYCLE)
    try:
        memory, total = _metric(port, _MEMORY), _metric(port, _MEMORY_TOTAL)
    except (NoServer, OSError, ValueError):
        # What they are busy with matters more.
        memory, total = [], []
    return TpuChips(cycles, [int(each) for each in memory], [int(each) for each in total])


def _metric(port: int, name: bytes) -> list[float]:
    try:
        connection = socket.create_connection(("localhost", port), ANSWER_SECONDS)
    except OSError as error:
        if error.errno not in _NOBODY:
            raise
        raise NoServer(f"nothing listens at port {port}") from error
    with connection:
        request = bytes([0x0A, len(name)]) + name
        connection.sendall(_request(port, request))
        message = _answer(connection)
    try:
        return [value for _, value in sorted(_gauges(message), key=lambda each: each[0])]
    except (IndexError, struct.error, TypeError) as error:
        raise ValueError(f"the answer is no metric: {message[:40]!r}") from error


# HTTP/2


def _request(port: int, message: bytes) -> bytes:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": _PATH,
        ":authority": f"localhost:{port}",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    fields = b"".join(b"\x00" + _string(name) + _string(value) for name, value in headers.items())
    framed = b"\x00" + len(message).to_bytes(4, "big") + message
    return b"".join(
        (
            _PREFACE,
            _frame(_SETTINGS, 0, 0, b""),
            _frame(_HEADERS, _END_HEADERS, 1, fields),
            _frame(_DATA, _END_STREAM, 1, framed),
        )
    )


def _string(text: str) -> bytes:
    """Return a header's name or value as it is: shorter than 127 bytes."""
    return bytes([len(text)]) + text.encode()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return (
        len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
    )


def _answer(connection: socket.socket) -> bytes:
    """Return the message that is answered with."""
    body = b""
    while True:
        head = _received(connection, 9)
        kind, flags = head[3], head[4]
        payload = _received(connection, int.from_bytes(head[:3], "big"))
        if kind in (_SETTINGS, _PING) and not flags & _ACKNOWLEDGED:
            echo = payload if kind == _PING else b""
            connection.sendall(_frame(kind, _ACKNOWLEDGED, 0, echo))
        elif kind in (_RESET, _AWAY):
            raise ValueError("the server refuses the call")
        elif kind == _DATA:
            body += payload[1 : len(payload) - payload[0]] if flags & _PADDED else payload
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            break
    if len(body) < 5 or body[0]:
        raise ValueError("the server does not know the metric")
    return body[5 : 5 + int.from_bytes(body[1:5], "big")]


def _received(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise ValueError("the server hung up")
        data += piece
    return data


# Protocol Buffers: https://protobuf.dev/programming-guides/encoding/


def _gauges(response: bytes) -> Iterator[tuple[int, float]]:
    """Yield the numbers of a `MetricResponse` with the devices that they are of.

    They are metric.metrics.gauge, of doubles or integers, beside metric.metrics.attribute, whose
    value is the device's number.
    """
    for metric in _inside(response, 1):
        for one in _inside(metric, 3):
            device = _device(one)
            for gauge in _inside(one, 3):
                for number in _numbers(gauge):
                    yield device, number


def _device(metric: bytes) -> int:
    for attribute in _inside(metric, 1):
        for value in _inside(attribute, 2):
            for _, number in _fields(value):
                if isinstance(number, int):
                    return number
    return 0


def _numbers(gauge: bytes) -> Iterator[float]:
    for number, value in _fields(gauge):
        if number == 1 and isinstance(value, bytes):
            yield float(struct.unpack("<d", value)[0])
        elif number == 2 and isinstance(value, int):
            yield float(value)


def _inside(message: bytes, wanted: int) -> Iterator[bytes]:
    for number, value in _fields(message):
        if number == wanted and isinstance(value, bytes):
            yield value


def _fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Yield the fields of a message: integers as such, everything else as its bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(message, place)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, place = _varint(message, place)
        elif kind in (_DOUBLE, _FLOAT):
            size = 8 if kind == _DOUBLE else 4
        else:
            raise ValueError(f"the answer has a field of unknown kind {kind}")
        yield key >> 3, message[place : place + size]
        place += size


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
