"""The result envelope: a header that is signed with the run's key, and the pickled value.

The runner (`runner_image/runner`) writes these with the standard library alone;
`tests/unit/test_contract.py` holds the two sides together.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import asdict, dataclass
from typing import Literal

from kinetic_flows.core.job import canonical_json

RESULT_MAGIC = b"kinetic-result-1"

OUT_OF_MEMORY = "the container ran out of memory"
"""What the message of a crash says whose process was killed for want of memory."""

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
    """

    run_id: str
    status: ResultStatus
    attempt: int = 0
    type_name: str = ""
    message: str = ""
    traceback: str = ""
    log_tail: tuple[str, ...] = ()
    exit_code: int | None = None


@dataclass(frozen=True, kw_only=True)
class ResultEnvelope:
    """A result's header and its pickled value or exception (empty when there is none)."""

    header: ResultHeader
    body: bytes


class EnvelopeRefused(ValueError):
    """The bytes are not an envelope, or were not signed with this run's key."""


def seal_result(envelope: ResultEnvelope, run_key: str) -> bytes:
    """Frame an envelope: magic, HMAC-SHA-256 and header on a line each, then the body."""
    header = canonical_json(asdict(envelope.header))
    signed = header + b"\n" + envelope.body
    return b"\n".join([RESULT_MAGIC, _signature(signed, run_key), signed])


def open_result(data: bytes, run_key: str, run_id: str) -> ResultEnvelope:
    """Check and split an envelope; nothing is unpickled.

    Args:
        data: The object as read from the store.
        run_key: The run's HMAC key, in hexadecimal.
        run_id: The run it must belong to.

    Raises:
        EnvelopeRefused: It is malformed, was signed with another key, or is another run's.
    """
    magic, _, rest = data.partition(b"\n")
    signature, _, signed = rest.partition(b"\n")
    if magic != RESULT_MAGIC:
        raise EnvelopeRefused("not a result envelope")
    try:
        expected = _signature(signed, run_key)
    except ValueError as error:
        raise EnvelopeRefused("this run's key is damaged in Prefect") from error
    if not hmac.compare_digest(signature, expected):
        raise EnvelopeRefused("its signature does not fit this run's key")
    header_json, _, body = signed.partition(b"\n")
    try:
        fields = json.loads(header_json)
        header = ResultHeader(**{**fields, "log_tail": tuple(fields["log_tail"])})
    except (ValueError, KeyError, TypeError) as error:
        raise EnvelopeRefused("its header is another version's, or damaged") from error
    if header.run_id != run_id:
        raise EnvelopeRefused(f"it belongs to run {header.run_id}")
    return ResultEnvelope(header=header, body=body)


def _signature(signed: bytes, run_key: str) -> bytes:
    return hmac.new(bytes.fromhex(run_key), signed, hashlib.sha256).hexdigest().encode()
