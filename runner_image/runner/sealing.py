"""Opening what the client has sealed for this run; `kinetic_flows/core/sealing.py` seals."""

from __future__ import annotations

import hmac
import json
from typing import Any

SEAL_MAGIC = b"kinetic-sealed-1\n"
NONCE_BYTES = 16
MAC_BYTES = 32

ENCRYPTION = b"kinetic sealed 1: encryption"
AUTHENTICATION = b"kinetic sealed 1: authentication"


class SealBroken(Exception):
    """What was sealed is not what was sealed with this key."""


def open_sealed(data: bytes, key: str) -> dict[str, str]:
    """Return variables and their values.

    Args:
        data: What was sealed.
        key: What it was sealed with, in hexadecimal.

    Raises:
        SealBroken: It was sealed with another key, or changed.
    """
    hidden, signature = data[:-MAC_BYTES], data[-MAC_BYTES:]
    expected = hmac.digest(_derived(key, AUTHENTICATION), hidden, "sha256")
    if not hmac.compare_digest(signature, expected) or not hidden.startswith(SEAL_MAGIC):
        raise SealBroken
    rest = hidden[len(SEAL_MAGIC) :]
    nonce, mixed = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
    values: dict[str, Any] = json.loads(_mixed(mixed, nonce, _derived(key, ENCRYPTION)))
    return values


def _derived(key: str, purpose: bytes) -> bytes:
    return hmac.digest(bytes.fromhex(key), purpose, "sha256")


def _mixed(data: bytes, nonce: bytes, key: bytes) -> bytes:
    """Take the key stream away that was added."""
    stream = b"".join(
        hmac.digest(key, nonce + number.to_bytes(8, "big"), "sha256")
        for number in range(-(-len(data) // 32))
    )
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(stream[: len(data)], "big")
    return mixed.to_bytes(len(data), "big")
