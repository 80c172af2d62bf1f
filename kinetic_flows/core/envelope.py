"""The result envelope: a header that is signed with the run's key, and the pickled value.

The runner (`runner_image/runner`) writes these with the standard library alone;
`tests/unit/test_contract.py` holds the two sides together.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from kinetic_flows.core.job import canonical_json

RESULT_MAGIC = b"kinetic-result-1"

OUT_OF_MEMORY = "the container ran out of memory"
"""What the message of a crash says whose process was killed for want of memory."""

RESULT_TOO_LARGE = "the result is too large"
"""What the message of a crash begins with whose result found no room where the run was."""

IDLE = "its chips did nothing"
"""What the message of a run says that timed out as `idle_timeout_seconds` wants it."""

COSTLY = "it has cost about"
"""What the message of a run begins with that timed out as `max_cost` wants it."""

_LINE_BYTES = 1 << 16

ResultStatus = Literal["returned", "raised", "unpicklable", "timed_out", "cancelled", "crashed"]


@dataclass(frozen=True, kw_only=True)
class ResultHeader:
    """The header of a result envelope, read before anything is unpickled.

    Attributes:
        run_id: The run the envelope belongs to.
        status: How the function ended. `unpicklable`: it returned a value that cannot be
            pickled. `crashed`: its process died, while the runner lived to say so.
        attempt: Which start of the run wrote it, from 0.
        type_name: Qualified type of the value or exception; empty when there is none.
        message: The exception's message, the value's short repr, or what happened.
        traceback: The formatted traceback; empty when there is none.
        log_tail: The last lines of output, for crashes.
        exit_code: Exit code of the function's process, negative for a signal; None otherwise.
        buffers: Where in the body is what is out of band of its pickle: positions and sizes.
    """

    run_id: str
    status: ResultStatus
    attempt: int = 0
    type_name: str = ""
    message: str = ""
    traceback: str = ""
    log_tail: tuple[str, ...] = ()
    exit_code: int | None = None
    buffers: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True)
class ResultEnvelope:
    """A result's header and its pickled value or exception (empty when there is none).

    Attributes:
        header: The header.
        body: The pickle.
        why: The likely cause of a crash or a time-out, as its reader has found out; empty where
            the header says as much, or where nobody has looked.
    """

    header: ResultHeader
    body: bytes | memoryview
    why: str = ""


class EnvelopeRefused(ValueError):
    """The bytes are not an envelope, or were not signed with this run's key."""


def seal_result(envelope: ResultEnvelope, run_key: str) -> bytes:
    """Frame an envelope: magic, HMAC-SHA-256 and header on a line each, then the body."""
    fields = asdict(envelope.header)
    if not fields["buffers"]:
        # So that earlier clients can read it.
        del fields["buffers"]
    signed = b"\n".join([canonical_json(fields), envelope.body])
    return b"\n".join([RESULT_MAGIC, _signature(signed, run_key), signed])


def open_result(data: bytes | memoryview, run_key: str, run_id: str) -> ResultEnvelope:
    """Check and split an envelope; nothing is unpickled, and nothing copied but its header.

    Args:
        data: The object as read from the store.
        run_key: The run's HMAC key, in hexadecimal.
        run_id: The run it must belong to.

    Raises:
        EnvelopeRefused: It is malformed, was signed with another key, or is another run's.
    """
    magic, rest = _line(memoryview(data))
    signature, signed = _line(rest)
    if magic != RESULT_MAGIC:
        raise EnvelopeRefused("not a result envelope")
    try:
        expected = _signature(signed, run_key)
    except ValueError as error:
        raise EnvelopeRefused("this run's key is damaged in Prefect") from error
    if not hmac.compare_digest(signature, expected):
        raise EnvelopeRefused("its signature does not fit this run's key")
    header_json, body = _line(signed)
    try:
        header = _header(json.loads(header_json))
    except (ValueError, KeyError, TypeError) as error:
        raise EnvelopeRefused("its header is another version's, or damaged") from error
    if header.run_id != run_id:
        raise EnvelopeRefused(f"it belongs to run {header.run_id}")
    return ResultEnvelope(header=header, body=body)


def _header(fields: dict[str, Any]) -> ResultHeader:
    buffers = tuple((position, size) for position, size in fields.get("buffers", ()))
    return ResultHeader(**{**fields, "log_tail": tuple(fields["log_tail"]), "buffers": buffers})


def _line(view: memoryview) -> tuple[bytes, memoryview]:
    """Return the first line, and what is behind it."""
    line = b""
    for start in range(0, view.nbytes, _LINE_BYTES):
        head, found, _ = bytes(view[start : start + _LINE_BYTES]).partition(b"\n")
        line += head
        if found:
            return line, view[len(line) + 1 :]
    return line, view[view.nbytes :]


def _signature(signed: bytes | memoryview, run_key: str) -> bytes:
    return hmac.new(bytes.fromhex(run_key), signed, hashlib.sha256).hexdigest().encode()
