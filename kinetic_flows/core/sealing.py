"""Sealing values for one run: what lies in the store is read by nobody who lacks the run's key.

Encrypted, then authenticated, with the standard library alone, which is all that a run is sure to
have: HMAC-SHA256 in counter mode gives the key stream, a second HMAC-SHA256 over everything the
signature (https://doi.org/10.6028/NIST.SP.800-108r1-upd1 is such a use of it). Two keys are
derived from one, which is made anew for each sealing, as the nonce is. `runner/sealing.py` opens.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Mapping

SEAL_MAGIC = b"kinetic-sealed-1\n"
SEAL_KEY_BYTES = 32
NONCE_BYTES = 16
PADDED_TO_BYTES = 1024
"""Sizes are rounded up to it, so that they tell little about how long a value is."""

ENCRYPTION = b"kinetic sealed 1: encryption"
AUTHENTICATION = b"kinetic sealed 1: authentication"
IDENTITY = b"kinetic identity of secret values 1"


def new_seal_key() -> str:
    """Return a key, in hexadecimal, that nothing was sealed with."""
    return secrets.token_hex(SEAL_KEY_BYTES)


def seal_values(values: Mapping[str, str], key: str) -> bytes:
    """Return variables and their values as nobody reads them without the key.

    Args:
        values: What is sealed.
        key: From `new_seal_key`, for this sealing alone.
    """
    plain = json.dumps(dict(values), sort_keys=True).encode()
    # JSON may end in white space.
    plain += b" " * (-len(plain) % PADDED_TO_BYTES)
    nonce = secrets.token_bytes(NONCE_BYTES)
    hidden = SEAL_MAGIC + nonce + _mixed(plain, nonce, _derived(key, ENCRYPTION))
    return hidden + hmac.digest(_derived(key, AUTHENTICATION), hidden, "sha256")


def identity_of(values: Mapping[str, str], key: bytes) -> str:
    """Return what tells values from others, and nothing about them to those without the key."""
    return hmac.digest(
        key, IDENTITY + json.dumps(dict(values), sort_keys=True).encode(), "sha256"
    ).hex()


def _derived(key: str, purpose: bytes) -> bytes:
    return hmac.digest(bytes.fromhex(key), purpose, "sha256")


def _mixed(data: bytes, nonce: bytes, key: bytes) -> bytes:
    """Add the key stream to some bytes; a second time takes it away."""
    blocks = -(-len(data) // 32)
    stream = b"".join(
        hmac.digest(key, nonce + number.to_bytes(8, "big"), "sha256") for number in range(blocks)
    )
    mixed = int.from_bytes(data, "big") ^ int.from_bytes(stream[: len(data)], "big")
    return mixed.to_bytes(len(data), "big")
